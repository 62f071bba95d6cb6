"""The jobs of reports, and what they work with. ``report.fetch`` is what an acknowledged event becomes: (report,
webhook) makes it one. It ends in one job for each place that the version is to be brought to.

Fields have the names that they had in form 0, so that an older version of the gateway can go on with what this one
wrote.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gateway.journal import Payload

FETCH, PACS, HL7, FOLDER = "report.fetch", "report.pacs", "report.hl7", "report.folder"

STORE = "report.store"
"""The outbox's: an object that ``report.pacs`` has made is stored."""

MAX_SHOWN = 160
"""Characters of an identifier of Avara's in a subject, which has room for 256 with a hash behind it."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchReport(Payload):
    """What ``report.fetch`` works with."""

    report: str
    """Avara's id of the report."""
    study_id: str
    """Avara's."""
    study: str | None
    """Study Instance UID, as the event or an operator says."""
    critical: bool
    received: float
    """Unix seconds at which it was acknowledged."""
    text: str | None = None
    url: str | None = None
    """Where its PDF can be fetched from; None where nobody has said, and once it is here."""
    patient_id: str | None = None
    """As the event names the patient."""
    key: str | None = None
    """Where its PDF lies in the store; None until it does."""
    sha256: str | None = None
    """Of the PDF, in hex."""
    told: Mapping[str, Any] | None = None
    """What Avara's API tells of it (:class:`gateway.reports.inquiry.ReportFacts`); None until it was asked."""
    assigned: bool = False
    """An operator has said which study it is of."""
    text_sent: bool = False
    """Its text has gone out by itself."""

    @property
    def keys(self) -> tuple[str, ...]:
        """As :class:`Payload` has it."""
        return (self.key,) if self.key else ()

    @property
    def about(self) -> Mapping[str, str]:
        """As :class:`Payload` has it."""
        return _about(self)

    def dump(self) -> str:
        """As :class:`Payload` has it. In form 0 Avara was asked where ``told`` is there at all."""
        kept = json.loads(Payload.dump(self))
        if self.told is None:
            del kept["told"]
        return json.dumps(kept)

    def record(self, study: str) -> FetchReport:
        """What is kept once it is done: identifiers, and nothing of the patient."""
        return FetchReport(self.report, self.study_id, study, self.critical, self.received)

    @classmethod
    def upgrade(cls, form: int, kept: dict[str, Any]) -> dict[str, Any]:
        """Form 0 had fields only once they were known."""
        return {"study": None, "critical": False, "received": 0.0} | kept


@dataclasses.dataclass(frozen=True, slots=True)
class DeliverReport(Payload):
    """What ``report.pacs``, ``report.hl7`` and ``report.folder`` work with: one version of a report for one place."""

    target: str
    """The operator's name for the place."""
    report: str
    """Avara's id of the report."""
    study_id: str
    """Avara's."""
    study: str
    """Study Instance UID."""
    version: int
    critical: bool
    received: float
    """Unix seconds at which it was acknowledged."""
    text: str | None = None
    key: str | None = None
    """Where its PDF lies in the store; None where it goes out without."""
    ordinal: int = 1
    """1 for the first report of its study, from 2 on for what was added to it."""
    original: str | None = None
    """Avara's id of the report that it adds to, where it is known which."""
    signing: Mapping[str, Any] | None = None
    """Who signed it (:class:`gateway.reports.report.Signing`); None where Avara was not asked."""

    @property
    def lane(self) -> str:
        """As :class:`Payload` has it."""
        return self.target

    @property
    def keys(self) -> tuple[str, ...]:
        """As :class:`Payload` has it."""
        return (self.key,) if self.key else ()

    @property
    def about(self) -> Mapping[str, str]:
        """As :class:`Payload` has it."""
        return _about(self)

    @property
    def record(self) -> DeliverReport:
        """What is kept once it is done: identifiers, and nothing of the patient."""
        return DeliverReport(
            self.target, self.report, self.study_id, self.study, self.version, self.critical, self.received
        )

    @classmethod
    def upgrade(cls, form: int, kept: dict[str, Any]) -> dict[str, Any]:
        """Form 0 kept less of what is done."""
        return {"critical": False, "received": 0.0} | kept


def _about(payload: FetchReport | DeliverReport) -> Mapping[str, str]:
    named = {"study": payload.study, "report": payload.report, "study_id": payload.study_id}
    return {name: value for name, value in named.items() if value}


def subject(report_id: str, *others: str) -> str:
    """What makes work on a report the same work; readable as far as there is room."""
    digest = hashlib.sha256("\0".join((report_id, *others)).encode()).hexdigest()[:32]
    return f"{report_id[:MAX_SHOWN]} {digest}"
