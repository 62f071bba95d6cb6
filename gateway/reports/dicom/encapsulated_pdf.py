"""Wraps a report's PDF: the Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.dicom import ENCAPSULATED_PDF
from gateway.pacs.scu import StudyRecord
from gateway.reports.dicom.document import (
    REPORT,
    DicomObject,
    code,
    common_attributes,
    dicom_object,
    predecessors,
    title,
)
from gateway.reports.report import Predecessor, Report

SERIES_NUMBER = 99001
"""(0020,0011): after those of any modality, where viewers sort by it."""


def encapsulated_pdf(report: Report, study: StudyRecord, previous: Sequence[Predecessor] = ()) -> DicomObject:
    """The report's PDF as an Encapsulated PDF (PS3.3 C.24).

    A later version names the one before, and an addendum the report that it adds to, in Predecessor Documents Sequence
    (0040,A360), which the Encapsulated Document Module (C.24.2) has as Type 3, for documents whose content is wholly or
    partially included. Source Instance Sequence (0042,0013, Type 1C) is for instances that a document was derived from;
    a report is written.
    Verification Flag is VERIFIED, since Avara delivers signed reports only, and C.24.2 does not ask by whom.

    Raises ValueError where the report has no PDF, or *study* is not its study.
    """
    if not report.pdf:
        raise ValueError(f"version {report.version} of report {report.report_id} has no PDF")
    return dicom_object(
        study,
        common_attributes(report, study)
        | {
            "SOPClassUID": ENCAPSULATED_PDF,
            "SOPInstanceUID": report.document_uid,
            "Modality": "DOC",  # Type 1 (field note 17)
            "SeriesInstanceUID": report.series_instance_uid,
            "SeriesNumber": SERIES_NUMBER,
            "ConversionType": "WSD",  # SC Equipment Module, C.8.6.1
            "AcquisitionDateTime": "",  # Type 2; when writing began is not told
            "BurnedInAnnotation": "YES",
            "DocumentTitle": title(report),
            "ConceptNameCodeSequence": [code(REPORT)],
            "VerificationFlag": "VERIFIED",
            "MIMETypeOfEncapsulatedDocument": "application/pdf",
            # The length of a value is even (PS3.5 §7.1.1); the document's own stands beside it (field note 17).
            "EncapsulatedDocument": report.pdf + b"\0" * (len(report.pdf) % 2),
            "EncapsulatedDocumentLength": len(report.pdf),
        }
        | predecessors(report, previous),
    )
