"""Time, handed in: so that a test of days takes milliseconds, and a clock that jumps can be tried."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time to whatever decides by it."""

    def now(self) -> float:
        """Unix seconds. It can jump, ahead and back: for what is shown, signed, or kept over a restart."""

    def monotonic(self) -> float:
        """Seconds that never go back, since an unknown moment of this process: for measuring and waiting."""

    async def sleep(self, seconds: float) -> None:
        """Returns after so many seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """As :class:`Clock` has it."""
        return time.time()

    def monotonic(self) -> float:
        """As :class:`Clock` has it; the same as the event loop's time."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """As :class:`Clock` has it."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


async def wait_for(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Returns once *event* is set, or after so many *seconds* of the clock."""
    if event.is_set():
        return
    waits = [asyncio.create_task(event.wait()), asyncio.create_task(clock.sleep(seconds))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
