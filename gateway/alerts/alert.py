"""What people are told: identifiers and what to do, and nothing of the patient, since it leaves the clinical systems.

It is sent at least once: its key is the same for every try, as ``Idempotency-Key`` and ``webhook-id`` of a webhook and
as ``Message-ID`` of an e-mail, so that a receiver can drop what it has.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MAX_FACT = 128
"""Characters of an identifier that is told."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that people have to know of at once."""

    kind: str
    """What it is, with the room that raises it first: ``report.critical``, ``capture.waiting``."""
    subject: str
    """What it is about; the same subject is told of once. Not shown."""
    title: str
    """One line."""
    what_to_do: str
    at: float
    """Unix seconds at which it came about."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Identifiers, by the names that a webhook's JSON gives them; the first stands in an e-mail's subject."""
    urgent: bool = False
    lasts: bool = False
    """Whether it stands until it is ended: people are reminded of it every day."""
    ended: bool = False
    """Whether this tells that it is over."""
    occasion: int = 1
    """The how manieth time that this subject came up: an alert that ended can be raised again."""
    reminder: int = 0
    """The how manieth reminder this is; 0: none."""

    @property
    def key(self) -> str:
        """The same for every try, and for nothing else."""
        parts = (self.kind, self.subject, str(self.occasion), "ended" if self.ended else "")
        identity = "\0".join((*parts, str(self.reminder)) if self.reminder else parts)
        return "alert_" + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def headline(self) -> str:
        """One line, with what it is about."""
        about = next(iter(self.facts.values()), "")
        state = "Over: " if self.ended else "Still: " if self.reminder else ""
        return state + self.title + (f": {plain(about)}" if about else "")

    def told(self) -> dict[str, str]:
        """What is told, as a webhook's JSON has it. Identifiers are opaque, and shown as printable ASCII."""
        return {
            "kind": self.kind,
            "state": "ended" if self.ended else "still" if self.reminder else "raised",
            **{name: plain(value) for name, value in self.facts.items()},
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds"),
            "whatToDo": "Nothing: this is over." if self.ended else self.what_to_do,
        }

    def to_json(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Alert:
        """As :meth:`to_json` gave it."""
        return cls(**kept)


def plain(text: str) -> str:
    """*text* as a line of printable ASCII that is not too long."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:MAX_FACT])
