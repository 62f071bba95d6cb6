"""The jobs of secondary captures. ``capture.check`` looks at one upload: (slot, ETag) is what makes it one. Storing it
is the outbox's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.journal import Payload

CHECK = "capture.check"


@dataclass(frozen=True, slots=True)
class CheckUpload(Payload):
    """What ``capture.check`` works with."""

    slot: str
    """The id of the slot that it was uploaded to."""
    key: str | None
    """Where it lies in the store; None once it is no longer needed."""
    size: int
    """Bytes."""
    sop_instance_uid: str = ""
    """Of the object, once it was checked."""
    accepted_by: str = ""
    """The operator who decided that it takes the PACS's patient; empty where nobody did."""

    @property
    def keys(self) -> tuple[str, ...]:
        """As :class:`Payload` has it."""
        return (self.key,) if self.key else ()

    @property
    def about(self) -> Mapping[str, str]:
        """As :class:`Payload` has it."""
        return {"slot": self.slot} | ({"sop_instance": self.sop_instance_uid} if self.sop_instance_uid else {})

    @classmethod
    def upgrade(cls, form: int, kept: dict[str, Any]) -> dict[str, Any]:
        """Form 0 had another name for the UID."""
        return {"key": None, "size": 0} | kept | {"sop_instance_uid": kept.get("sop_instance") or ""}


def check_subject(slot_id: str, etag: str) -> str:
    """What makes an upload the same upload."""
    bare = etag.strip('"')  # quoted in a header, and not in every listing
    return f"{slot_id} {bare}"


def etag_of(subject: str) -> str:
    """The ETag, without quotes, in what :func:`check_subject` made."""
    return subject.partition(" ")[2].strip('"')


def quarantine_key(slot_id: str, sha256: str) -> str:
    """Where an upload lies that waits for an operator."""
    return f"quarantine/{slot_id}/{sha256}"
