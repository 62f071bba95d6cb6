"""A clock that a test turns by hand, so that days take milliseconds and jumps can be tried."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Stands still until a test moves it. As :class:`gateway.runtime.clock.Clock`."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + max(seconds, 0.0), next(self._numbers), woken))
        await woken

    def jump(self, seconds: float) -> None:
        """The wall clock is set, ahead or back; no time passes."""
        self._now += seconds

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """So many seconds pass, in steps, and whoever sleeps wakes in its time."""
        until = self._monotonic + seconds
        while self._monotonic < until:
            moved = min(step, until - self._monotonic)
            self._monotonic += moved
            self._now += moved
            self._wake()
            await settle()

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)


async def settle(rounds: int = 3) -> None:
    """Lets what can go on without time passing go on: tasks, and the journal's thread."""
    for _ in range(rounds):
        await asyncio.sleep(0.002)
