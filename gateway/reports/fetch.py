"""Does ``report.fetch`` jobs: brings a report's PDF in before its URL dies, finds out which study it is of, and
lets what is new of it go out to every place where the hospital looks.

The PDF comes first, since its URL dies within the hour; everything else can wait. A PDF that cannot be had, or is
none, does not keep the text: that goes out by itself, and the job waits for an operator.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

from gateway.alerts import end_alert, raise_alert
from gateway.avara import ApiError
from gateway.journal import (
    CannotBeDone,
    Ended,
    Job,
    JobState,
    JobStep,
    Journal,
    Recorded,
    StudyReport,
    Transaction,
    TryLater,
    jobs,
    objects,
    study_of,
    study_reports,
)
from gateway.objects import AtHand, ObjectNotFound, StoreError
from gateway.pacs import PacsError
from gateway.pacs.scu import Finder, Records
from gateway.reports import alerts
from gateway.reports.errors import ReportError
from gateway.reports.identity import differences
from gateway.reports.inquiry import Inquiry, lacking, snapshot_of
from gateway.reports.jobs import FetchReport
from gateway.reports.pdf.check import check_pdf
from gateway.reports.pdf.download import UrlExpired
from gateway.reports.release import deliver
from gateway.reports.report import worded
from gateway.runtime import span, step

log = logging.getLogger(__name__)

TEXT_ALONE_AFTER = 3600.0
"""Seconds after which a report whose PDF still cannot be fetched goes out as text: its URL is dead by then."""

TOLD_WITHIN = 180.0
"""Seconds after which a report goes out without what Avara's API does not tell of it."""

PDF = "application/pdf"

Download = Callable[[str], Awaitable[bytes]]
"""The bytes behind a URL; raises as :mod:`gateway.reports.pdf.download` has it."""

AskAgain = Callable[[str, str], Awaitable[str]]
"""(study id, report id) → a new URL of the report's PDF."""


class ReportFetcher:
    """The handler of ``report.fetch``."""

    def __init__(
        self,
        *,
        journal: Journal,
        objects: AtHand,
        download: Download,
        ask_again: AskAgain | None,
        inquiry: Inquiry | None,
        pacs: Sequence[Finder],
        destinations: Mapping[str, Sequence[str]],
        channels: Collection[str],
        keep_for: float,
        keep_texts_for: float,
        added: Callable[[], None],
    ) -> None:
        """*ask_again* and *inquiry* are None where Avara cannot be asked; *pacs* are asked whose a study is.
        *destinations* are, by kind of job, the names of the places that a report is brought to; *channels* those of
        what alerts are sent by. *keep_for* is seconds, and so is *keep_texts_for*, for which texts are kept that a
        later addendum is sent with; *added* is called when a job was added."""
        self._journal = journal
        self._objects = objects
        self._download = download
        self._ask_again = ask_again
        self._inquiry = inquiry
        self._records = Records(pacs)
        self._destinations = destinations
        self._channels = channels
        self._keep_for = keep_for
        self._keep_texts_for = keep_texts_for
        self._added = added

    async def __call__(self, job: Job) -> Ended:
        """Takes a report one step further. Raises TryLater, CannotBeDone, UnreadablePayload."""
        payload = job.read(FetchReport)
        try:
            if payload.key is None:
                return await self._bring(job, payload)
            if self._inquiry is not None and payload.told is None:
                return await self._inquire(payload, self._inquiry)
            await self._check(job, payload, payload.key)
        except ObjectNotFound as e:
            raise CannotBeDone("its PDF is gone from the store: have Avara deliver the report again") from e
        except StoreError as e:
            raise TryLater(str(e)) from e
        await self._keep_text(payload)
        study = await self._which_study(payload)
        if study is not None:
            await self._compare(payload, study)
        if study is None:
            unknown = alerts.unknown_study(payload, job.id)
            await self._journal.run(lambda c: raise_alert(c, self._channels, unknown))
            self._added()
            raise TryLater(
                f"which study Avara's {payload.study_id} is, is not known: nobody has opened it through this "
                f"gateway; say it: avara-gateway jobs assign {job.id} STUDY_INSTANCE_UID"
            )
        return Recorded(partial(self._release, job=job, payload=payload, study=study))

    # -- the PDF

    async def _bring(self, job: Job, payload: FetchReport) -> Ended:
        try:
            with step(log, "fetching the PDF of report %s", payload.report), span("pdf"):
                content = await self._content(payload)
        except ReportError as e:
            if not e.transient:
                raise CannotBeDone(str(e), await self._without_pdf(job, payload, str(e))) from e
            late = self._journal.clock.now() - payload.received > TEXT_ALONE_AFTER
            raise TryLater(str(e), await self._without_pdf(job, payload, str(e)) if late else None) from e
        sha256 = hashlib.sha256(content).hexdigest()
        key = _key(payload.report, sha256, "pdf")
        await self._journal.run(lambda c: objects.use(c, job.id, [key]))
        await self._objects.put(key, content, content_type=PDF)
        here = dataclasses.replace(payload, key=key, sha256=sha256, url=None)
        return JobStep(f"its PDF is here, {len(content)} bytes", here)

    async def _content(self, payload: FetchReport) -> bytes:
        try:
            if payload.url is None:
                raise UrlExpired("no webhook has brought a URL of the report's PDF")
            return await self._download(payload.url)
        except UrlExpired as e:
            if self._ask_again is None:
                raise UrlExpired(
                    f"{e}: have Avara deliver the report again; with avara.api_key another URL is asked for by itself"
                ) from None
        url = await self._ask_again(payload.study_id, payload.report)
        return await self._download(url)

    # -- what Avara tells of it besides

    async def _inquire(self, payload: FetchReport, inquiry: Inquiry) -> Ended:
        late = self._journal.clock.now() - payload.received > TOLD_WITHIN
        try:
            told = await inquiry.ask(payload.study_id, payload.report, last=late)
        except ApiError as e:
            if e.transient and not late:
                raise TryLater(str(e)) from e
            told = lacking(str(e))
        lacks = told.signing.lacks
        text = f"it goes out without what Avara does not tell: {lacks}" if lacks else "Avara has told who signed it"
        return JobStep(text, dataclasses.replace(payload, told=told.to_json()))

    async def _which_study(self, payload: FetchReport) -> str | None:
        """The study that a report is of: as the event, an operator or an access says, else as Avara's API does, else
        the only one of the patient whom the event names. Raises TryLater, CannotBeDone."""
        known: str | None = payload.study or await self._journal.run(lambda c: study_of(c, payload.study_id))
        told = (payload.told or {}).get("study_instance_uid")
        if known and told and known != told and not payload.assigned:
            raise CannotBeDone(
                f"Avara's event or access names study {known}, and its API {told}: find out which it is, and say it: "
                "avara-gateway jobs assign"
            )
        if known or told:
            return known or told
        try:
            return await self._records.only_study_of(payload.patient_id or "")
        except PacsError as e:
            raise TryLater(f"which study of the patient it is cannot be asked: {e}") from e

    async def _compare(self, payload: FetchReport, study: str) -> None:
        """Whether the report's patient is the study's. Raises TryLater, CannotBeDone."""
        snapshot = snapshot_of((payload.told or {}).get("snapshot"))
        if snapshot is None or payload.assigned:
            return
        try:
            record = await self._records.find(study)
        except PacsError as e:
            raise TryLater(f"whose study it is cannot be asked: {e}") from e
        if record is None:
            raise TryLater(f"study {study} is in no PACS: is it the right one, and does the PACS show it to us?")
        if different := differences(snapshot, record):
            raise CannotBeDone(
                f"its patient, as Avara has it, is not that of study {study}: {', '.join(different)} differ. Where it "
                "is that study's all the same, or another's, say so: avara-gateway jobs assign"
            )

    async def _check(self, job: Job, payload: FetchReport, key: str) -> None:
        """Whether it is a PDF that opens. Raises TryLater, CannotBeDone, StoreError."""
        content = await self._objects.get(key)
        try:
            await check_pdf(content)
        except ReportError as e:
            if e.transient:
                raise TryLater(str(e)) from e
            raise CannotBeDone(str(e), await self._without_pdf(job, payload, str(e))) from e

    async def _keep_text(self, payload: FetchReport) -> None:
        """Keeps the text where an addendum to it is to be sent with it. Raises StoreError."""
        text = worded(payload.text)
        if text is None or not self._keep_texts_for:
            return
        content = text.encode("utf-8", "replace")
        key = _key(payload.report, hashlib.sha256(content).hexdigest(), "txt")

        def note(c: Transaction) -> None:
            known = study_reports.get(c, payload.report)
            if known is None or known.text_key != key:
                study_reports.know(c, StudyReport(payload.report, payload.study_id, None, payload.received))
                study_reports.keeps_text(c, payload.report, key)
                jobs.clean(c, key, after=self._keep_texts_for)

        await self._journal.run(note)  # before it is there: whenever we are killed, it goes again some day
        await self._objects.put(key, content, content_type="text/plain; charset=utf-8")
        self._objects.drop(key)  # it is for an addendum, some day

    async def _without_pdf(self, job: Job, payload: FetchReport, reason: str) -> FetchReport:
        """Lets the text go out by itself, once, where its study is known and its patient is the study's; the payload
        that says so."""
        if payload.text_sent:
            return payload
        log.warning("report %s has no PDF that can be delivered: %s", payload.report, reason)
        if not worded(payload.text):
            return payload
        if self._inquiry is not None and payload.told is None:
            try:
                told = await self._inquiry.ask(payload.study_id, payload.report, last=True)
            except ApiError as e:
                told = lacking(str(e))
            payload = dataclasses.replace(payload, told=told.to_json())
        try:
            study = await self._which_study(payload)
            if study is None:
                return payload
            await self._compare(payload, study)
        except (TryLater, CannotBeDone) as e:
            log.warning("the text of report %s does not go out by itself: %s", payload.report, e)
            return payload
        await self._keep_text(payload)

        def send(c: Transaction) -> None:
            deliver(c, self._destinations, payload, study, pdf=False)
            jobs.note(c, job.id, "its text goes out without it")

        await self._journal.run(send)
        self._added()
        return dataclasses.replace(payload, text_sent=True)

    # -- which study, which version, and where to

    def _release(self, c: Transaction, *, job: Job, payload: FetchReport, study: str) -> None:
        """Lets a report go out, and ends its job."""
        unknown = alerts.unknown_study(payload, job.id)
        end_alert(c, self._channels, dataclasses.replace(unknown, at=c.now))
        text = deliver(c, self._destinations, payload, study, pdf=True)
        jobs.end(c, job, JobState.DONE, text, payload.record(study))
        # What a delivery needs goes once the last of them has ended.
        jobs.clean_unneeded(c, payload.keys, after=self._keep_for)


def _key(report_id: str, sha256: str, ending: str) -> str:
    """Where something of a report lies in the store."""
    return f"reports/{hashlib.sha256(report_id.encode()).hexdigest()[:32]}/{sha256}.{ending}"
