"""The DICOM objects that a signed report becomes: an Encapsulated PDF (PS3.3 A.45.1) and a Basic Text SR (A.35.1).

Patient and study are as the PACS has them, in its character set (:mod:`gateway.dicom.texts`). The same report and
the same answer of the PACS give the same bytes, so that what is stored again after a failure is the same object.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR

from gateway import __version__
from gateway.dicom import texts
from gateway.dicom.encoding import encode_data_set
from gateway.dicom.part10 import file_header
from gateway.dicom.sop_classes import BASIC_TEXT_SR, ENCAPSULATED_PDF
from gateway.dicom.syntaxes import EXPLICIT_LITTLE_ENDIAN
from gateway.pacs.scu.client import InstanceRef, StudyRecord
from gateway.reports.report import Predecessor, Report

DOCUMENT_SERIES, TEXT_SERIES = 99001, 99002
"""Series Numbers (0020,0011): after those of any modality, where viewers sort by them."""

TITLE = "Diagnostic Imaging Report"

_REPORT = ("18748-4", "LN", TITLE)  # CID 7000
_FINDINGS = ("121070", "DCM", "Findings")  # CID 7001
_FINDING = ("121071", "DCM", "Finding")  # CID 7002
_COMMENT = ("121106", "DCM", "Comment")

Attributes: TypeAlias = "dict[str, str | int | bytes | list[Attributes]]"
"""Of an object or of an item in it, by keyword; encoded once it is known which letters are in them."""


@dataclass(frozen=True, slots=True)
class DicomObject:
    """An instance that is ready to be stored."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    """Explicit VR Little Endian."""
    content: bytes
    """The whole Part 10 file."""


def encapsulated_pdf(report: Report, study: StudyRecord, previous: Predecessor | None = None) -> DicomObject:
    """The report's PDF as an Encapsulated PDF (PS3.3 C.24).

    A later version names the one before in Predecessor Documents Sequence (0040,A360), which the Encapsulated
    Document Module (C.24.2) has as Type 3, for documents whose content is wholly or partially included. Source
    Instance Sequence (0042,0013, Type 1C) is for instances that a document was derived from; a report is written.
    Verification Flag is VERIFIED, since Avara delivers signed reports only, and C.24.2 does not ask by whom.

    Raises ValueError where the report has no PDF, or *study* is not its study.
    """
    if not report.pdf:
        raise ValueError(f"version {report.version} of report {report.report_id} has no PDF")
    return _object(
        study,
        _common(report, study)
        | {
            "SOPClassUID": ENCAPSULATED_PDF,
            "SOPInstanceUID": report.document_uid,
            "Modality": "DOC",  # Type 1 (field note 17)
            "SeriesInstanceUID": report.series_instance_uid,
            "SeriesNumber": DOCUMENT_SERIES,
            "ConversionType": "WSD",  # SC Equipment Module, C.8.6.1
            "AcquisitionDateTime": "",  # Type 2; when writing began is not told
            "BurnedInAnnotation": "YES",
            "DocumentTitle": title(report),
            "ConceptNameCodeSequence": [_code(_REPORT)],
            "VerificationFlag": "VERIFIED",
            "MIMETypeOfEncapsulatedDocument": "application/pdf",
            # The length of a value is even (PS3.5 §7.1.1); the document's own stands beside it (field note 17).
            "EncapsulatedDocument": report.pdf + b"\0" * (len(report.pdf) % 2),
            "EncapsulatedDocumentLength": len(report.pdf),
        }
        | _predecessors(report, previous),
    )


def basic_text_sr(
    report: Report, study: StudyRecord, previous: Predecessor | None = None, *, evidence: Sequence[InstanceRef] = ()
) -> DicomObject:
    """The report's text as a Basic Text SR (PS3.3 C.17).

    The tree has the shape of TID 2000 (PS3.16), a titled report over a section over text, and does not claim that
    template, whose rows on language and observer ask for what is not known here. The text is one TEXT item: UT has
    no limit, and viewers differ in how they put items together again.

    It is COMPLETE and UNVERIFIED. VERIFIED asks for the name and the organization of who signed (Verifying Observer
    Sequence, C.17.2), which Avara does not tell; to make them up would be worse than to say less.

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
    procedure: Attributes = {"CurrentRequestedProcedureEvidenceSequence": [_references(report, read)]} if read else {}
    return _object(
        study,
        _common(report, study)
        | {
            "SOPClassUID": BASIC_TEXT_SR,
            "SOPInstanceUID": report.text_uid,
            "Modality": "SR",
            "SeriesInstanceUID": report.text_series_uid,
            "SeriesNumber": TEXT_SERIES,
            "ReferencedPerformedProcedureStepSequence": [],
            "CompletionFlag": "COMPLETE",
            "CompletionFlagDescription": "Signed in Avara; by whom is not told to this system",
            "VerificationFlag": "UNVERIFIED",
            "ReferencedRequestSequence": [_request(report, study)],
            "PerformedProcedureCodeSequence": [],
        }
        | procedure
        | _predecessors(report, previous)
        | _container(_REPORT, content),
    )


def title(report: Report) -> str:
    """What the report is, for people: whether it is critical, and whether another version came before."""
    return (
        ("CRITICAL: " if report.is_critical else "")
        + TITLE
        + (f", version {report.version} (addendum or correction)" if report.version > 1 else "")
    )


def _common(report: Report, study: StudyRecord) -> Attributes:
    """What both objects have of the Patient, General Study, General Equipment and instance modules."""
    if study.study_instance_uid != report.study_instance_uid:
        raise ValueError(f"report {report.report_id} is of another study than the patient that it would be given")
    received = datetime.datetime.fromtimestamp(report.received).astimezone()
    optional: Attributes = {
        "IssuerOfPatientID": texts.short_text(study.issuer_of_patient_id),
        "StudyDescription": texts.short_text(study.study_description),
    }
    return {keyword: value for keyword, value in optional.items() if value} | {
        "PatientName": texts.person_name(study.patient_name),
        "PatientID": texts.short_text(study.patient_id),
        "PatientBirthDate": texts.date(study.patient_birth_date),
        "PatientSex": texts.sex(study.patient_sex),
        "StudyInstanceUID": study.study_instance_uid,
        "StudyDate": texts.date(study.study_date),
        "StudyTime": texts.time(study.study_time),
        "ReferringPhysicianName": texts.person_name(study.referring_physician),
        "StudyID": texts.short_text(study.study_id),
        "AccessionNumber": texts.short_text(study.accession_number),
        "SeriesDescription": "Avara report",
        "Manufacturer": "Avara",
        "ManufacturerModelName": "Avara Gateway",
        "SoftwareVersions": __version__,
        "InstanceNumber": report.version,
        # The hospital's local time, as the PACS's own; no Timezone Offset, which would speak for Study Time, too.
        "ContentDate": received.strftime("%Y%m%d"),
        "ContentTime": received.strftime("%H%M%S.%f"),
    }


def _code(concept: tuple[str, str, str]) -> Attributes:
    value, scheme, meaning = concept
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def _container(concept: tuple[str, str, str], content: list[Attributes]) -> Attributes:
    """A CONTAINER content item (C.18.8), or the root of a tree."""
    return {
        "ValueType": "CONTAINER",
        "ConceptNameCodeSequence": [_code(concept)],
        "ContinuityOfContent": "SEPARATE",
        "ContentSequence": [{"RelationshipType": "CONTAINS", **item} for item in content],
    }


def _text(concept: tuple[str, str, str], text: str) -> Attributes:
    return {"ValueType": "TEXT", "ConceptNameCodeSequence": [_code(concept)], "TextValue": text}


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


def _predecessors(report: Report, previous: Predecessor | None) -> Attributes:
    if previous is None:
        return {}
    ref = InstanceRef(previous.series_instance_uid, previous.sop_instance_uid, previous.sop_class_uid)
    return {"PredecessorDocumentsSequence": [_references(report, [ref])]}


def _references(report: Report, instances: Sequence[InstanceRef]) -> Attributes:
    """Instances of the study, by series (Hierarchical SOP Instance Reference Macro, C.17.2.1)."""
    series: dict[str, list[Attributes]] = {}
    for ref in instances:
        series.setdefault(ref.series_instance_uid, []).append(
            {"ReferencedSOPClassUID": ref.sop_class_uid, "ReferencedSOPInstanceUID": ref.sop_instance_uid}
        )
    return {
        "StudyInstanceUID": report.study_instance_uid,
        "ReferencedSeriesSequence": [
            {"SeriesInstanceUID": uid, "ReferencedSOPSequence": listed} for uid, listed in series.items()
        ],
    }


def _object(study: StudyRecord, attributes: Attributes) -> DicomObject:
    character_set = texts.character_set_for(study.specific_character_set, _texts(attributes))
    d = _data_set(attributes, character_set)
    if character_set.terms:
        d.SpecificCharacterSet = list(character_set.terms)
    header = file_header(d.SOPClassUID, d.SOPInstanceUID, EXPLICIT_LITTLE_ENDIAN)
    return DicomObject(
        str(d.SOPClassUID),
        str(d.SOPInstanceUID),
        str(d.SeriesInstanceUID),
        EXPLICIT_LITTLE_ENDIAN,
        header + encode_data_set(d, EXPLICIT_LITTLE_ENDIAN),
    )


_DELIMITERS = {"PN": texts.NAME_DELIMITERS} | dict.fromkeys(("LO", "SH", "ST", "UT"), texts.TEXT_DELIMITERS)
"""Of the value representations to which Specific Character Set applies (PS3.5 §6.1.2.3)."""


def _texts(attributes: Attributes) -> Iterator[tuple[str, str]]:
    """The texts in any character set, nested ones, too, each with its delimiters."""
    for keyword, value in attributes.items():
        if isinstance(value, list):
            for item in value:
                yield from _texts(item)
        elif isinstance(value, str) and (delimiters := _DELIMITERS.get(dictionary_VR(keyword))):
            yield value, delimiters


def _data_set(attributes: Attributes, character_set: texts.CharacterSet) -> Dataset:
    d = Dataset()
    for keyword, value in attributes.items():
        vr = dictionary_VR(keyword)
        if isinstance(value, list):
            setattr(d, keyword, [_data_set(item, character_set) for item in value])
        elif isinstance(value, str) and vr in _DELIMITERS:
            # pydicom writes bytes as they are. Its own checks are left to the texts module, which lets long values be.
            d.add(DataElement(keyword, vr, character_set.encode(value, _DELIMITERS[vr]), validation_mode=IGNORE))
        else:
            setattr(d, keyword, value)
    return d
