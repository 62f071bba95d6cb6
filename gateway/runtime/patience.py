"""A time-out for waits that come one after the other, thousands of them, and seldom take long."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Patience:
    """Bounds one wait at a time. ``asyncio.timeout`` arms a timer for each, which costs more than to take what comes;
    here one timer stays over many, and looks when it fires whether anything waits."""

    def __init__(self, over: Callable[[], None]) -> None:
        """*over* is called once a wait has lasted too long."""
        self._loop = asyncio.get_running_loop()
        self._over = over
        self._until = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False
        """Whether the wait that has begun, and not ended, has lasted too long."""

    def begin(self, seconds: float) -> None:
        """A wait begins, and may last so many *seconds*."""
        self._until = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._until:
            self._arm()

    def end(self) -> None:
        """It has ended."""
        self._until, self.is_over = math.inf, False

    def close(self) -> None:
        """There are no more."""
        self._until = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._until == math.inf:
            return
        if self._loop.time() < self._until:
            self._arm()
        else:
            self._until, self.is_over = math.inf, True
            self._over()
