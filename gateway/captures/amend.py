"""Fills in what an object lacks of its study, and records what was changed (PS3.3 C.12.1).

Nothing that is there is changed, save the patient's attributes where the operator's configuration says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence

from gateway import __version__
from gateway.captures.identity import Patient
from gateway.dicom import SYSTEM, now, original_attributes, texts
from gateway.pacs.scu import StudyRecord

_LEGAL = {"PN": texts.person_name, "LO": texts.short_text, "SH": texts.short_text}


def patient_of(attributes: Dataset) -> Patient:
    """Who an object says that its patient is."""
    return Patient(
        str(attributes.get("PatientID") or ""),
        str(attributes.get("PatientName") or ""),
        str(attributes.get("PatientBirthDate") or ""),
    )


def patient_in(record: StudyRecord) -> Patient:
    """Who the PACS says that a study's patient is."""
    return Patient(record.patient_id, record.patient_name, record.patient_birth_date)


def fill(attributes: Dataset, record: StudyRecord) -> list[str]:
    """Gives an object the attributes of its study that it lacks; their keywords."""
    known = {
        "AccessionNumber": record.accession_number,
        "StudyID": record.study_id,
        "ReferringPhysicianName": record.referring_physician,
    }
    lacking = {keyword: value for keyword, value in known.items() if value and not attributes.get(keyword)}
    _set(attributes, lacking)
    return list(lacking)


def coerce_patient(attributes: Dataset, record: StudyRecord) -> list[str]:
    """Gives an object the patient that the PACS has for its study, and keeps the former values in it as Original
    Attributes Sequence (0400,0561); the keywords of what was changed."""
    known = {
        "PatientID": record.patient_id,
        "IssuerOfPatientID": record.issuer_of_patient_id,
        "PatientName": record.patient_name,
        "PatientBirthDate": record.patient_birth_date,
        "PatientSex": record.patient_sex,
    }
    changed = {keyword: v for keyword, v in known.items() if v and str(attributes.get(keyword) or "") != v}
    if not changed:
        return []
    former = Dataset()
    for keyword in changed:
        setattr(former, keyword, attributes.get(keyword) or "")
    item = original_attributes(former)
    _set(attributes, changed)
    attributes.OriginalAttributesSequence = Sequence([*(attributes.get("OriginalAttributesSequence") or ()), item])
    return list(changed)


def sign(attributes: Dataset, what: str) -> None:
    """Says in the object that this gateway had a hand in it: Contributing Equipment Sequence (0018,A001)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109103", "DCM", "Modifying Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = Sequence([purpose])
    item.Manufacturer = "Avara"
    item.ManufacturerModelName = SYSTEM
    item.SoftwareVersions = __version__
    item.ContributionDateTime = now()
    item.ContributionDescription = what
    attributes.ContributingEquipmentSequence = Sequence(
        [*(attributes.get("ContributingEquipmentSequence") or ()), item]
    )


def _set(attributes: Dataset, values: Mapping[str, str]) -> None:
    legal = {keyword: _LEGAL.get(dictionary_VR(keyword), str)(value) for keyword, value in values.items()}
    written = {k: texts.NAME_DELIMITERS if dictionary_VR(k) == "PN" else texts.TEXT_DELIMITERS for k in legal}
    claimed = attributes.get("SpecificCharacterSet") or ""
    claimed = claimed if isinstance(claimed, str) else "\\".join(claimed)
    charset = texts.character_set_for(claimed, ((legal[k], written[k]) for k in legal))
    if charset is texts.UTF_8 and claimed != texts.UTF_8_TERM:
        # Its own character set has no letters for them: all of its texts in one that has every letter.
        attributes.decode()
        attributes.SpecificCharacterSet = texts.UTF_8_TERM
    for keyword, value in legal.items():
        if value.isascii():
            setattr(attributes, keyword, value)
        else:  # bytes, which pydicom writes as they are
            encoded = charset.encode(value, written[keyword])
            attributes.add(DataElement(keyword, dictionary_VR(keyword), encoded, validation_mode=IGNORE))
