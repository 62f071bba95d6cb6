"""Upload slots: which upload URLs were given out, for what, and until when (contract: secondary captures)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from gateway.journal.prepared import Prepared
from gateway.journal.tables import upload_slots
from gateway.journal.transaction import Transaction

GRACE = 15 * 60.0
"""Seconds after its URL's expiry until which an upload may still arrive: it was begun in time."""

KEPT_FOR = 90 * 86400.0


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one object may be uploaded. Times are unix seconds."""

    id: str
    webhook_id: str
    study_id: str
    study_instance_uid: str
    series_instance_uid: str | None
    """Of the object, where Avara announced it; so too ``sop_instance_uid``."""
    sop_instance_uid: str | None
    created: float
    expires: float
    taken: str | None = None
    """SHA-256, in hex, of the first valid upload."""

    @property
    def key(self) -> str:
        """Where in the store the upload goes."""
        return f"{INBOX}{self.id}"


INBOX = "inbox/"
"""The prefix of every upload's key."""

# What runs for each upload is built once.
_BY_ID = Prepared(select(upload_slots).where(upload_slots.c.id == bindparam("slot_id")))
_BY_WEBHOOK = Prepared(select(upload_slots).where(upload_slots.c.webhook_id == bindparam("webhook_id")))
_NEW = Prepared(insert(upload_slots))
_TAKE = Prepared(update(upload_slots).where(upload_slots.c.id == bindparam("slot_id")))
_OPEN = Prepared(select(upload_slots).where(upload_slots.c.expires >= bindparam("before")))
_FORGET = Prepared(delete(upload_slots).where(upload_slots.c.expires < bindparam("before")))


def grant(c: Transaction, slot: Slot) -> Slot:
    """Keeps *slot*; or the one that the same webhook was given before."""
    known = c.row(_BY_WEBHOOK, {"webhook_id": slot.webhook_id})
    if known is not None:
        return _slot(known)
    c.change(
        _NEW,
        {
            "id": slot.id, "webhook_id": slot.webhook_id, "study_id": slot.study_id,
            "study_instance_uid": slot.study_instance_uid, "series_instance_uid": slot.series_instance_uid,
            "sop_instance_uid": slot.sop_instance_uid, "created": slot.created, "expires": slot.expires,
        },
    )  # fmt: skip
    return slot


def get(c: Transaction, slot_id: str) -> Slot | None:
    """The slot of this id."""
    row = c.row(_BY_ID, {"slot_id": slot_id})
    return _slot(row) if row is not None else None


def take(c: Transaction, slot_id: str, sha256: str) -> None:
    """The first valid upload of a slot has won."""
    c.change(_TAKE, {"slot_id": slot_id, "taken": sha256})


def open_slots(c: Transaction) -> Sequence[Slot]:
    """Slots to which an upload may still come. Those that ended long ago are forgotten."""
    c.change(_FORGET, {"before": c.now - KEPT_FOR})
    return [_slot(row) for row in c.rows(_OPEN, {"before": c.now - GRACE})]


def _slot(row: Any) -> Slot:
    return Slot(
        row.id, row.webhook_id, row.study_id, row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid,
        row.created, row.expires, row.taken,
    )  # fmt: skip
