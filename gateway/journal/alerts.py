"""Which alerts were raised, and which of them have ended: each is told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from gateway.journal.tables import alerts
from gateway.journal.transaction import Transaction


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """An alert that was raised. Times are unix seconds."""

    kind: str
    subject: str
    occasion: int
    """From 1 on; one more each time that it is raised after it has ended."""
    raised: float
    ended: float | None


def get(c: Transaction, kind: str, subject: str) -> AlertRecord | None:
    """The alert of this kind and subject, where it was raised."""
    row = c.execute(select(alerts).where(alerts.c.kind == kind, alerts.c.subject == subject)).one_or_none()
    return _record(row) if row is not None else None


def put(c: Transaction, record: AlertRecord) -> None:
    """From now on this is known of its alert."""
    values = {"occasion": record.occasion, "raised": record.raised, "ended": record.ended}
    known = (alerts.c.kind == record.kind) & (alerts.c.subject == record.subject)
    if c.execute(update(alerts).where(known).values(values)).rowcount == 0:
        c.execute(insert(alerts).values(kind=record.kind, subject=record.subject, **values))


def standing(c: Transaction, ending: str) -> list[AlertRecord]:
    """Alerts that have not ended, of the kinds whose names end so."""
    wanted = select(alerts).where(alerts.c.ended.is_(None), alerts.c.kind.endswith(ending, autoescape=True))
    return [_record(row) for row in c.execute(wanted)]


def forget(c: Transaction, *, before: float) -> None:
    """Alerts that were raised before then are known no more."""
    c.execute(delete(alerts).where(alerts.c.raised < before))


def _record(row: Any) -> AlertRecord:
    return AlertRecord(row.kind, row.subject, row.occasion, row.raised, row.ended)
