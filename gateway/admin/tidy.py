"""The nightly tidy: what is old is forgotten, and the journal's files are made small.

Objects in the store are removed by the jobs that needed them last, events, jobs and slots by who keeps them; what is
left for the night is what takes the journal a moment.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from gateway.journal import Journal, Transaction, retention
from gateway.journal import alerts as table
from gateway.reports import FETCH, FOLDER, HL7, PACS
from gateway.runtime import Clock, progress

log = logging.getLogger(__name__)

HOUR = 3
"""Of the night, by this machine's time."""


class Tidy:
    """Tidies every night."""

    def __init__(self, journal: Journal, *, keep_for: float, keep_reports_for: float, clock: Clock) -> None:
        """*keep_for* are seconds for which what is over is remembered, *keep_reports_for* those for which it is known
        which reports a study had, and which of Avara's studies it is."""
        self._journal = journal
        self._keep_for = keep_for
        self._keep_reports_for = keep_reports_for
        self._clock = clock

    async def watch(self) -> None:
        """Tidies for ever. Raises JournalError."""
        while True:
            progress()
            await self._clock.sleep(until_night(self._clock.now()))
            await self.tidy()

    async def tidy(self) -> None:
        """Tidies now. Raises JournalError."""

        def forget(c: Transaction) -> None:
            table.forget(c, before=c.now - self._keep_for)

        def forget_known(c: Transaction) -> int:
            return retention.forget(c, before=c.now - self._keep_reports_for, kinds=(FETCH, PACS, HL7, FOLDER))

        await self._journal.run(forget)
        gone = 0
        while number := await self._journal.run(forget_known):
            progress()
            gone += number
        await self._journal.tidy()
        log.info(
            "tidied: what is over is forgotten after %.0f days; of reports and Avara's studies nothing was needed for "
            "%.0f days in %d cases, and is forgotten", self._keep_for / 86400, self._keep_reports_for / 86400, gone,
        )  # fmt: skip


def until_night(now: float) -> float:
    """Seconds from *now*, unix seconds, to the next tidy."""
    local = datetime.fromtimestamp(now).astimezone()
    night = local.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if night <= local:
        night += timedelta(days=1)
    return night.timestamp() - now
