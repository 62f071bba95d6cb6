"""What the deliveries of a report have in common, whatever each makes of it; they live in the rooms beside this file.

``report.pacs`` is in :mod:`gateway.reports.dicom.deliver`, ``report.hl7`` and ``report.folder`` in
:mod:`gateway.reports.place`, which calls the place itself. Each place has its own job, so that one that is down keeps
no other from its report.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.journal import CannotBeDone, Job, JobState, Journal, Transaction, TryLater, jobs, study_reports
from gateway.objects import AtHand, ObjectNotFound, StoreError
from gateway.pacs import PacsError
from gateway.pacs.scu import Finder, Records, StudyRecord
from gateway.reports.jobs import DeliverReport
from gateway.reports.report import Report, signing_of, worded
from gateway.runtime import bind


class ReportDelivery:
    """What every delivery has in common: the report and its study, and how its job ends."""

    def __init__(self, *, journal: Journal, objects: AtHand, pacs: Sequence[Finder], keep_for: float) -> None:
        """*pacs* are asked in this order for the study; *keep_for* is seconds."""
        self._journal = journal
        self._objects = objects
        self._records = Records(pacs)
        self._keep_for = keep_for

    async def report(self, payload: DeliverReport) -> Report:
        """The version of the report that is to be delivered. Raises TryLater, CannotBeDone."""
        pdf = None
        if payload.key is not None:
            try:
                pdf = await self._objects.get(payload.key)
            except ObjectNotFound as e:
                raise CannotBeDone("its PDF is gone from the store: have Avara deliver the report again") from e
            except StoreError as e:
                raise TryLater(str(e)) from e
        return Report(
            payload.report, payload.study_id, payload.study, payload.version, payload.critical, worded(payload.text),
            pdf, payload.received, payload.ordinal, payload.original, signing_of(payload.signing),
        )  # fmt: skip

    async def study(self, payload: DeliverReport) -> StudyRecord:
        """What the PACS says of the report's study. Raises TryLater, also where none has it: it may be on its way."""
        uid = payload.study
        bind(study=uid)
        try:
            record = await self._records.find(uid)
        except PacsError as e:
            raise TryLater(f"whose study it is cannot be asked: {e}") from e
        if record is None:
            raise TryLater(f"study {uid} is in no PACS: is it the right one, and does the PACS show it to us?")
        return record

    async def texts_before(self, report: Report) -> Sequence[str]:
        """The texts of the reports that an addendum adds to, the original's first; none where one of them is not kept.
        Raises TryLater."""
        found: list[str] = []
        for earlier in await self._journal.run(lambda c: study_reports.before(c, report.report_id)) or ():
            if earlier.text_key is None:
                return ()
            try:
                found.append((await self._objects.get(earlier.text_key)).decode())
            except ObjectNotFound:
                return ()
            except StoreError as e:
                raise TryLater(str(e)) from e
        return found

    def end(self, c: Transaction, job: Job, payload: DeliverReport, text: str) -> None:
        """The job is done: what it held of the patient goes."""
        jobs.end(c, job, JobState.DONE, text, payload.record, clean_after=self._keep_for)


def no_such_place(what: str, payload: DeliverReport) -> CannotBeDone:
    """The place that a job is for is in the configuration no more."""
    return CannotBeDone(f"no {what} is named {payload.target} any more: name one so, or discard this job")
