"""What both DICOM objects of a signed report have in common: the Encapsulated PDF (:mod:`.encapsulated_pdf`) and the
Basic Text SR (:mod:`.basic_text_sr`).

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
from gateway.dicom import EXPLICIT_LITTLE_ENDIAN, encode_data_set, file_header, texts
from gateway.pacs.scu import InstanceRef, StudyRecord
from gateway.reports.report import Predecessor, Report

TITLE = "Diagnostic Imaging Report"

REPORT = ("18748-4", "LN", TITLE)  # CID 7000

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


def title(report: Report) -> str:
    """What the report is, for people: whether it is critical, and whether another version came before."""
    return (
        ("CRITICAL: " if report.is_critical else "")
        + TITLE
        + (", addendum" if report.ordinal > 1 else "")
        + (f", version {report.version} (addendum or correction)" if report.version > 1 else "")
    )


def common_attributes(report: Report, study: StudyRecord) -> Attributes:
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
        "InstanceNumber": report.number_in_series,
        # The hospital's local time, as the PACS's own; no Timezone Offset, which would speak for Study Time, too.
        "ContentDate": received.strftime("%Y%m%d"),
        "ContentTime": received.strftime("%H%M%S.%f"),
    }


def code(concept: tuple[str, str, str]) -> Attributes:
    """A code sequence's item (PS3.3 §8.8)."""
    value, scheme, meaning = concept
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def predecessors(report: Report, previous: Sequence[Predecessor]) -> Attributes:
    """Predecessor Documents Sequence (0040,A360): the documents before this one, where there are any."""
    refs = [InstanceRef(p.series_instance_uid, p.sop_instance_uid, p.sop_class_uid) for p in previous]
    return {"PredecessorDocumentsSequence": [references(report, refs)]} if refs else {}


def references(report: Report, instances: Sequence[InstanceRef]) -> Attributes:
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


def dicom_object(study: StudyRecord, attributes: Attributes) -> DicomObject:
    """*attributes* as a Part 10 file, in the character set of the study's PACS where that has all the letters."""
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
