"""The jobs of an outbox: one brings one object into one PACS. Its kind is
named after its outbox: ``capture.store``, ``report.store``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.journal import Payload


@dataclasses.dataclass(frozen=True, slots=True)
class StoreObject(Payload):
    """What a job works with that stores an object in a PACS."""

    VERSION: ClassVar[int] = 1

    target: str
    """The operator's name for the PACS."""
    key: str | None
    """Where the object lies in our store, as a Part 10 file; None once it is no longer needed."""
    size: int
    """Bytes of the file."""
    sha256: str
    """Of what it came from, in hex."""
    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    series_instance_uid: str = ""
    """Empty where whether the PACS holds another one need not be asked."""
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Where it came from, for the operator: identifiers, by what they are."""
    unheard: bool = False
    """The PACS has not said yet whether it holds another object of this SOP Instance UID: that is asked first."""
    stored: bool = False
    """The PACS has it; its commitment is awaited."""
    stored_in_vain: int = 0
    """How often it was stored and the PACS then did not commit itself to it."""

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
        return {"sop_instance": self.sop_instance_uid, "study": self.study_instance_uid, **self.source}

    @classmethod
    def upgrade(cls, form: int, kept: dict[str, Any]) -> dict[str, Any]:
        """Form 0 had other names, and the source's fields among them."""
        source = {name: str(kept[name]) for name in ("slot", "report", "study_id") if kept.get(name)}
        return kept | {
            "study_instance_uid": kept.get("study"), "sop_class_uid": kept.get("sop_class"),
            "sop_instance_uid": kept.get("sop_instance"), "transfer_syntax_uid": kept.get("transfer_syntax"),
            "source": source, "stored": bool(kept.get("stored")), "stored_in_vain": kept.get("tries", 0),
        }  # fmt: skip
