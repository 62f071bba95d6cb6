"""Sees to it that no report is missed: compares what Avara has signed with what came here, and fetches what no webhook
brought (docs/contract.md).

It goes through Avara's list of studies page by page, and where it has come is in the journal: a restart goes on there.
It never stops early: how the list is sorted is not said, and an old study can have a new addendum.
What was signed before this gateway took its first report, or was started first, is not its own: the hospital had it by
another way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.alerts import raise_alert
from gateway.avara import ApiError, ApiRefused, AvaraApi, Report, Studies, Study
from gateway.dicom import is_usable
from gateway.journal import (
    Job,
    JobState,
    Journal,
    StudyReport,
    Transaction,
    UnreadablePayload,
    jobs,
    marks,
    study_reports,
)
from gateway.outbox import StoreObject
from gateway.reports import alerts
from gateway.reports import jobs as names
from gateway.reports.report import worded
from gateway.runtime import Clock, progress

log = logging.getLogger(__name__)

EVERY = 15 * 60.0
"""Seconds between two rounds."""

LOOK_BACK = 7 * 86400.0
"""Seconds: of studies that changed within them."""

GRACE = 10 * 60.0
"""Seconds that a webhook has to come by itself once a report is signed."""

MAX_PAGES = 200
"""Pages of a round; the next one goes on behind them."""

TOLD_EVERY = 86400.0
"""Seconds between two lines in the log."""

CURSOR, SINCE, TOLD = "reports.cursor", "reports.since", "reports.told"


@dataclass(frozen=True, slots=True)
class Completeness:
    """Of the reports that Avara has signed lately, how many came to where they belong."""

    signed: int
    in_pacs: int
    in_ris: int


class MissedReports:
    """Looks for reports that no webhook brought."""

    def __init__(
        self,
        api: AvaraApi,
        *,
        journal: Journal,
        channels: Collection[str],
        added: Callable[[], None],
        clock: Clock,
    ) -> None:
        """*channels* are the names of what alerts are sent by; *added* is called when a job was added."""
        self._api = api
        self._journal = journal
        self._channels = channels
        self._added = added
        self._clock = clock
        self._signed: set[str] = set()
        self._whole = False
        """Whether the present pass began at the first page, since this process started."""
        self.last: Completeness | None = None
        """After the last whole pass."""

    async def watch(self) -> None:
        """Looks for ever. Raises JournalError."""
        while True:
            progress()
            try:
                await self.look()
            except ApiError as e:
                log.warning("whether a report was missed cannot be asked: %s", e)
            await self._clock.sleep(EVERY)

    async def look(self) -> int:
        """One round: how many reports were missed, and are fetched now. Raises ApiError, JournalError."""
        missed = 0
        since = await self._journal.run(self._since)
        for _ in range(MAX_PAGES):
            progress()
            cursor = await self._journal.run(lambda c: marks.get(c, CURSOR))
            if cursor is None:
                self._signed, self._whole = set(), True
            page = await self._page(cursor)
            for study in page.studies:
                if study.updated_at is None or study.updated_at.timestamp() >= since:
                    missed += await self._compare(study, since)
            following = None if page.following == cursor else page.following
            await self._journal.run(lambda c, following=following: marks.put(c, CURSOR, following))  # type: ignore[misc]
            if following is None:
                await self._passed()
                break
        return missed

    async def _page(self, cursor: str | None) -> Studies:
        try:
            return await self._api.studies(cursor)
        except ApiRefused:
            if cursor is not None:  # it may have grown too old: the next round begins anew
                await self._journal.run(lambda c: marks.put(c, CURSOR, None))
            raise

    def _since(self, c: Transaction) -> float:
        """The moment from which on reports are this gateway's."""
        first = marks.get(c, SINCE)
        if first is None:
            first = str(study_reports.first_received(c) or c.now)
            marks.put(c, SINCE, first)
        return max(float(first), c.now - LOOK_BACK)

    async def _compare(self, study: Study, since: float) -> int:
        """Lets the reports of *study* be fetched that are not known; how many."""
        signed = [r.report_id for r in study.report_ids if r.status == "completed"]
        self._signed.update(signed)
        unknown = await self._journal.run(lambda c: [r for r in signed if study_reports.get(c, r) is None])
        if not unknown:
            return 0
        answer = await self._api.reports(study.study_id)
        lately = self._clock.now() - GRACE
        missed = [
            r for r in answer.reports
            if r.report_id in unknown and r.signed_at is not None and since <= r.signed_at.timestamp() <= lately
        ]  # fmt: skip
        uid = answer.study_instance_uid if is_usable(answer.study_instance_uid) else None
        for report in missed:
            await self._journal.run(lambda c, report=report: self._fetch(c, report, uid))  # type: ignore[misc]
            log.warning("report %s was signed, and no webhook has brought it: it is fetched", report.report_id)
        if missed:
            self._added()
        return len(missed)

    def _fetch(self, c: Transaction, report: Report, study_instance_uid: str | None) -> None:
        assert report.signed_at is not None
        signed_at = report.signed_at.timestamp()
        study_reports.know(c, StudyReport(report.report_id, report.study_id, study_instance_uid, signed_at))
        payload = names.FetchReport(
            report.report_id, report.study_id, study_instance_uid, bool(report.is_critical), c.now,
            text=worded(report.report_plain_text),
        )  # fmt: skip
        subject = names.subject(report.report_id, "missed")
        _, new = jobs.add(c, names.FETCH, subject, payload, text="signed in Avara, and no webhook has brought it")
        if new and report.is_critical:
            raise_alert(c, self._channels, alerts.critical(payload))

    async def _passed(self) -> None:
        """A pass is over: tells how things stand, in the log once a day."""
        if not self._whole:
            return
        signed = frozenset(self._signed)

        def count(c: Transaction) -> tuple[Completeness, bool]:
            since = c.now - LOOK_BACK - TOLD_EVERY
            stored, sent = (signed & _reports_done(c, kind, since) for kind in (names.STORE, names.HL7))
            due = c.now - float(marks.get(c, TOLD) or 0) >= TOLD_EVERY
            if due:
                marks.put(c, TOLD, str(c.now))
            return Completeness(len(signed), len(stored), len(sent)), due

        found, due = await self._journal.run(count)
        self.last = found
        if due:
            log.info(
                "reports of studies of the last %d days: %d signed, %d in a PACS, %d in a RIS",
                LOOK_BACK / 86400, found.signed, found.in_pacs, found.in_ris,
            )  # fmt: skip


def _reports_done(c: Transaction, kind: str, since: float) -> set[str]:
    """The reports that jobs of a kind have brought to their place."""
    done = jobs.ended(c, kind, JobState.DONE, since)
    return {_report_of(job) for job in done}


def _report_of(job: Job) -> str:
    """Avara's id of the report that a job was of; empty where that cannot be read."""
    payload = StoreObject if job.kind == names.STORE else names.DeliverReport
    try:
        return job.read(payload).about.get("report", "")
    except UnreadablePayload:
        return ""
