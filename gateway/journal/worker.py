"""Does durable jobs: takes what is due, hands it to the handler of its kind, records how it ended."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable

from sqlalchemy import delete, insert

from gateway.journal import jobs as table
from gateway.journal import leases
from gateway.journal.desk import KEPT_FOR, Jobs
from gateway.journal.errors import JournalError
from gateway.journal.handling import (
    CannotBeDone,
    Ended,
    JobDone,
    JobStep,
    Kind,
    NotDone,
    PlaceSilent,
    Recorded,
    TryLater,
)
from gateway.journal.jobs import Job, JobLost, JobState
from gateway.journal.journal import Journal
from gateway.journal.lanes import Change, Key, Lanes, LaneState, Outcome
from gateway.journal.payload import Payload
from gateway.journal.tables import paused_lanes
from gateway.journal.transaction import Transaction
from gateway.runtime import GatewayError, bind, progress, remark_of, span, step, wait_for

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

LEAST_ATTEMPTS = 10
"""A job is never given up before so many: a gateway that was off for a week ends nothing at its start."""

GIVEN_UP_AT_ONCE = 200
"""Jobs of a silent place that are left to an operator in one transaction; the others with the next attempt."""


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
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
        turns = self._lanes.turns()
        kinds = list(self._kinds)

        def take(c: Transaction) -> tuple[list[Job], list[tuple[str, str, float]], float]:
            found = leases.waiting(c, kinds)
            shares = turns.share([(kind, lane) for kind, lane, due in found if due <= c.now])
            taken = [
                job
                for (kind, lane), share in shares.items()
                for job in leases.take(c, kind, lane, share, self._owner, LEASE)
            ]
            return taken, leases.waiting(c, kinds) if taken else found, c.now

        taken, waiting, now = await self._journal.run(take)
        for job in taken:
            self._lanes.began(_lane(job))
            task = asyncio.create_task(self._do(job), name=f"job {job.id}")
            self._running[task] = job
            task.add_done_callback(self._one_ended)
        # Of a lane that is full, or of all if there are too many, the end of a job tells; not the time.
        turns = self._lanes.turns()
        pauses = [
            max(due - now, self._lanes.opens_in((kind, lane)))
            for kind, lane, due in waiting
            if self._lanes.opens_in((kind, lane)) or (turns.of((kind, lane)) and turns.left > 0)
        ]
        return max(min(pauses, default=LOOKS_EVERY), 0.05)

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        job = self._running.pop(task)
        self._lanes.ended(_lane(job))
        self._wake.set()

    async def _renew(self) -> None:
        """Prolongs the leases of what runs here, and takes up what others held who are dead. Raises JournalError."""
        running = {job.id: (job.taken, task) for task, job in self._running.items()}

        def renew(c: Transaction) -> dict[int, int]:
            leases.renew(c, self._owner, LEASE)
            leases.release(c, self._owner, alone=False)
            leases.give_back(c, self._owner, running)  # what was taken and then, by an error, not begun
            return leases.takes(c, running)

        for job_id, takes in (await self._journal.run(renew)).items():
            taken, task = running[job_id]
            if takes != taken:
                log.warning("job %d is another worker's now", job_id)
                task.cancel()

    # -- one job

    async def _do(self, job: Job) -> None:
        kind = self._kinds[job.kind]
        bind(**job.log_ids, job=job.id)
        try:
            with step(log, "job %d (%s), attempt %d", job.id, job.kind, job.attempts), span(job.kind):
                ended = await self._outcome(job, kind)
        except asyncio.CancelledError:
            # Given back at once, so that the next start need not wait for the lease to run out.
            await asyncio.shield(self._give_back(job))
            raise
        change = self._learn(job, ended)
        while True:
            try:
                over = await self._journal.run(lambda c: self._record(c, job, ended, kind, change))
            except JournalError as e:
                # Its work is done, or not, whatever can be recorded now: it is not to be done a second time for that.
                log.error("how job %d (%s) ended is not recorded yet: %s", job.id, job.kind, e)
                await self._clock.sleep(RECORDS_AGAIN_AFTER)
                continue
            except JobLost as e:
                log.warning("%s", e)
                return
            if over is not None:
                self._on_over(over)
            return

    async def _outcome(self, job: Job, kind: Kind) -> Ended | TryLater | CannotBeDone | JobLost:
        try:
            return await kind.handler(job)
        except (TryLater, CannotBeDone, JobLost) as e:
            return e
        except GatewayError as e:
            kind_of_end = CannotBeDone if not e.transient else PlaceSilent if e.unanswered else TryLater
            ended = kind_of_end(str(e))
            ended.__cause__ = e
            return ended
        except Exception as e:
            log.exception("job %d (%s) failed", job.id, job.kind)
            return TryLater(f"an error of the gateway itself ({type(e).__name__}): see its log")

    def _learn(self, job: Job, ended: Ended | TryLater | CannotBeDone | JobLost) -> Change:
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

    def _record(
        self, c: Transaction, job: Job, ended: Ended | TryLater | CannotBeDone | JobLost, kind: Kind, change: Change
    ) -> Job | None:
        """The job as it is now, where it is over. Raises JobLost."""
        match ended:
            case None:
                pass
            case Recorded(record):
                record(c)
            case JobLost():
                log.warning("%s", ended)
            case JobDone(text, payload):
                log.info("job %d (%s) is done: %s", job.id, job.kind, text)
                table.end(c, job, JobState.DONE, text, payload)
            case JobStep(text, payload, after):
                table.reschedule(c, job, text, payload=payload, after=after)
            case CannotBeDone():
                self._quarantine(c, job, str(ended), ended.payload)
            case TryLater():
                self._failed(c, job, ended, kind)
        if isinstance(ended, NotDone) and (remark := remark_of(ended)):
            table.note(c, job.id, f"the other side said: {remark}")
        self._record_lane(c, job, kind, change)
        now = table.get(c, job.id)
        return None if now is None or now.state in (JobState.WAITING, JobState.RUNNING) else now

    def _failed(self, c: Transaction, job: Job, ended: TryLater, kind: Kind) -> None:
        now = table.get(c, job.id)
        tried_for = c.now - (now or job).since  # a clock that was set moves it
        if tried_for > kind.retry_for and job.attempts >= LEAST_ATTEMPTS:
            self._quarantine(c, job, _given_up(job, tried_for, str(ended)), ended.payload)
        else:
            level = logging.WARNING if job.attempts in (1, 5) else logging.INFO
            log.log(level, "job %d (%s), attempt %d failed: %s", job.id, job.kind, job.attempts, ended)
            table.reschedule(c, job, str(ended), failed=True, payload=ended.payload)

    def _record_lane(self, c: Transaction, job: Job, kind: Kind, change: Change) -> None:
        """Keeps how a lane is for commands, which are other processes; and does what follows for those that wait."""
        key, state = _lane(job), self._lanes.state(_lane(job))
        if change is Change.NONE:
            return
        c.execute(delete(paused_lanes).where(paused_lanes.c.kind == key[0], paused_lanes.c.lane == key[1]))
        if change is Change.REOPENED:
            leases.hasten_lane(c, *key)
            return
        c.execute(
            insert(paused_lanes).values(
                kind=key[0], lane=key[1], since=state.since, failures=state.failures, next_at=c.now + state.next_in,
                reason=state.reason[: table.MAX_TEXT],
            )
        )  # fmt: skip
        if state.failures >= LEAST_ATTEMPTS:
            for waits in leases.overdue(c, *key, c.now - kind.retry_for, GIVEN_UP_AT_ONCE):
                self._quarantine(c, waits, _given_up(waits, c.now - waits.since, state.reason), None)

    def _quarantine(self, c: Transaction, job: Job, reason: str, payload: Payload | None) -> None:
        log.warning("job %d (%s) is quarantined: %s", job.id, job.kind, reason)
        table.end(c, job, JobState.QUARANTINED, reason, payload)


def _lane(job: Job) -> Key:
    return job.kind, job.lane


def _given_up(job: Job, tried_for: float, reason: str) -> str:
    return f"given up after {job.attempts} attempts in {tried_for / 3600:.1f} h: {reason}"
