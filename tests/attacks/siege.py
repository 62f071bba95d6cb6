"""Honest work beside an attack, timed.

In the suite there is only a bound that no machine misses on which the work is done at all: what is held up by an
attack waits for a time-out. ``make attacks`` does the work in turn with and without each attack, again and again, and
tells how many times as long it takes beside it: what a busy machine does meanwhile hits both.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field

HELD_UP = 15.0
"""Seconds: the median of honest works beside an attack is less, however busy the machine is."""

TIMES = 2.0
"""As many times their usual time honest works may take beside an attack, where that is measured."""

WORKS = 3
"""Honest works of which a median is."""


@dataclass
class Siege:
    """What one attack did to honest work."""

    name: str
    usual: list[float] = field(default_factory=list)
    """Seconds of each work without the attack."""
    beside: list[float] = field(default_factory=list)
    """Seconds of each work beside it."""
    load: float = 0.0

    @property
    def ratio(self):
        """How many times as long it took."""
        return statistics.median(self.beside) / statistics.median(self.usual)

    async def lay(self, attack, work, rounds):
        """Does *work* beside *attack*, which makes an async context manager that is left when all is over; so many
        *rounds* with and without it, or, if there are none, once with it."""
        self.load = os.getloadavg()[0]
        for _ in range(rounds or 1):
            self.usual += await timed(work, WORKS if rounds else 1)
            async with attack():
                self.beside += await timed(work, WORKS)
        assert statistics.median(self.beside) < HELD_UP
        assert not rounds or self.ratio < TIMES


async def timed(work, times):
    """Seconds that it takes, for each of so many *times*."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        await work()
        took.append(time.monotonic() - began)
    return took


def table(sieges):
    """What ``make attacks`` tells, as Markdown."""
    yield "| attack | usual s | beside it s | times | works | load |"
    yield "|---|---|---|---|---|---|"
    for s in sieges:
        usual, beside = statistics.median(s.usual), statistics.median(s.beside)
        name = s.name.removeprefix("test_").replace("_", " ")
        yield f"| {name} | {usual:.2f} | {beside:.2f} | {s.ratio:.2f} | {len(s.beside)} | {s.load:.1f} |"
