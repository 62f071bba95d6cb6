"""Whether two descriptions are of one patient: an object's, and the PACS's of the study (PS3.3 C.7.1.1)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa"})


@dataclass(frozen=True, slots=True)
class Patient:
    """What says who a patient is. Texts are empty where nothing is said."""

    patient_id: str
    name: str
    """A Person Name value: component groups by ``=``, components by ``^`` (PS3.5 §6.2.1)."""
    birth_date: str


def differences(of_object: Patient, of_study: Patient) -> list[str]:
    """The attributes in which the two differ, by name and without their values; empty where it is one patient.

    The Patient ID has to be the same wherever the PACS has one. Birth date and name count where both have them;
    a name may be spelled with or without diacritics, in another case, or with fewer components.
    """
    found = []
    if of_study.patient_id.strip() and of_object.patient_id.strip() != of_study.patient_id.strip():
        found.append("Patient ID" if of_object.patient_id.strip() else "Patient ID (the object has none)")
    dates = [_date(of_object.birth_date), _date(of_study.birth_date)]
    if all(dates) and dates[0] != dates[1]:
        found.append("Patient's Birth Date")
    if not _same_name(of_object.name, of_study.name):
        found.append("Patient's Name")
    return found


def _date(value: str) -> str:
    return "".join(c for c in value if c.isdigit())[:8]


def _same_name(one: str, other: str) -> bool:
    groups = [[_components(group) for group in name.split("=")] for name in (one, other)]
    # One group (alphabetic, ideographic, phonetic) that both have and that agrees is the same name in two scripts.
    both = [(a, b) for a, b in zip(*groups, strict=False) if a and b]
    if not both:
        return True
    return any(_agree(a, b) for a, b in both)


def _components(group: str) -> list[str]:
    return [part.strip() for part in group.strip().rstrip("^").split("^")] if group.strip(" ^") else []


def _agree(one: list[str], other: list[str]) -> bool:
    """Family and given name agree; further components where both have them."""
    return all(_spellings(a) & _spellings(b) for a, b in zip(one, other, strict=False) if a and b) and bool(
        _spellings(one[0]) & _spellings(other[0])
    )


def _spellings(component: str) -> set[str]:
    folded = " ".join(unicodedata.normalize("NFC", component).casefold().replace("-", " ").replace(".", " ").split())
    plain = "".join(c for c in unicodedata.normalize("NFD", folded) if not unicodedata.combining(c))
    return {folded, plain, folded.translate(_SPELLED_OUT)}
