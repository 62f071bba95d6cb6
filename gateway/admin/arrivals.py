"""What Avara's webhooks say of the way to us: whether they come, are signed right, and when by Avara's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gateway.avara import Answered, Refused
from gateway.journal import EventKind, Transaction, events
from gateway.runtime import Clock

WEEK = 7 * 86400.0

WEEKS = 4
"""Weeks that are looked back; events are kept for a little longer."""

LEAST_WEEKS = 2
"""Weeks that have to be known before anything is usual."""

LEAST_USUAL = 3
"""Webhooks in the same hours of a week from which on there usually are some."""

LOOKED_AT = 5
"""Webhooks whose time is compared: one that was long on its way says nothing."""


class Arrivals:
    """Keeps account of the webhooks of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead: deque[float] = deque(maxlen=LOOKED_AT)
        self.began = clock.now()
        self.unproven = 0
        """Webhooks in a row whose signature was not right."""
        self.why = ""
        """What was wrong with the last one."""
        self.unproven_since: float | None = None
        """Unix seconds of the first of these."""
        self.last = 0.0
        """Unix seconds at which the last good one came; 0 where none did."""

    def note(self, what: Answered | Refused) -> None:
        """A webhook came."""
        if isinstance(what, Answered):
            self.unproven, self.unproven_since, self.last = 0, None, self._clock.now()
            self._ahead.append(self.last - what.milliseconds / 1000 - what.signed_at)
        elif what.unproven:
            if not self.unproven:
                self.unproven_since = self._clock.now()
            self.unproven += 1
            self.why = what.reason

    @property
    def clock_ahead(self) -> float | None:
        """Seconds by which our clock is ahead of Avara's; None while that is not known. What was long on its way makes
        it seem more: so the least of the last few counts."""
        if len(self._ahead) < LOOKED_AT:
            return None
        return min(self._ahead, key=abs)


def usual(counts: Sequence[int], weeks_known: int) -> bool:
    """Whether there usually are webhooks at this time, by how many there were in the same hours of the weeks before,
    the last week first; of these, *weeks_known* are whole in the journal."""
    known = counts[: min(weeks_known, WEEKS)]
    return len(known) >= LEAST_WEEKS and min(known) >= LEAST_USUAL


def silent_unusually(c: Transaction, seconds: float) -> bool:
    """Whether no webhook came for so many *seconds*, where in the same hours of every week before there were some."""
    since, until = c.now - seconds, c.now
    if events.count(c, EventKind.WEBHOOK, since=since, until=until + 1):
        return False
    first = events.first(c, EventKind.WEBHOOK)
    if first is None:
        return False
    weeks = [WEEK * n for n in range(1, WEEKS + 1)]
    counts = [events.count(c, EventKind.WEBHOOK, since=since - week, until=until - week) for week in weeks]
    return usual(counts, int(max(since - first, 0.0) // WEEK))
