"""Whether the patient of a report, as Avara has it, is the patient of its study, as the PACS has it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from gateway.pacs.scu import StudyRecord

_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Avara took down of the patient when the report was signed. Empty where it did not."""

    name: str = ""
    """As people write it: ``Jane Doe``, ``Doe, Jane``."""
    mrn: str = ""
    birth_date: str = ""


def differences(snapshot: Snapshot, record: StudyRecord) -> list[str]:
    """The attributes in which the two differ, by name and without their values. What one of them does not have says
    nothing; a name may have further parts in one of them, in any order, with or without diacritics."""
    found = []
    mrn, patient_id = snapshot.mrn.strip().casefold(), record.patient_id.strip().casefold()
    if mrn and patient_id and mrn != patient_id:
        found.append("Patient ID")
    born = [re.sub(r"\D", "", date)[:8] for date in (snapshot.birth_date, record.patient_birth_date)]
    if all(len(date) == 8 for date in born) and born[0] != born[1]:
        found.append("Patient's Birth Date")
    if not _same_name(snapshot.name, record.patient_name):
        found.append("Patient's Name")
    return found


def _same_name(written: str, person_name: str) -> bool:
    """*person_name* may have the name in several scripts (PS3.5 §6.2.1); one that agrees is enough, and where none is
    in a script of *written*, there is nothing to compare."""
    compared = False
    for group in person_name.split("="):
        for spell in (_plain, _spelled_out):
            one, other = _parts(spell(written)), _parts(spell(group))
            if not one or not other or _latin(one) != _latin(other):
                continue
            compared = True
            if one <= other or other <= one:
                return True
    return not compared


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFD", name.casefold())
    return "".join(c for c in folded if not unicodedata.combining(c))


def _spelled_out(name: str) -> str:
    return _plain(unicodedata.normalize("NFC", name.casefold()).translate(_SPELLED_OUT))


def _parts(name: str) -> set[str]:
    """Its words; an apostrophe or a hyphen within one does not count."""
    return set(re.findall(r"\w+", re.sub(r"['’\-]", "", name)))


def _latin(parts: set[str]) -> bool:
    return any(c.isascii() and c.isalpha() for part in parts for c in part)
