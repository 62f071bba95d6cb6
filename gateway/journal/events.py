"""What happened, for whoever asks why: a time line across webhook, fetch, PACS, store, upload, report and operator.

An event has a text in words and any number of keys, by which it is found: UIDs, Avara's ids, a webhook's id, a job's
number. Accession numbers and patient IDs are kept as keyed hashes only: they can be searched for, and not read.

What notes an event does not wait: events are collected, and written a moment later, many in one transaction. What must
not be lost is written by the transactions that do the work (a job's history is); this is for people.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import hmac
import logging
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, insert, select

from gateway.journal.errors import JournalError
from gateway.journal.journal import Journal
from gateway.journal.prepared import Prepared
from gateway.journal.tables import event_keys, events
from gateway.journal.transaction import Transaction
from gateway.runtime import SYSTEM_CLOCK, Clock, progress

log = logging.getLogger(__name__)

WRITES_EVERY = 0.5
"""Seconds between two transactions."""

MOST_WAITING = 20_000
"""Events that wait for the journal; past them the oldest are let go, and their number is told."""

AT_ONCE = 500
"""Events in one transaction."""

PURGES_EVERY = 3600.0

MOST_REFUSED = 1000
"""Refusals that are noted in an hour: anybody can cause them, who finds the door."""

MAX_TEXT, MAX_KEY, MAX_KEYS = 2000, 256, 40

# What runs for each event is built once.
_NEW, _NEW_KEYS = Prepared(insert(events).returning(events.c.id)), Prepared(insert(event_keys))


class EventKind(enum.Enum):
    """What kind of thing happened."""

    WEBHOOK = "webhook"
    """Avara asked, and was answered."""
    REFUSED = "refused"
    """Somebody asked and was turned away: a webhook, an association, a URL."""
    FETCH = "fetch"
    """A study came from the PACS, or did not."""
    CACHE = "cache"
    """What lies in the cache was dropped, or replaced."""
    ALERT = "alert"
    """People were told that something is wrong, still is, or is over."""
    OPERATOR = "operator"
    """Somebody of the hospital did something by command or page."""


@dataclass(frozen=True, slots=True)
class JournalEvent:
    """Something that happened. Its text holds identifiers, never patient data."""

    at: float
    """Unix seconds."""
    kind: EventKind
    text: str
    keys: tuple[str, ...]
    trouble: bool = False
    """Whether somebody may want to know why."""


class EventLog:
    """Collects events, and writes them to the journal in its own time."""

    def __init__(self, journal: Journal, *, secret: bytes, keep_for: float, clock: Clock = SYSTEM_CLOCK) -> None:
        """*secret* keys the hashes of what names a patient; *keep_for* is seconds."""
        self._journal = journal
        self._secret = secret
        self._keep_for = keep_for
        self._clock = clock
        self._waiting: deque[JournalEvent] = deque()
        self._let_go = 0
        self._refused, self._refused_hour = 0, 0
        self._writing = asyncio.Lock()

    def note(
        self,
        kind: EventKind,
        text: str,
        keys: Iterable[str | None],
        *,
        patient_keys: Iterable[str] = (),
        trouble: bool = False,
    ) -> None:
        """Something happened. *patient_keys* are accession numbers and patient IDs, of which hashes are kept."""
        if kind is EventKind.REFUSED and not self._may_be_noted():
            return
        every = [key[:MAX_KEY] for key in keys if key] + [self.hidden(key) for key in patient_keys if key.strip()]
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._let_go += 1
        found = tuple(dict.fromkeys(every))[:MAX_KEYS]
        self._waiting.append(JournalEvent(self._clock.now(), kind, text[:MAX_TEXT], found, trouble))

    def _may_be_noted(self) -> bool:
        """Whether another refusal may be; where too many come in an hour, the next one tells how many were not."""
        hour = int(self._clock.now() // 3600)
        if hour != self._refused_hour:
            unwritten, self._refused, self._refused_hour = self._refused - MOST_REFUSED, 0, hour
            if unwritten > 0:
                told = f"{unwritten} more were refused in an hour, and not noted"
                self.note(EventKind.REFUSED, told, [], trouble=True)
        self._refused += 1
        return self._refused <= MOST_REFUSED

    def hidden(self, value: str) -> str:
        """The key under which an accession number or a patient ID is kept."""
        return "hash:" + hmac.new(self._secret, value.strip().encode(), hashlib.sha256).hexdigest()[:40]

    async def run(self) -> None:
        """Writes what was noted, and forgets what is old, until it is cancelled."""
        purge_at = self._clock.monotonic()
        while True:
            progress()
            try:
                await self.flush()
                if self._clock.monotonic() >= purge_at:
                    purge_at = self._clock.monotonic() + PURGES_EVERY
                    await self._journal.run(lambda c: forget(c, c.now - self._keep_for))
            except JournalError as e:
                log.warning("events wait: %s", e)
            await self._clock.sleep(WRITES_EVERY)

    async def flush(self) -> None:
        """Writes all that was noted so far. Raises JournalError."""
        async with self._writing:  # whoever looks has it written, too: each event once
            if self._let_go:
                count, self._let_go = self._let_go, 0
                log.warning("%d events were not kept: the journal is slower than what happens", count)
            while self._waiting:
                batch = [self._waiting[n] for n in range(min(AT_ONCE, len(self._waiting)))]
                await self._journal.run(lambda c, batch=batch: write(c, batch))  # type: ignore[misc]
                for _ in batch:
                    self._waiting.popleft()


def write(c: Transaction, batch: Sequence[JournalEvent]) -> None:
    """Keeps events."""
    for event in batch:
        row = {"at": event.at, "kind": event.kind.value, "text": event.text, "trouble": event.trouble}
        event_id = c.value(_NEW, row)
        c.for_each(_NEW_KEYS, [{"event_id": event_id, "key": key} for key in event.keys])


def find(c: Transaction, keys: Collection[str], limit: int) -> list[JournalEvent]:
    """The latest *limit* events that have one of *keys*, in order."""
    named = select(event_keys.c.event_id).where(event_keys.c.key.in_(keys)).distinct()
    wanted = select(events).where(events.c.id.in_(named)).order_by(events.c.at.desc(), events.c.id.desc()).limit(limit)
    return _events(c, wanted)


def latest(c: Transaction, kind: EventKind, limit: int) -> list[JournalEvent]:
    """The latest *limit* events of a kind, in order."""
    wanted = select(events).where(events.c.kind == kind.value).order_by(events.c.id.desc()).limit(limit)
    return _events(c, wanted)


def count(c: Transaction, kind: EventKind, *, since: float, until: float) -> int:
    """How many events of a kind there were from *since* on and before *until*."""
    wanted = select(func.count()).where(events.c.kind == kind.value, events.c.at >= since, events.c.at < until)
    found: int = c.execute(wanted).scalar_one()
    return found


def first(c: Transaction, kind: EventKind) -> float | None:
    """When the first event of a kind was that is still kept."""
    found: float | None = c.execute(select(func.min(events.c.at)).where(events.c.kind == kind.value)).scalar_one()
    return found


def _events(c: Transaction, wanted: Select[Any]) -> list[JournalEvent]:
    rows = list(c.execute(wanted))
    keys: dict[int, list[str]] = {row.id: [] for row in rows}
    of_rows = select(event_keys).where(event_keys.c.event_id.in_(keys)).order_by(event_keys.c.event_id)
    for row in c.execute(of_rows):
        keys[row.event_id].append(row.key)
    return [
        JournalEvent(row.at, EventKind(row.kind), row.text, tuple(keys[row.id]), row.trouble) for row in reversed(rows)
    ]


def forget(c: Transaction, before: float) -> int:
    """Forgets events older than *before* (unix seconds); how many."""
    return c.execute(delete(events).where(events.c.at < before)).rowcount
