"""What reading may cost the event loop: who costs more than their bytes are worth is read later, and nobody else.

Bytes are cheap: a large fragment costs a copy. Headers are dear: a megabyte of fragments of a few bytes takes tenths of
a second, and so do echoes without end, which store nothing. What a connection costs beyond the worth of its bytes, and
of the instances that were taken from it, is charged to its account, and all accounts together are filled up again by a
share of the loop's time. One that is overdrawn is not read until it is filled up: the more of them there are, the
slower each is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.1
"""Of the event loop's time, what all connections may cost together beyond what they are worth."""

CREDIT = 0.05
"""Seconds of CPU beyond the worth of its bytes that a connection may cost at once."""

WORTH = 5e-9
"""Seconds of CPU that a byte may cost: several times what it does in fragments of a kilobyte."""

TAKEN = 500e-6
"""Seconds of CPU that an instance which was taken is worth: more than one costs that comes in small fragments."""

FRUITLESS = 500e-6
"""Seconds of CPU that a message costs which stores nothing, with all that is done for it: an echo takes half of it."""


class CpuBudget:
    """The accounts of all connections that somebody opened to us."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._drawn: set[Account] = set()

    def account(self) -> Account:
        """A new one."""
        return Account(self._drawn, self._clock)


class Account:
    """What one connection may still cost."""

    def __init__(self, drawn: set[Account], clock: Callable[[], float]) -> None:
        self._drawn = drawn  # those that are not full
        self._clock = clock
        self._left = CREDIT
        self._as_of = clock()
        self._bytes = 0

    @property
    def sound(self) -> bool:
        """Whether it has shown that it is cheap to read."""
        return self._bytes >= 64 * 1024 and self._left > CREDIT / 2

    def spend(self, seconds: float, received: int = 0) -> float:
        """Charges CPU for *received* bytes; seconds for which the connection is to be left alone."""
        now = self._clock()
        filled = (now - self._as_of) * SHARE / max(len(self._drawn), 1)
        self._left = min(self._left + filled, CREDIT) - max(seconds - received * WORTH, 0.0)
        self._as_of = now
        self._bytes += received
        if self._left >= CREDIT:
            self._drawn.discard(self)
            return 0.0
        self._drawn.add(self)
        return max(-self._left, 0.0) * len(self._drawn) / SHARE

    def earn(self, seconds: float) -> None:
        """Credits what came with the worth of CPU."""
        self._left = min(self._left + seconds, CREDIT)

    def close(self) -> None:
        """The connection is gone."""
        self._drawn.discard(self)
