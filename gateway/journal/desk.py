"""What an operator sees of the jobs, and does with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from gateway.journal import jobs as table
from gateway.journal import retention
from gateway.journal.job import CLEAN, Job, JobState, Unfit, job_of
from gateway.journal.journal import Journal
from gateway.journal.payload import Payload
from gateway.journal.tables import job_history, jobs, paused_lanes
from gateway.journal.transaction import Transaction

AT_ONCE = 1000
"""Jobs that a transaction forgets: whoever else needs the journal gets in between."""

KEPT_FOR = 90 * 86400.0
"""Seconds for which a job that is done is remembered, and with it that its work need not be done again."""

DISCARDED_KEPT_FOR = 7 * 86400.0
"""Seconds for which the objects of a discarded job are kept, for an operator who thinks better of it."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened to a job."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class PausedLane:
    """A place that does not answer, and is therefore tried now and then only."""

    kind: str
    lane: str
    """The operator's name for the place."""
    since: float
    """Unix seconds at which it last answered, or was first found silent."""
    failures: int
    """Attempts in a row."""
    next_at: float
    """Unix seconds of the next attempt."""
    reason: str
    """Why the latest one failed."""


class Jobs:
    """The jobs of a journal, one call at a time. Every method raises JournalError where the database fails."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def add(self, kind: str, subject: str, payload: Payload, *, text: str = "") -> tuple[Job, bool]:
        """As :func:`gateway.journal.jobs.add`."""
        return await self._journal.run(lambda c: table.add(c, kind, subject, payload, text=text))

    async def get(self, job_id: int) -> Job | None:
        """The job of this number."""
        return await self._journal.run(lambda c: table.get(c, job_id))

    async def history(self, job_id: int) -> list[HistoryEntry]:
        """What happened to a job, in order."""
        wanted = select(job_history).where(job_history.c.job_id == job_id).order_by(job_history.c.id)
        return await self._journal.run(lambda c: [HistoryEntry(r.at, r.text) for r in c.execute(wanted)])

    async def list(
        self,
        states: Collection[JobState] = (),
        kinds: Collection[str] = (),
        *,
        cleaning: bool = True,
        limit: int = 1000,
    ) -> Sequence[Job]:
        """Jobs, the latest first; *cleaning* says whether those that remove what nobody needs are among them."""
        wanted = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if states:
            wanted = wanted.where(jobs.c.state.in_([s.value for s in states]))
        if kinds:
            wanted = wanted.where(jobs.c.kind.in_(kinds))
        if not cleaning:
            wanted = wanted.where(jobs.c.kind != CLEAN)
        return await self._journal.run(lambda c: [job_of(row) for row in c.execute(wanted)])

    async def counts(self) -> dict[tuple[str, JobState], int]:
        """How many jobs of each kind stand where."""
        wanted = select(jobs.c.kind, jobs.c.state, func.count().label("number")).group_by(jobs.c.kind, jobs.c.state)
        return await self._journal.run(
            lambda c: {(row.kind, JobState(row.state)): row.number for row in c.execute(wanted)}
        )

    async def unfinished(self) -> Sequence[tuple[str, float, int]]:
        """Of each kind of jobs that wait or run: its name, when the oldest was added, and how many attempts of theirs
        have failed."""
        waits = jobs.c.state.in_([JobState.WAITING.value, JobState.RUNNING.value])
        wanted = select(jobs.c.kind, func.min(jobs.c.created).label("oldest"), func.sum(jobs.c.attempts).label("tries"))
        wanted = wanted.where(waits).group_by(jobs.c.kind)
        return await self._journal.run(lambda c: [(row.kind, row.oldest, row.tries) for row in c.execute(wanted)])

    async def paused_lanes(self) -> Sequence[PausedLane]:
        """The places that do not answer."""
        wanted = select(paused_lanes).order_by(paused_lanes.c.kind, paused_lanes.c.lane)
        return await self._journal.run(
            lambda c: [PausedLane(r.kind, r.lane, r.since, r.failures, r.next_at, r.reason) for r in c.execute(wanted)]
        )

    async def retry(self, job_id: int, *, by: str = "") -> Job:
        """Lets a job that waits or is quarantined be tried now; *by* names the operator. Raises Unfit."""
        who = f"an operator ({by})" if by else "an operator"

        def begin(c: Transaction) -> Job:
            job = _known(c, job_id)
            if job.state not in (JobState.WAITING, JobState.QUARANTINED):
                raise Unfit(f"job {job_id} is {job.state.value}: there is nothing to retry")
            table.reschedule(c, job, f"{who} asked for it to be tried again")
            return _known(c, job_id)

        return await self._journal.run(begin)

    async def discard(self, job_id: int, why: str) -> Job:
        """Ends a job undone, by an operator's decision. Raises Unfit."""

        def drop(c: Transaction) -> Job:
            job = _known(c, job_id)
            if job.state not in (JobState.WAITING, JobState.QUARANTINED):
                raise Unfit(
                    f"job {job_id} is {job.state.value}: "
                    + ("let it end first" if job.state is JobState.RUNNING else "there is nothing to discard")
                )
            table.end(c, job, JobState.DISCARDED, why, clean_after=DISCARDED_KEPT_FOR)
            # Its subject may come again: what was discarded is no proof that the work was done.
            c.execute(update(jobs).where(jobs.c.id == job_id).values(subject=f"{job.subject[:200]} discarded {job_id}"))
            return _known(c, job_id)

        return await self._journal.run(drop)

    async def size(self) -> int:
        """Bytes of the journal's file."""
        return await self._journal.run(retention.size)

    async def purge(self, *, keep_for: float = KEPT_FOR) -> int:
        """Forgets jobs that were done or discarded more than *keep_for* seconds ago; how many."""
        over = jobs.c.state.in_([JobState.DONE.value, JobState.DISCARDED.value])

        def some(c: Transaction) -> int:
            old = select(jobs.c.id).where(over, jobs.c.ended < c.now - keep_for).limit(AT_ONCE)
            return c.execute(delete(jobs).where(jobs.c.id.in_(old))).rowcount

        gone = 0
        while number := await self._journal.run(some):
            gone += number
        return gone


def _known(c: Transaction, job_id: int) -> Job:
    job = table.get(c, job_id)
    if job is None:
        raise Unfit(f"there is no job {job_id}")
    return job
