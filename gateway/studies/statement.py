"""What a PACS says of a study and its patient, kept to notice when it says something else.

A study is corrected in the PACS under the UIDs that it has: another patient's after a merge, a name put right, an
accession number that belonged to another order. Its images were taken in as the old ones; they are not given any more
once the PACS says otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from gateway.pacs.scu import StudyRecord


@dataclass(frozen=True, slots=True)
class StudyStatement:
    """One PACS's word on a study, in a form in which the same is equal. Texts are empty where it says nothing."""

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_description: str = ""
    modalities: str = ""
    series: int | None = None
    instances: int | None = None
    institution: str = ""
    """Where the access policy wants to know it; so too the status."""
    status: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Whose study it is, and which: in the order of :data:`IDENTITY`."""
        return tuple(getattr(self, name) for name in IDENTITY)


IDENTITY = (
    "patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
    "study_date", "study_description",
)  # fmt: skip
"""What makes it another study, or another patient's, where it differs."""


def statement_of(record: StudyRecord) -> StudyStatement | None:
    """What *record* says; None where it says nothing of patient and study, so that nothing can be compared."""
    found = StudyStatement(
        patient_id=_text(record.patient_id),
        issuer_of_patient_id=_text(record.issuer_of_patient_id),
        patient_name=_name(record.patient_name),
        patient_birth_date=_text(record.patient_birth_date),
        patient_sex=_text(record.patient_sex),
        accession_number=_text(record.accession_number),
        study_date=_text(record.study_date),
        study_description=_text(record.study_description),
        modalities=record.modalities,
        series=record.series,
        instances=record.instances,
        institution=_text(record.institution),
        status=_text(record.status),
    )
    return found if any(found.identity) else None


def corrected(before: StudyStatement | None, now: StudyStatement | None) -> tuple[str, ...]:
    """The attributes of :data:`IDENTITY` that the PACS has changed; none where either is not known."""
    if before is None or now is None:
        return ()
    return tuple(name for name, a, b in zip(IDENTITY, before.identity, now.identity, strict=True) if a != b)


def in_words(names: tuple[str, ...]) -> str:
    """Attributes' names for people: ``patient ID, study date``."""
    return ", ".join(name.replace("_", " ").replace(" id", " ID") for name in names)


def _text(value: str) -> str:
    """Without what is no difference: padding, and two ways of writing one letter (Unicode TR15)."""
    return re.sub(r"[\s\0]+", " ", unicodedata.normalize("NFC", value)).strip()


def _name(value: str) -> str:
    """A person's name; empty components at the end of a group, and empty groups, may be left out (PS3.5 6.2.1.1)."""
    groups = ["^".join(_text(part) for part in group.split("^")).rstrip("^") for group in _text(value).split("=")]
    return "=".join(groups).rstrip("=")
