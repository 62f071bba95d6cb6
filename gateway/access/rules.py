"""What may leave the hospital, by rules over what is known of a study. Plain functions over plain data.

A rule that wants to know what nobody says forbids: an unknown patient may be one who is on the list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

OF_NO_MACHINE = frozenset({"PR", "KO", "SR", "DOC"})
"""Modalities of what is made of images and lies among them; a list of machines does not have to name them."""


class Purpose(StrEnum):
    """What a study is wanted for."""

    OPEN = "open"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a study. Empty where nobody says."""

    study_instance_uid: str
    pacs: frozenset[str] = frozenset()
    """The operator's names of the PACS that it comes from."""
    modalities: frozenset[str] = frozenset()
    study_date: str = ""
    """YYYYMMDD (PS3.5 §6.2, DA)."""
    patient_id: str = ""
    accession_number: str = ""
    institution: str = ""
    """Institution Name (0008,0080)."""
    status: str = ""
    """Of whichever attribute says that a study is released."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study may be given, and which rule says so."""

    allowed: bool
    rule: str = ""
    """The setting that decided; empty where none forbids it."""


ALLOWED = Verdict(True)


class Refused(Exception):
    """A study is not given. The text is for Avara."""

    def __init__(self, text: str, rule: str = "") -> None:
        super().__init__(text)
        self.rule = rule
        """Which forbids it; empty where no rule has been asked, since nobody could say what it wants to know."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules; empty ones ask for nothing. Texts are compared without regard to case and spaces around them."""

    pacs: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    deny_modalities: frozenset[str] = frozenset()
    max_age: timedelta | None = None
    institutions: frozenset[str] = frozenset()
    deny_institutions: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    """Values of :attr:`Facts.status` of which a study has one once it is released."""

    @property
    def any(self) -> bool:
        """Whether there is a rule."""
        return self != Rules()

    def judge(
        self,
        facts: Facts,
        today: date,
        denied_patients: frozenset[str] | None = None,
        denied_accessions: frozenset[str] | None = None,
    ) -> Verdict:
        """The first rule that forbids it, or that it is allowed. The lists are None where there are none."""
        for rule, allowed in (
            ("deny_patients", _not_in(facts.patient_id, denied_patients)),
            # A study without an accession number is on no list of them.
            ("deny_accessions", not facts.accession_number or _not_in(facts.accession_number, denied_accessions)),
            ("pacs", not self.pacs or (bool(facts.pacs) and facts.pacs <= self.pacs)),
            ("modalities", not self.modalities or self._known_machines(facts.modalities)),
            (
                "deny_modalities",
                not self.deny_modalities or (bool(facts.modalities) and not facts.modalities & self.deny_modalities),
            ),
            ("max_age", self.max_age is None or _young(facts.study_date, today, self.max_age)),
            ("institutions", not self.institutions or folded(facts.institution) in self.institutions),
            ("deny_institutions", _not_in(facts.institution, self.deny_institutions or None)),
            ("released_only", not self.released or folded(facts.status) in self.released),
        ):
            if not allowed:
                return Verdict(False, f"access.{rule}")
        return ALLOWED

    def _known_machines(self, modalities: frozenset[str]) -> bool:
        machines = modalities - OF_NO_MACHINE
        return bool(machines) and machines <= self.modalities


def folded(text: str) -> str:
    """*text* as it is compared."""
    return re.sub(r"\s+", " ", text).strip().casefold()


def _not_in(text: str, denied: frozenset[str] | None) -> bool:
    return denied is None or (bool(folded(text)) and folded(text) not in denied)


def _young(study_date: str, today: date, max_age: timedelta) -> bool:
    # ACR-NEMA wrote 2026.11.26, which some still do (PS3.5 §6.2, DA, note).
    digits = study_date.replace(".", "")
    try:
        return today - date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) <= max_age
    except ValueError:
        return False
