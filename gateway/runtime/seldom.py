"""Log lines about what anybody can cause as often as they like: one a minute, which says how many there were."""

from __future__ import annotations

import logging

from gateway.runtime.clock import SYSTEM_CLOCK, Clock

EVERY = 60.0
"""Seconds between two lines."""


class Seldom:
    """Tells of one kind of thing."""

    def __init__(self, log: logging.Logger, clock: Clock = SYSTEM_CLOCK) -> None:
        self._log = log
        self._clock = clock
        self._untold = 0
        self._told = float("-inf")

    def warning(self, text: str, *args: object) -> None:
        """Tells it, unless another was told of a moment ago; then it is counted."""
        now = self._clock.monotonic()
        if now - self._told < EVERY:
            self._untold += 1
            return
        more = f" (and {self._untold} like it before)" if self._untold else ""
        self._log.warning(text + more, *args)
        self._untold, self._told = 0, now
