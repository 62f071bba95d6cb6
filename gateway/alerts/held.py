"""Raises an alert of every job that waits for an operator, whatever put it there, and ends it once it does not.

It looks at the journal, so that no way of holding a job can forget to tell of it, and an operator's command in another
process ends the alert as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from gateway.alerts.alert import Alert
from gateway.alerts.jobs import SEND, end_alert, raise_alert
from gateway.journal import Job, Journal, Transaction, jobs
from gateway.journal import alerts as table
from gateway.runtime import Clock, progress

WAITING = ".waiting"
"""Ends the kinds of these alerts, behind what the job is of: ``report.waiting``, ``capture.waiting``."""

LOOKS_EVERY = 2.0
"""Seconds."""

Describe = Callable[[Job], Alert]
"""What is told of a job that is held; kind, subject and time are set here."""


class HeldJobs:
    """Tells of the jobs that are held."""

    def __init__(
        self,
        *,
        journal: Journal,
        channels: Collection[str],
        describe: Describe,
        added: Callable[[], None],
        clock: Clock,
    ) -> None:
        """*channels* by name; *added* is called when a job was added."""
        self._journal = journal
        self._channels = channels
        self._describe = describe
        self._added = added
        self._clock = clock

    async def watch(self) -> None:
        """Looks for ever. Raises JournalError."""
        while True:
            progress()
            await self.look()
            await self._clock.sleep(LOOKS_EVERY)

    async def look(self) -> None:
        """Raises and ends what is due. Raises JournalError."""
        if await self._journal.run(self._compare):
            self._added()

    def _compare(self, c: Transaction) -> bool:
        told = {record.subject: record for record in table.standing(c, WAITING)}
        # A retry begins a new series of attempts, whose end is told of again.
        held = {f"{number} {since}": number for number, since in jobs.held(c, besides=SEND)}
        for subject in held.keys() - told.keys():
            job = jobs.get(c, held[subject])
            assert job is not None, "held a moment ago, in this transaction"
            raise_alert(c, self._channels, self._alert(job, subject, job.ended or self._clock.now()))
        for subject in told.keys() - held.keys():
            job = jobs.get(c, int(subject.partition(" ")[0]))
            if job is None:
                table.put(c, dataclasses.replace(told[subject], ended=self._clock.now()))
            else:
                end_alert(c, self._channels, self._alert(job, subject, self._clock.now()))
        return held.keys() != told.keys()

    def _alert(self, job: Job, subject: str, at: float) -> Alert:
        kind = job.kind.partition(".")[0] + WAITING
        return dataclasses.replace(self._describe(job), kind=kind, subject=subject, at=at, lasts=True)
