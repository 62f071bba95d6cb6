"""Does durable jobs: takes what is due, hands it to the handler of its kind, records how it ended."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
from collections.abc import Callable

from sqlalchemy import delete

from gateway.journal import jobs as table
from gateway.journal import leases
from gateway.journal.desk import KEPT_FOR, Jobs
from gateway.journal.endings import Ending, record, record_lane
from gateway.journal.errors import JournalError
from gateway.journal.handling import CannotBeDone, JobDone, JobStep, Kind, PlaceSilent, Recorded, TryLater
from gateway.journal.job import Job, JobLost, JobState
from gateway.journal.journal import Journal
from gateway.journal.lanes import Change, Key, Lanes, LaneState, Outcome
from gateway.journal.tables import paused_lanes
from gateway.journal.transaction import Transaction
from gateway.runtime import GatewayError, bound, progress, span, step, wait_for

log = logging.getLogger(__name__)

LEASE = 60.0
"""Seconds for which a job is a worker's; renewed while it lives."""

AT_ONCE = 48
"""Jobs of all lanes together that run at once: each has an association, a connection, or a file open."""

LOOKS_EVERY = 1.0
"""Seconds between two looks for jobs that another process, such as ``jobs retry``, has made due."""

PURGES_EVERY = 3600.0

RECORDS_AGAIN_AFTER = 2.0
"""Seconds before the end of a job that could not be recorded is recorded again."""


class Worker:
    """Does the jobs of some kinds until it is stopped. What it is stopped in is done again later."""

    def __init__(
        self,
        journal: Journal,
        *,
        alone: bool = True,
        at_once: int = AT_ONCE,
        keep_for: float = KEPT_FOR,
        on_over: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """*alone* says that no other worker uses this journal, as the lock of its ``state_dir`` ensures: what others
        hold they held when they were killed. *at_once* is how many jobs run at once, in all lanes together; *keep_for*
        are seconds for which those that are over are remembered. *on_over* is told of each that is done here, or waits
        for an operator from now on; it must not wait."""
        self._on_over = on_over
        self._keep_for = keep_for
        self._journal = journal
        self._clock = journal.clock
        self._jobs = Jobs(journal)
        self._kinds: dict[str, Kind] = {}
        self._owner = f"{socket.gethostname()[:32]} {os.getpid()} {secrets.token_hex(4)}"
        self._alone = alone
        self._lanes = Lanes(total=at_once, clock=self._clock)
        self._running: dict[asyncio.Task[None], Job] = {}
        self._wake = asyncio.Event()
        self._unbegun: dict[int, int] = {}
        """Jobs that were held at the last renewal and had not begun, with how often each had been taken."""
        self._stopping = False

    def register(self, name: str, kind: Kind) -> None:
        """Jobs of this kind are this worker's, too; to be said before it starts."""
        self._kinds[name] = kind
        self._lanes.register(name, kind.at_once)

    async def start(self) -> None:
        """Takes up what was under way when a worker was killed; to be called before :meth:`run`. Raises
        JournalError."""

        def begin(c: Transaction) -> None:
            leases.correct_times(c)
            leases.release(c, self._owner, alone=self._alone)
            c.execute(delete(paused_lanes))  # every place gets a new chance

        await self._journal.run(begin)

    async def stop(self) -> None:
        """Cancels the jobs under way and gives them back for the next start; to be called once :meth:`run` has
        ended."""
        self._stopping = True
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:  # what was taken, and is not begun any more
            await self._journal.run(lambda c: leases.give_back(c, self._owner, leases.held(c, self._owner)))
        except JournalError as e:  # the next start does it
            log.info("jobs are not given back: %s", e)

    def wake(self) -> None:
        """A job was added: look at once."""
        self._wake.set()

    def lanes(self) -> list[LaneState]:
        """How each lane is that has had a job since the start."""
        return self._lanes.states()

    async def run(self) -> None:
        """Begins what is due, until it is cancelled."""
        purge_at = renew_at = self._clock.monotonic()
        while True:
            progress()
            self._wake.clear()
            wait = LOOKS_EVERY
            try:
                now = self._clock.monotonic()
                if now >= purge_at:
                    purge_at = now + PURGES_EVERY
                    await self._jobs.purge(keep_for=self._keep_for)
                if now >= renew_at:
                    renew_at = now + LEASE / 4
                    await self._renew()
                wait = min(await self._begin(), LOOKS_EVERY)
            except JournalError as e:
                log.error("jobs wait: %s", e)
            await wait_for(self._wake, wait, self._clock)

    async def _begin(self) -> float:
        """Begins what is due; seconds until more is. Raises JournalError."""
        if self._stopping:
            return LOOKS_EVERY
        turns = self._lanes.turns()

        def take(c: Transaction) -> tuple[list[Job], dict[Key, float], float]:
            waiting = {(kind, lane): due for kind, lane, due in leases.waiting(c, self._kinds)}
            taken = list[Job]()
            for key, share in turns.share([key for key, due in waiting.items() if due <= c.now]).items():
                these = leases.take(c, *key, share, self._owner, LEASE)
                taken += these
                if len(these) < share:
                    next_due = leases.next_due(c, *key)
                    waiting[key] = math.inf if next_due is None else next_due
            return taken, waiting, c.now

        taken, waiting, now = await self._journal.run(take)
        for job in taken:
            self._lanes.began(_lane(job))
            task = asyncio.create_task(self._turn(job), name=f"jobs of {job.kind} {job.lane}")
            self._running[task] = job
            task.add_done_callback(self._one_ended)
        # Of a lane that is full, or of all if there are too many, the end of a job tells; not the time.
        turns = self._lanes.turns()
        pauses = [
            max(due - now, self._lanes.opens_in(key))
            for key, due in waiting.items()
            if self._lanes.opens_in(key) or (turns.of(key) and turns.left > 0)
        ]
        return max(min(pauses, default=LOOKS_EVERY), 0.05)

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        job = self._running.pop(task)
        self._lanes.ended(_lane(job))
        self._wake.set()

    async def _renew(self) -> None:
        """Prolongs the leases of what runs here, and takes up what others held who are dead. Raises JournalError."""
        running = {job.id: (job.taken, task) for task, job in self._running.items()}

        def renew(c: Transaction) -> tuple[dict[int, int], dict[int, int]]:
            leases.renew(c, self._owner, LEASE)
            leases.release(c, self._owner, alone=False)
            unbegun = {job_id: taken for job_id, taken in leases.held(c, self._owner).items() if job_id not in running}
            # Not what is about to begin: what was taken before the last time, and then, by an error, was not begun.
            lost = [job_id for job_id, taken in unbegun.items() if self._unbegun.get(job_id) == taken]
            leases.give_back(c, self._owner, lost)
            return unbegun, leases.takes(c, running)

        self._unbegun, taken_since = await self._journal.run(renew)
        for job_id, takes in taken_since.items():
            taken, task = running[job_id]
            if takes != taken:
                log.warning("job %d is another worker's now", job_id)
                task.cancel()

    # -- one job

    async def _turn(self, job: Job) -> None:
        """Does a job, and then those that are due in its lane."""
        task = asyncio.current_task()
        assert task is not None
        following: Job | None = job
        while following is not None:
            job = following
            with bound(**job.log_ids, job=job.id):
                ending, following = await self._do(job)
                self._running[task] = following or job
                if isinstance(ending, Recorded) and ending.then is not None:
                    try:
                        await ending.then()
                    except Exception:
                        log.exception("job %d (%s) is over; what was to be done after it is not", job.id, job.kind)

    async def _do(self, job: Job) -> tuple[Ending, Job | None]:
        """How a job ended, and the one that is taken in its place."""
        try:
            with step(log, "job %d (%s), attempt %d", job.id, job.kind, job.attempts), span(job.kind):
                ending = await self._kinds[job.kind].handler(job)
        except asyncio.CancelledError:
            # Given back at once, so that the next start need not wait for the lease to run out.
            await asyncio.shield(self._give_back(job))
            raise
        except Exception as e:
            return await self._end(job, _ending_of(job, e))
        return await self._end(job, ending)

    async def _end(self, job: Job, ending: Ending) -> tuple[Ending, Job | None]:
        """Records how a job ended, and takes the next one of its lane in the same transaction: jobs come many at a
        time, and so each costs one transaction less."""
        kind, key, change = self._kinds[job.kind], _lane(job), self._learn(job, ending)
        lane, goes_on = self._lanes.state(key), not self._stopping and self._lanes.goes_on(key)

        def end(c: Transaction) -> tuple[Job | None, list[Job], bool]:
            record(c, job, ending, kind)
            record_lane(c, lane, kind, change)
            now = table.get(c, job.id)
            over = now if now is not None and now.state not in (JobState.WAITING, JobState.RUNNING) else None
            following = leases.take(c, *key, 1, self._owner, LEASE) if goes_on else []
            return over, following, c.jobs_due

        while True:
            try:
                over, following, others_due = await self._journal.run(end)
                break
            except JournalError as e:
                # Its work is done, or not, whatever can be recorded now: it is not to be done a second time for that.
                log.error("how job %d (%s) ended is not recorded yet: %s", job.id, job.kind, e)
                await self._clock.sleep(RECORDS_AGAIN_AFTER)
            except JobLost as e:
                log.warning("%s", e)
                return ending, None
            except Exception as e:
                if not isinstance(ending, Recorded):
                    raise
                return await self._end(job, _ending_of(job, e))
        if others_due:
            self.wake()
        if over is not None:
            self._on_over(over)
        return ending, following[0] if following else None

    def _learn(self, job: Job, ended: Ending) -> Change:
        match ended:
            case None | JobDone() | JobStep() | Recorded():
                change = self._lanes.learn(_lane(job), Outcome.ANSWERED)
            case PlaceSilent():
                change = self._lanes.learn(_lane(job), Outcome.SILENT, str(ended))
            case _:
                change = self._lanes.learn(_lane(job), Outcome.NOTHING)
        state = self._lanes.state(_lane(job))
        if change is Change.REOPENED:
            log.info("%s %s answers again: what waits for it goes on", job.kind, job.lane)
        elif change is Change.PAUSED:
            log.warning(
                "%s %s has not answered %d times in a row: it is asked again in %.0f s",
                job.kind, job.lane, state.failures, state.next_in,
            )  # fmt: skip
        return change

    async def _give_back(self, job: Job) -> None:
        try:
            await self._journal.run(
                lambda c: table.reschedule(c, job, "the gateway was stopped", failed=True, after=0.0)
            )
        except (JournalError, JobLost) as e:  # the next start does it
            log.info("job %d is not given back: %s", job.id, e)


def _ending_of(job: Job, e: Exception) -> Ending:
    """What an error of a handler's means for its job."""
    if isinstance(e, TryLater | CannotBeDone | JobLost):
        return e
    if isinstance(e, GatewayError):
        ending = (CannotBeDone if not e.transient else PlaceSilent if e.unanswered else TryLater)(str(e))
        ending.__cause__ = e
        return ending
    log.error("job %d (%s) failed", job.id, job.kind, exc_info=e)
    return TryLater(f"an error of the gateway itself ({type(e).__name__}): see its log")


def _lane(job: Job) -> Key:
    return job.kind, job.lane
