"""Which alerts were raised, and which of them have ended: each is told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from gateway.journal.prepared import Prepared
from gateway.journal.tables import alerts
from gateway.journal.transaction import Transaction

# What runs for each report is built once.
_BY_SUBJECT = Prepared(
    select(alerts).where(alerts.c.kind == bindparam("kind"), alerts.c.subject == bindparam("subject"))
)


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """An alert that was raised. Times are unix seconds."""

    kind: str
    subject: str
    occasion: int
    """From 1 on; one more each time that it is raised after it has ended."""
    raised: float
    ended: float | None
    alert: str | None = None
    """What was said, as JSON; None of one that an older version raised."""
    lasts: bool = False
    """Whether it stands until it is ended, and people are reminded of it."""
    told: float = 0.0
    """When they heard of it last."""
    reminders: int = 0
    """How often they were reminded."""


def get(c: Transaction, kind: str, subject: str) -> AlertRecord | None:
    """The alert of this kind and subject, where it was raised."""
    row = c.row(_BY_SUBJECT, {"kind": kind, "subject": subject})
    return _record(row) if row is not None else None


def put(c: Transaction, record: AlertRecord) -> None:
    """From now on this is known of its alert."""
    values = {
        "occasion": record.occasion, "raised": record.raised, "ended": record.ended, "alert": record.alert,
        "lasts": record.lasts, "told": record.told, "reminders": record.reminders,
    }  # fmt: skip
    known = (alerts.c.kind == record.kind) & (alerts.c.subject == record.subject)
    if c.execute(update(alerts).where(known).values(values)).rowcount == 0:
        c.execute(insert(alerts).values(kind=record.kind, subject=record.subject, **values))


def standing(c: Transaction, ending: str) -> list[AlertRecord]:
    """Alerts that have not ended, of the kinds whose names end so."""
    wanted = select(alerts).where(alerts.c.ended.is_(None), alerts.c.kind.endswith(ending, autoescape=True))
    return [_record(row) for row in c.execute(wanted)]


def lasting(c: Transaction, *, told_before: float) -> list[AlertRecord]:
    """Alerts that last, have not ended, and of which nobody was told since then."""
    wanted = select(alerts).where(alerts.c.ended.is_(None), alerts.c.lasts, alerts.c.told < told_before)
    return [_record(row) for row in c.execute(wanted)]


def counts(c: Transaction) -> dict[str, int]:
    """How many alerts of each kind last and have not ended."""
    stands = alerts.c.ended.is_(None) & alerts.c.lasts
    wanted = select(alerts.c.kind, func.count().label("number")).where(stands).group_by(alerts.c.kind)
    return {row.kind: row.number for row in c.execute(wanted)}


def latest(c: Transaction, limit: int) -> list[AlertRecord]:
    """The alerts that stand, and behind them those that ended last; *limit* of them."""
    wanted = select(alerts).order_by(alerts.c.ended.is_not(None), alerts.c.ended.desc(), alerts.c.raised.desc())
    return [_record(row) for row in c.execute(wanted.limit(limit))]


def forget(c: Transaction, *, before: float) -> None:
    """Alerts that were raised before then are known no more, unless they last and have not ended."""
    over = or_(alerts.c.ended.is_not(None), ~alerts.c.lasts)
    c.execute(delete(alerts).where(alerts.c.raised < before, over))


def _record(row: Any) -> AlertRecord:
    return AlertRecord(
        row.kind, row.subject, row.occasion, row.raised, row.ended, row.alert, row.lasts, row.told, row.reminders
    )
