"""Does ``report.pacs`` jobs: makes a report's DICOM objects, and gives them to the outbox for its PACS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from gateway.journal import Ended, Job, Journal, Recorded, ReportVersion, Transaction, TryLater
from gateway.journal import reports as table
from gateway.objects import StoreError
from gateway.outbox import Outbox, OutboxObject
from gateway.pacs.scu import StudyRecord
from gateway.reports.delivery import ReportDelivery
from gateway.reports.dicom.basic_text_sr import basic_text_sr
from gateway.reports.dicom.document import DicomObject
from gateway.reports.dicom.encapsulated_pdf import encapsulated_pdf
from gateway.reports.jobs import DeliverReport
from gateway.reports.report import Report
from gateway.runtime import in_thread


class PacsDelivery:
    """The handler of ``report.pacs``: makes the DICOM objects and gives them to the outbox."""

    def __init__(self, delivery: ReportDelivery, *, journal: Journal, outbox: Outbox, text: bool) -> None:
        """*text* says whether the text goes in as a Basic Text SR, too; it does where there is no PDF."""
        self._delivery = delivery
        self._journal = journal
        self._outbox = outbox
        self._text = text

    async def __call__(self, job: Job) -> Ended:
        """Makes the objects of one version for one PACS. Raises TryLater, CannotBeDone, UnreadablePayload."""
        payload = job.read(DeliverReport)
        report, study = await self._delivery.report(payload), await self._delivery.study(payload)
        earlier = await self._journal.run(lambda c: _earlier(c, report))
        made = await in_thread(self._make, report, study, earlier)
        target, outgoing = payload.target, []
        for document in made:
            sha256 = hashlib.sha256(document.content).hexdigest()
            key = await self._journal.run(
                lambda c, uid=document.sop_instance_uid, sha256=sha256: self._outbox.reserve(
                    c, job, target, uid, sha256
                )  # type: ignore[misc]
            )
            try:
                await self._outbox.put(key, document.content)
            except StoreError as e:
                raise TryLater(str(e)) from e
            outgoing.append(
                OutboxObject(
                    report.study_instance_uid, "", document.sop_class_uid, document.sop_instance_uid,
                    document.transfer_syntax_uid, len(document.content), sha256,
                )
            )  # fmt: skip

        def hand_over(c: Transaction) -> None:
            for added in outgoing:
                self._outbox.add(
                    c,
                    target,
                    added,
                    text="made of the report",
                    source={"report": report.report_id, "study_id": report.study_id},
                )
            self._delivery.end(c, job, payload, f"{len(outgoing)} objects made, to be stored in {target}")

        return Recorded(hand_over)

    def _make(self, report: Report, study: StudyRecord, earlier: Earlier) -> list[DicomObject]:
        made = []
        if report.pdf is not None:
            made.append(encapsulated_pdf(report, study, [r.stored_document for r in _last(earlier, _has_pdf)]))
        if self._has_text(pdf=report.pdf is not None, text=bool(report.plain_text)):
            before = _last(earlier, lambda v: self._has_text(pdf=v.has_pdf, text=v.has_text))
            made.append(basic_text_sr(report, study, [r.stored_text for r in before]))
        return made

    def _has_text(self, *, pdf: bool, text: bool) -> bool:
        return text and (self._text or not pdf)


Earlier = Sequence[tuple[str | None, Sequence[ReportVersion]]]
"""What came before, by report: the original of each, and its versions."""


def _earlier(c: Transaction, report: Report) -> Earlier:
    """What came before: versions of the original, then of this report. What was filed to another study by mistake is
    nothing before this one there."""
    reports = [(report.original, table.versions(c, report.report_id))]
    if report.original is not None:
        reports.insert(0, (None, table.versions(c, report.original)))
    return [
        (
            original,
            [
                v for v in versions
                if v.study_instance_uid == report.study_instance_uid
                and (v.report_id != report.report_id or v.version < report.version)
            ],
        )
        for original, versions in reports
    ]  # fmt: skip


def _last(earlier: Earlier, wanted: Callable[[ReportVersion], bool]) -> list[Report]:
    """The last version of each report before that *wanted* is true of, as far as its UIDs go."""
    found = []
    for original, versions in earlier:
        for v in [v for v in versions if wanted(v)][-1:]:
            found.append(
                Report(
                    v.report_id, "", v.study_instance_uid, v.version, False, None, None, v.received, original=original
                )
            )
    return found


def _has_pdf(version: ReportVersion) -> bool:
    return version.has_pdf
