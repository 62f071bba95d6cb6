"""Durable jobs: work that is done however often it fails, by whichever worker is alive.

A job is added in the transaction that makes it necessary, and taken under a lease that a dead worker loses. An
attempt is counted, and the next one's time set, before it begins: a crash loop finds growing pauses too, and
never hammers anybody. (kind, subject) is unique, which is what makes adding one again harmless.

The functions take the connection of a transaction (:meth:`Journal.run`), so that a use case can join them with
facts of its own; :class:`Jobs` is for those who need one thing at a time.
"""

from __future__ import annotations

import enum
import json
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from gateway.journal.journal import Journal
from gateway.journal.tables import job_history, jobs

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15 * 60.0
"""Seconds between the attempts of a job: twice as long each time."""

LONGEST_LEASE = 3600.0
"""Seconds; a lease that ends further off was given by a clock that ran ahead."""

LEAST_ATTEMPTS = 10
"""A job is never given up before so many, so that a clock that jumps by a week ends nothing."""

FURTHEST = 31 * 86400.0
"""Seconds; a time further off was written by a clock that ran ahead."""

KEPT_FOR = 90 * 86400.0
"""Seconds for which a job that is done is remembered, and with it that its work need not be done again."""

CLEAN = "object.clean"
"""The kind of jobs that remove objects from the store; so that whatever ends a job can say so in its transaction."""

DISCARDED_KEPT_FOR = 7 * 86400.0
"""Seconds for which the object of a discarded job is kept, for an operator who thinks better of it."""

MAX_TEXT = 2000
"""Characters of an error or of a line of history."""


class JobState(enum.Enum):
    """Where a job stands."""

    WAITING = "waiting"
    """For its time, or for a worker."""
    RUNNING = "running"
    DONE = "done"
    QUARANTINED = "quarantined"
    """Cannot be done as things are: an operator retries or discards it."""
    DISCARDED = "discarded"
    """An operator decided that it is not to be done."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the journal has it. Times are unix seconds."""

    id: int
    kind: str
    subject: str
    state: JobState
    payload: Mapping[str, Any]
    attempts: int
    created: float
    since: float
    """When the present series of attempts began: an operator's retry begins a new one."""
    next_at: float
    ended: float | None
    last_error: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened to a job."""

    at: float
    said: str


def release_all(c: Connection, owner: str) -> None:
    """What *owner* held when it was killed is free again; the next attempts are due when they were to be."""
    held = and_(jobs.c.leased_by == owner, jobs.c.state == JobState.RUNNING.value)
    c.execute(update(jobs).where(held).values(state=JobState.WAITING.value, leased_by=None, leased_until=None))


def pause_after(attempts: int) -> float:
    """Seconds from the *attempts*-th failure to the next attempt, jittered so that jobs do not march in step."""
    pause = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 20), LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311  (no secret depends on it)


def add(
    c: Connection,
    kind: str,
    subject: str,
    payload: Mapping[str, Any],
    *,
    said: str = "",
    quarantined: str = "",
    after: float = 0.0,
) -> tuple[Job, bool]:
    """The job of this kind and subject, and whether it is new; due *after* so many seconds. One with
    *quarantined*, a reason, waits for an operator from the start."""
    known = find(c, kind, subject)
    if known is not None:
        return known, False
    now = time.time()
    state = JobState.QUARANTINED if quarantined else JobState.WAITING
    row = {
        "kind": kind, "subject": subject, "state": state.value, "payload": json.dumps(payload), "attempts": 0,
        "created": now, "since": now, "next_at": now + after, "last_error": quarantined[:MAX_TEXT],
        "ended": now if quarantined else None,
    }  # fmt: skip
    inserted = c.execute(insert(jobs).values(row)).inserted_primary_key
    assert inserted is not None
    note(c, inserted[0], said or "added")
    if quarantined:
        note(c, inserted[0], f"quarantined: {quarantined}")
    job = get(c, inserted[0])
    assert job is not None
    return job, True


def find(c: Connection, kind: str, subject: str) -> Job | None:
    """The job of this kind and subject."""
    row = c.execute(select(jobs).where(jobs.c.kind == kind, jobs.c.subject == subject)).one_or_none()
    return _job(row) if row is not None else None


def find_by_token(c: Connection, token: str) -> Job | None:
    """The job that waits for an answer which names *token*."""
    row = c.execute(select(jobs).where(jobs.c.token == token)).one_or_none()
    return _job(row) if row is not None else None


def get(c: Connection, job_id: int) -> Job | None:
    """The job of this number."""
    row = c.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    return _job(row) if row is not None else None


def note(c: Connection, job_id: int, said: str) -> None:
    """Adds a line to a job's history."""
    c.execute(insert(job_history).values(job_id=job_id, at=time.time(), said=said[:MAX_TEXT]))


def lease(c: Connection, kinds: Collection[str], owner: str, seconds: float) -> Job | None:
    """The job of one of *kinds* that is due for the longest, for *owner* alone for so many *seconds*."""
    now = time.time()
    due = or_(jobs.c.next_at <= now, jobs.c.next_at > now + FURTHEST)
    free = or_(
        jobs.c.state == JobState.WAITING.value,
        and_(
            jobs.c.state == JobState.RUNNING.value,
            or_(jobs.c.leased_until <= now, jobs.c.leased_until > now + LONGEST_LEASE),
        ),
    )
    wanted = select(jobs).where(jobs.c.kind.in_(kinds), due, free).order_by(jobs.c.next_at, jobs.c.id).limit(1)
    # SQLite's transactions take turns anyway; elsewhere two workers must not take the same row.
    row = c.execute(wanted.with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return None
    attempts = row.attempts + 1
    values = {
        "state": JobState.RUNNING.value, "attempts": attempts, "leased_by": owner, "leased_until": now + seconds,
        "next_at": now + pause_after(attempts),
    }  # fmt: skip
    c.execute(update(jobs).where(jobs.c.id == row.id).values(values))
    return get(c, row.id)


def extend(c: Connection, job: Job, owner: str, seconds: float) -> bool:
    """Prolongs a lease; False where it was lost to another worker, or an operator ended the job."""
    held = and_(jobs.c.id == job.id, jobs.c.leased_by == owner, jobs.c.state == JobState.RUNNING.value)
    return c.execute(update(jobs).where(held).values(leased_until=time.time() + seconds)).rowcount > 0


def end(c: Connection, job_id: int, state: JobState, said: str, payload: Mapping[str, Any] | None = None) -> None:
    """A job is done, or cannot be done."""
    values: dict[str, Any] = {"state": state.value, "ended": time.time(), "leased_by": None, "leased_until": None}
    if payload is not None:
        values["payload"] = json.dumps(payload)
    values["last_error"] = said[:MAX_TEXT] if state is JobState.QUARANTINED else ""
    c.execute(update(jobs).where(jobs.c.id == job_id).values(values))
    note(c, job_id, f"{state.value}: {said}" if said else state.value)


def again(
    c: Connection,
    job: Job,
    said: str,
    *,
    failed: bool,
    after: float | None = None,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """A job is to go on later: *after* so many seconds, or when its next attempt is due. One that did not fail
    but took a step begins a new series of attempts."""
    values: dict[str, Any] = {"state": JobState.WAITING.value, "leased_by": None, "leased_until": None}
    values["last_error"] = said[:MAX_TEXT] if failed else ""
    if payload is not None:
        values["payload"] = json.dumps(payload)
    now = time.time()
    if not failed:
        values |= {"attempts": 0, "since": now, "next_at": now}
    if after is not None:
        values["next_at"] = now + after
    c.execute(update(jobs).where(jobs.c.id == job.id).values(values))
    note(c, job.id, f"attempt {job.attempts} failed: {said}" if failed else said)


def clean(c: Connection, key: str, *, after: float) -> None:
    """The object *key* is to be removed from the store in *after* seconds, unless another job needs it then."""
    add(c, CLEAN, f"{key[:200]} {time.time_ns()}", {"key": key}, after=after)


def user_of(c: Connection, key: str) -> int | None:
    """A job that is not over and needs the object *key*."""
    alive = jobs.c.state.in_([s.value for s in (JobState.WAITING, JobState.RUNNING, JobState.QUARANTINED)])
    names_it = jobs.c.payload.contains(json.dumps(key), autoescape=True)
    wanted = select(jobs.c.id).where(alive, jobs.c.kind != CLEAN, names_it).limit(1)
    return c.execute(wanted).scalar_one_or_none()


def held(c: Connection, *, besides: str) -> list[tuple[int, float]]:
    """Number and ``since`` of every job that waits for an operator, *besides* those of one kind."""
    wanted = select(jobs.c.id, jobs.c.since).where(jobs.c.state == JobState.QUARANTINED.value, jobs.c.kind != besides)
    return [(row.id, row.since) for row in c.execute(wanted)]


def set_token(c: Connection, job_id: int, token: str) -> None:
    """From now on an answer that names *token* is for this job."""
    c.execute(update(jobs).where(jobs.c.id == job_id).values(token=token))


def hasten(c: Connection, job_id: int, said: str, payload: Mapping[str, Any]) -> None:
    """What a job waits for has come: it is in its payload now, and the job goes on at once if it waits."""
    under_way = jobs.c.state.in_([JobState.WAITING.value, JobState.RUNNING.value])
    c.execute(update(jobs).where(jobs.c.id == job_id, under_way).values(payload=json.dumps(payload)))
    waiting = jobs.c.state == JobState.WAITING.value
    c.execute(update(jobs).where(jobs.c.id == job_id, waiting).values(next_at=time.time()))
    note(c, job_id, said)


class Unfit(ValueError):
    """An operator asked for what cannot be done to this job; the text says why."""


class Jobs:
    """The jobs of a journal, one call at a time. Every method raises JournalError where the database fails."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def add(self, kind: str, subject: str, payload: Mapping[str, Any], *, said: str = "") -> tuple[Job, bool]:
        """As :func:`add`."""
        return await self._journal.run(lambda c: add(c, kind, subject, payload, said=said))

    async def get(self, job_id: int) -> Job | None:
        """The job of this number."""
        return await self._journal.run(lambda c: get(c, job_id))

    async def history(self, job_id: int) -> list[HistoryEntry]:
        """What happened to a job, in order."""
        wanted = select(job_history).where(job_history.c.job_id == job_id).order_by(job_history.c.id)
        return await self._journal.run(lambda c: [HistoryEntry(r.at, r.said) for r in c.execute(wanted)])

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
        return await self._journal.run(lambda c: [_job(row) for row in c.execute(wanted)])

    async def counts(self) -> dict[tuple[str, JobState], int]:
        """How many jobs of each kind stand where."""
        wanted = select(jobs.c.kind, jobs.c.state, func.count()).group_by(jobs.c.kind, jobs.c.state)
        return await self._journal.run(lambda c: {(k, JobState(s)): n for k, s, n in c.execute(wanted).tuples()})

    async def retry(self, job_id: int) -> Job:
        """Lets a job that waits or is quarantined be tried now. Raises Unfit."""

        def begin(c: Connection) -> Job:
            job = _known(c, job_id)
            if job.state not in (JobState.WAITING, JobState.QUARANTINED):
                raise Unfit(f"job {job_id} is {job.state.value}: there is nothing to retry")
            again(c, job, "an operator asked for it to be tried again", failed=False)
            return _known(c, job_id)

        return await self._journal.run(begin)

    async def discard(self, job_id: int, why: str) -> Job:
        """Ends a job undone, by an operator's decision. Raises Unfit."""

        def drop(c: Connection) -> Job:
            job = _known(c, job_id)
            if job.state not in (JobState.WAITING, JobState.QUARANTINED):
                raise Unfit(
                    f"job {job_id} is {job.state.value}: "
                    + ("let it end first" if job.state is JobState.RUNNING else "there is nothing to discard")
                )
            end(c, job_id, JobState.DISCARDED, why)
            if job.payload.get("key"):
                clean(c, job.payload["key"], after=DISCARDED_KEPT_FOR)
            # Its subject may come again: what was discarded is no proof that the work was done.
            c.execute(update(jobs).where(jobs.c.id == job_id).values(subject=f"{job.subject[:200]} discarded {job_id}"))
            return _known(c, job_id)

        return await self._journal.run(drop)

    async def due_in(self, kinds: Collection[str]) -> float | None:
        """Seconds until the next waiting job is due; None where none waits."""
        waiting = select(func.min(jobs.c.next_at)).where(
            jobs.c.state.in_([JobState.WAITING.value, JobState.RUNNING.value]), jobs.c.kind.in_(kinds)
        )
        at = await self._journal.run(lambda c: c.execute(waiting).scalar_one_or_none())
        return None if at is None else at - time.time()

    async def purge(self) -> int:
        """Forgets jobs that were done or discarded long ago; how many."""
        old = and_(
            jobs.c.state.in_([JobState.DONE.value, JobState.DISCARDED.value]), jobs.c.ended < time.time() - KEPT_FOR
        )
        return await self._journal.run(lambda c: c.execute(delete(jobs).where(old)).rowcount)


def _known(c: Connection, job_id: int) -> Job:
    job = get(c, job_id)
    if job is None:
        raise Unfit(f"there is no job {job_id}")
    return job


def _job(row: Any) -> Job:
    return Job(
        row.id, row.kind, row.subject, JobState(row.state), json.loads(row.payload), row.attempts, row.created,
        row.since, row.next_at, row.ended, row.last_error,
    )  # fmt: skip
