"""Does durable jobs: takes what is due, hands it to the handler of its kind, records how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.journal import jobs as table
from gateway.journal.jobs import LEAST_ATTEMPTS, Job, Jobs, JobState
from gateway.journal.journal import Journal, JournalError, Transaction
from gateway.runtime.errors import GatewayError
from gateway.runtime.log_ids import bind, step
from gateway.runtime.supervise import progress

log = logging.getLogger(__name__)

LEASE = 60.0
"""Seconds for which a job is a worker's; renewed while it lives."""

LOOKS_EVERY = 1.0
"""Seconds between two looks for jobs that another process, such as ``jobs retry``, has made due."""

PURGES_EVERY = 3600.0


class _NotDone(Exception):
    """A handler's job is not done. The text is for the operator; *payload*, where given, replaces the job's."""

    def __init__(self, text: str, payload: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.payload = payload


class TryLater(_NotDone):
    """A handler failed at what may go well later."""


class CannotBeDone(_NotDone):
    """A handler found that its job cannot be done as things are."""


@dataclass(frozen=True, slots=True)
class Done:
    """A job is done."""

    said: str
    payload: Mapping[str, Any] | None = None
    """What the record is to keep in place of the job's payload."""


@dataclass(frozen=True, slots=True)
class Step:
    """A job took a step, which is recorded, and goes on *after* so many seconds."""

    said: str
    payload: Mapping[str, Any]
    after: float = 0.0


Ended = Done | Step | None
"""How a handler's job ended; None: the handler has recorded it itself, in a transaction of its own."""

Handler = Callable[[Job], Awaitable[Ended]]
"""May raise TryLater or CannotBeDone; any other GatewayError is one of them by its ``transient``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job: who does it, how many at once, and for how many seconds it is tried."""

    handler: Handler
    at_once: int
    retry_for: float


class Worker:
    """Does the jobs of some kinds until it is stopped. What it is stopped in is done again later."""

    def __init__(self, journal: Journal, *, owner: str) -> None:
        """*owner* names this worker among those of the journal, and stays the same over restarts."""
        self._journal = journal
        self._jobs = Jobs(journal)
        self._kinds: dict[str, Kind] = {}
        self._owner = owner
        self._running: dict[asyncio.Task[None], str] = {}
        self._wake = asyncio.Event()

    def take_on(self, name: str, kind: Kind) -> None:
        """Jobs of this kind are this worker's, too; to be said before it starts."""
        self._kinds[name] = kind

    async def start(self) -> None:
        """Takes up what was under way when this worker was killed; to be called before :meth:`run`. Raises
        JournalError."""
        await self._journal.run(lambda c: table.release_all(c, self._owner))

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

    async def run(self) -> None:
        """Begins what is due, until it is cancelled."""
        purge_at = time.monotonic()
        while True:
            progress()
            self._wake.clear()
            wait = LOOKS_EVERY
            try:
                if time.monotonic() >= purge_at:
                    purge_at = time.monotonic() + PURGES_EVERY
                    await self._jobs.purge()
                while (job := await self._take()) is not None:
                    task = asyncio.create_task(self._do(job), name=f"job {job.id}")
                    self._running[task] = job.kind
                    task.add_done_callback(self._one_ended)
                due = await self._jobs.due_in(self._kinds)
                if due is not None:
                    wait = min(max(due, 0.05), LOOKS_EVERY)
            except JournalError as e:
                log.error("jobs wait: %s", e)
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with what is waited for.
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._wake.set()

    async def _take(self) -> Job | None:
        busy = Counter(self._running.values())
        free = [name for name, kind in self._kinds.items() if busy[name] < kind.at_once]
        if not free:
            return None
        return await self._journal.run(lambda c: table.lease(c, free, self._owner, LEASE))

    async def _do(self, job: Job) -> None:
        kind = self._kinds[job.kind]
        bind(job=job.id)
        me = asyncio.current_task()
        assert me is not None
        lease = asyncio.create_task(self._keep(job, me))
        try:
            with step(log, "job %d (%s), attempt %d", job.id, job.kind, job.attempts):
                ended = await kind.handler(job)
        except asyncio.CancelledError:
            # Given back at once, so that the next start need not wait for the lease to run out.
            await asyncio.shield(self._record(job, TryLater("the gateway was stopped"), kind))
            raise
        except (TryLater, CannotBeDone) as e:
            await self._record(job, e, kind)
        except GatewayError as e:
            await self._record(job, (TryLater if e.transient else CannotBeDone)(str(e)), kind)
        except Exception as e:
            log.exception("job %d (%s) failed", job.id, job.kind)
            await self._record(job, TryLater(f"an error of the gateway itself ({type(e).__name__}): see its log"), kind)
        else:
            await self._record(job, ended, kind)
        finally:
            lease.cancel()

    async def _keep(self, job: Job, worker: asyncio.Task[None]) -> None:
        while True:
            await asyncio.sleep(LEASE / 4)
            try:
                if not await self._journal.run(lambda c: table.extend(c, job, self._owner, LEASE)):
                    log.warning("job %d (%s) is another worker's now", job.id, job.kind)
                    worker.cancel()
                    return
            except JournalError as e:
                log.error("the lease of job %d is not renewed: %s", job.id, e)

    async def _record(self, job: Job, ended: Ended | TryLater | CannotBeDone, kind: Kind) -> None:
        try:
            await self._journal.run(lambda c: self._note(c, job, ended, kind))
        except JournalError as e:
            # It is done again once the lease has run out; every handler bears that.
            log.error("how job %d (%s) ended is not recorded: %s", job.id, job.kind, e)

    def _note(self, c: Transaction, job: Job, ended: Ended | TryLater | CannotBeDone, kind: Kind) -> None:
        if not table.extend(c, job, self._owner, 0):
            return  # recorded already, or another worker's
        match ended:
            case None:
                raise AssertionError("a handler that records by itself left its job running")
            case Done(said, payload):
                log.info("job %d (%s) is done: %s", job.id, job.kind, said)
                table.end(c, job.id, JobState.DONE, said, payload)
            case Step(said, payload, after):
                table.again(c, job, said, failed=False, payload=payload, after=after)
            case CannotBeDone():
                self._hold(c, job, str(ended), ended.payload)
            case TryLater():
                tried_for = time.time() - job.since
                if tried_for > kind.retry_for and job.attempts >= LEAST_ATTEMPTS:
                    said = f"given up after {job.attempts} attempts in {tried_for / 3600:.1f} h: {ended}"
                    self._hold(c, job, said, ended.payload)
                else:
                    level = logging.WARNING if job.attempts in (1, 5) else logging.INFO
                    log.log(level, "job %d (%s), attempt %d failed: %s", job.id, job.kind, job.attempts, ended)
                    table.again(c, job, str(ended), failed=True, payload=ended.payload)

    def _hold(self, c: Transaction, job: Job, reason: str, payload: Mapping[str, Any] | None) -> None:
        log.warning("job %d (%s) is quarantined: %s", job.id, job.kind, reason)
        table.end(c, job.id, JobState.QUARANTINED, reason, payload)
