"""A report's text as a Basic Text SR (PS3.3 A.35.1)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from gateway.dicom import BASIC_TEXT_SR, texts
from gateway.pacs.scu import InstanceRef, StudyRecord
from gateway.reports.dicom.document import (
    REPORT,
    TITLE,
    Attributes,
    DicomObject,
    code,
    common_attributes,
    dicom_object,
    predecessors,
    references,
    title,
)
from gateway.reports.report import Predecessor, Report, Signing

SERIES_NUMBER = 99002
"""(0020,0011): after that of the PDFs."""

_FINDINGS = ("59776-5", "LN", "Findings")  # PS3.16 CID 7001, in place of (121070, DCM), which is retired
_FINDING = ("121071", "DCM", "Finding")  # CID 7002
_COMMENT = ("121106", "DCM", "Comment")  # PS3.16 Annex D


def basic_text_sr(
    report: Report, study: StudyRecord, previous: Sequence[Predecessor] = (), *, evidence: Sequence[InstanceRef] = ()
) -> DicomObject:
    """The report's text as a Basic Text SR (PS3.3 C.17).

    The tree has the shape of TID 2000 (PS3.16), a titled report over a section over text, and does not claim that
    template, whose rows on language and observer ask for what is not known here. The text is one TEXT item: UT has
    no limit, and viewers differ in how they put items together again.

    It is COMPLETE, and VERIFIED where name and organization of who signed are known, which Verifying Observer Sequence
    (C.17.2) asks for; to make them up would be worse than to say less.

    *evidence* is what the PACS lists of the study, for Current Requested Procedure Evidence Sequence; the report's
    own objects are left out of it. Raises ValueError where the report has no text, or *study* is not its study.
    """
    text = texts.long_text(report.plain_text or "")
    if not text.strip():
        raise ValueError(f"version {report.version} of report {report.report_id} has no text")
    own = {report.series_instance_uid, report.text_series_uid}
    read = [ref for ref in evidence if ref.sop_class_uid and ref.series_instance_uid not in own]
    content = [_container(_FINDINGS, [_text(_FINDING, text)])]
    if title(report) != TITLE:
        content.insert(0, _text(_COMMENT, title(report)))
    procedure: Attributes = {"CurrentRequestedProcedureEvidenceSequence": [references(report, read)]} if read else {}
    return dicom_object(
        study,
        common_attributes(report, study)
        | {
            "SOPClassUID": BASIC_TEXT_SR,
            "SOPInstanceUID": report.text_uid,
            "Modality": "SR",
            "SeriesInstanceUID": report.text_series_uid,
            "SeriesNumber": SERIES_NUMBER,
            "ReferencedPerformedProcedureStepSequence": [],
            "CompletionFlag": "COMPLETE",
            "ReferencedRequestSequence": [_request(report, study)],
            "PerformedProcedureCodeSequence": [],
        }
        | _verification(report.signing)
        | procedure
        | predecessors(report, previous)
        | _container(REPORT, content),
    )


def _verification(signing: Signing | None) -> Attributes:
    """Who signed, and when (C.17.2)."""
    if signing is None or signing.signer is None:
        by_whom = "by whom is not told to this system"
    elif signing.signed_at is None or not signing.facility:
        by_whom = f"by {signing.signer.person_name.replace('^', ' ')}"
    else:
        signed = datetime.datetime.fromtimestamp(signing.signed_at).astimezone()
        return {
            "VerificationFlag": "VERIFIED",
            "VerifyingObserverSequence": [
                {
                    "VerifyingOrganization": texts.short_text(signing.facility),
                    "VerificationDateTime": signed.strftime("%Y%m%d%H%M%S%z"),
                    "VerifyingObserverName": texts.person_name(signing.signer.person_name),
                    "VerifyingObserverIdentificationCodeSequence": [],
                }
            ],
        }
    return {
        "CompletionFlagDescription": texts.short_text(f"Signed in Avara; {by_whom}")[:64],
        "VerificationFlag": "UNVERIFIED",
    }


def _container(concept: tuple[str, str, str], content: list[Attributes]) -> Attributes:
    """A CONTAINER content item (C.18.8), or the root of a tree."""
    return {
        "ValueType": "CONTAINER",
        "ConceptNameCodeSequence": [code(concept)],
        "ContinuityOfContent": "SEPARATE",
        "ContentSequence": [{"RelationshipType": "CONTAINS", **item} for item in content],
    }


def _text(concept: tuple[str, str, str], text: str) -> Attributes:
    return {"ValueType": "TEXT", "ConceptNameCodeSequence": [code(concept)], "TextValue": text}


def _request(report: Report, study: StudyRecord) -> Attributes:
    """The request that the report fulfils (Referenced Request Sequence, C.17.2), as far as the PACS says."""
    return {
        "StudyInstanceUID": report.study_instance_uid,
        "ReferencedStudySequence": [],
        "AccessionNumber": texts.short_text(study.accession_number),
        "PlacerOrderNumberImagingServiceRequest": "",
        "FillerOrderNumberImagingServiceRequest": "",
        "RequestedProcedureID": "",
        "RequestedProcedureDescription": "",
        "RequestedProcedureCodeSequence": [],
    }
