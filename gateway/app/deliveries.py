"""Keeps over a restart which webhooks were answered, so that a captured one gets nothing new from the next start.

Written a moment after the answer has left, many at once: no answer waits for it. What it comes to when a gateway is
killed in that moment, and what Avara's own repeats get, is in docs/security.md.
"""

from __future__ import annotations

import logging

from gateway.avara import GOOD_FOR, Deliveries
from gateway.journal import Journal, JournalError
from gateway.journal import deliveries as kept_deliveries
from gateway.runtime import SYSTEM_CLOCK, Clock, Seldom, progress

log = logging.getLogger(__name__)

WRITES_EVERY = 0.5
"""Seconds between two transactions."""


class KeptDeliveries:
    """The deliveries that a gateway has answered, those of its earlier starts included."""

    def __init__(self, journal: Journal, clock: Clock = SYSTEM_CLOCK) -> None:
        self._journal = journal
        self._clock = clock
        self._told = Seldom(log)
        self.answered = Deliveries(clock)

    async def load(self) -> None:
        """Has what earlier starts have answered. Raises JournalError."""
        known = await self._journal.run(lambda c: kept_deliveries.kept(c, good_for=GOOD_FOR))
        self.answered.restore(known)

    async def run(self) -> None:
        """Writes what was answered, until it is cancelled."""
        while True:
            progress()
            try:
                await self.flush()
            except JournalError as e:
                self._told.warning("which webhooks were answered is not kept over a restart at the moment: %s", e)
            await self._clock.sleep(WRITES_EVERY)

    async def flush(self) -> None:
        """Writes all that was answered so far. Raises JournalError; it is kept then, to be written later."""
        if not (signed := self.answered.take()):
            return
        try:
            await self._journal.run(lambda c: kept_deliveries.keep(c, signed, good_for=GOOD_FOR))
        except BaseException:
            self.answered.put_back(signed)
            raise
