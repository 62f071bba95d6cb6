"""What goes on over restarts, by name: how far something has come, what was learnt."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from gateway.journal.tables import marks
from gateway.journal.transaction import Transaction


def get(c: Transaction, name: str) -> str | None:
    """What was set last; None where nothing was."""
    return c.execute(select(marks.c.value).where(marks.c.name == name)).scalar_one_or_none()


def put(c: Transaction, name: str, value: str | None) -> None:
    """From now on it is this."""
    if c.execute(update(marks).where(marks.c.name == name).values(value=value)).rowcount == 0:
        c.execute(insert(marks).values(name=name, value=value))
