"""What answers seldom is asked less often, and tried again by itself.

A PACS that is silent costs whoever asks it a time-out. After a few in a row, what nobody waits for is refused at once,
but for one attempt now and then; what a radiologist waits for is always tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.pacs.errors import PacsError, PacsUnreachable
from gateway.pacs.lanes import Claim, Urgency
from gateway.runtime import SYSTEM_CLOCK, Clock

AFTER = 3
"""Failures in a row after which it is spared."""

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds between two attempts that nobody waits for; they double in between."""


class Breaker:
    """Keeps count of how one service answers."""

    def __init__(self, name: str, clock: Clock = SYSTEM_CLOCK) -> None:
        """*name* is for messages."""
        self._name = name
        self._clock = clock
        self._failures = 0
        self._since = 0.0
        self._next = 0.0
        self._latest = ""
        self._answered: float | None = None

    @property
    def answered_ago(self) -> float | None:
        """Seconds since when it last did what it was asked for; None where it never did."""
        return None if self._answered is None else self._clock.monotonic() - self._answered

    @property
    def silent_for(self) -> float:
        """Seconds since when it does not answer; 0 while it does."""
        return 0.0 if self._failures < AFTER else self._clock.monotonic() - self._since

    @property
    def trouble(self) -> str:
        """For the operator: that it does not answer, since when and how; empty while it does."""
        if self._failures < AFTER:
            return ""
        ago = self._clock.monotonic() - self._since
        return f"it has not answered for {ago:.0f} s, {self._failures} times in a row: {self._latest}"

    @contextmanager
    def attempt(self, claim: Claim) -> Iterator[None]:
        """One request to it. Raises PacsUnreachable at once where it is not to be asked now."""
        if self._failures >= AFTER and claim.urgency() is Urgency.BACKGROUND:
            left = self._next - self._clock.monotonic()
            if left > 0:
                raise PacsUnreachable(f"{self._name} is left alone for {left:.0f} s: {self.trouble}")
            self._pause()  # this one is the attempt; the others wait for what it finds
        try:
            yield
        except PacsUnreachable as e:
            self._fail(str(e))
            raise
        except PacsError:
            self._failures = 0  # it does answer
            raise
        else:
            self._failures = 0
            self._answered = self._clock.monotonic()

    def _fail(self, text: str) -> None:
        if not self._failures:
            self._since = self._clock.monotonic()
        self._failures += 1
        self._latest = text
        self._pause()

    def _pause(self) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(max(self._failures - AFTER, 0), 10), LONGEST_PAUSE)
        self._next = self._clock.monotonic() + pause
