"""A report as the deliveries see it (contract: ``report.delivered``)."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.dicom import BASIC_TEXT_SR, ENCAPSULATED_PDF

_NAMESPACE = uuid.UUID("5f4dcf3c-6b57-4d0e-9f38-1a3f5f2b7c61")
"""Ours, for UIDs that are derived from a report; never to be changed, or a retry would be another object."""


@dataclass(frozen=True, slots=True)
class Predecessor:
    """What the version before this one was stored as in the PACS."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a report, as Avara has it."""

    family: str
    given: str
    middle: str = ""
    suffix: str = ""
    """Further ones behind a blank."""
    npi: str = ""
    """National Provider Identifier; empty where there is none."""

    @property
    def person_name(self) -> str:
        """As DICOM writes it (PS3.5 §6.2.1)."""
        return "^".join((self.family, self.given, self.middle, "", self.suffix)).rstrip("^")


@dataclass(frozen=True, slots=True)
class Signing:
    """What Avara says of a report besides the report, or what it does not say."""

    signed_at: float | None = None
    """Unix seconds."""
    signer: Signer | None = None
    facility: str = ""
    lacks: str = ""
    """What could not be asked, for the record; empty where all is known."""


@dataclass(frozen=True, slots=True)
class Report:
    """One version of a signed report, ready to be delivered."""

    report_id: str
    """Avara's."""
    study_id: str
    """Avara's."""
    study_instance_uid: str
    version: int
    """1 for the first; the same report with other content, such as an addendum, is the next one."""
    is_critical: bool
    plain_text: str | None
    pdf: bytes | None
    """None where Avara's PDF could not be had; the text is delivered all the same."""
    received: float
    """Unix seconds at which it was acknowledged."""
    ordinal: int = 1
    """1 for the first report of its study, from 2 on for what was added to it: each is a report of its own."""
    original: str | None = None
    """Avara's id of the report that this one adds to, where it is known which."""
    signing: Signing | None = None
    """None where Avara was not asked."""

    @property
    def is_first(self) -> bool:
        """Whether nothing of the study was reported before: neither another report, nor a version of this one."""
        return self.ordinal == 1 and self.version == 1

    @property
    def series_instance_uid(self) -> str:
        """The series of all versions of this report's PDF, and of what is added to it; stable (PS3.5 Annex B.2)."""
        return derived_uid("series", self.original or self.report_id, self.study_instance_uid)

    @property
    def number_in_series(self) -> int:
        """Instance Number (0020,0013): in the order in which the documents came about."""
        return (self.ordinal - 1) * 1000 + self.version

    @property
    def document_uid(self) -> str:
        """SOP Instance UID of the Encapsulated PDF of this version; stable, so that a retry is the same object."""
        return derived_uid("pdf", self.report_id, self.study_instance_uid, str(self.version))

    @property
    def text_series_uid(self) -> str:
        """The series of all versions of this report's Basic Text SR: another modality, so another series."""
        return derived_uid("text series", self.original or self.report_id, self.study_instance_uid)

    @property
    def text_uid(self) -> str:
        """SOP Instance UID of the Basic Text SR of this version."""
        return derived_uid("text", self.report_id, self.study_instance_uid, str(self.version))

    @property
    def stored_document(self) -> Predecessor:
        """The Encapsulated PDF of this version, as a later one refers to it."""
        return Predecessor(ENCAPSULATED_PDF, self.document_uid, self.series_instance_uid)

    @property
    def stored_text(self) -> Predecessor:
        """The Basic Text SR of this version, as a later one refers to it."""
        return Predecessor(BASIC_TEXT_SR, self.text_uid, self.text_series_uid)


def signing_of(kept: Mapping[str, Any] | None) -> Signing | None:
    """What a job keeps of a signing, as :func:`dataclasses.asdict` gave it."""
    if kept is None:
        return None
    signer = kept.get("signer")
    return Signing(**{**kept, "signer": Signer(**signer) if signer else None})


def worded(text: str | None) -> str | None:
    """*text* where it says anything: of blanks, controls and marks that are not seen, a report has no text."""
    return text if text and not all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text) else None


def derived_uid(*parts: str) -> str:
    """A UID that is the same for the same parts: a name-based UUID under 2.25 (PS3.5 §B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"
