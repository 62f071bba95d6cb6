"""Durable jobs: work that is done however often it fails, by whichever worker is alive.

A job is added in the transaction that makes it necessary, and its end is recorded in the one that has its effects.
(kind, subject) is unique, which is what makes adding one again harmless. How jobs are taken by a worker is in
:mod:`gateway.journal.leases`, and what an operator does with them in :mod:`gateway.journal.desk`.
"""

from __future__ import annotations

import enum
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import insert, select, update

from gateway.journal import objects
from gateway.journal.payload import Payload
from gateway.journal.tables import job_history, jobs
from gateway.journal.transaction import Transaction
from gateway.runtime import GatewayError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15 * 60.0
"""Seconds between the attempts of a job: twice as long each time."""

CLEAN = "object.clean"
"""The kind of jobs that remove objects from the store; so that whatever ends a job can say so in its transaction."""

MAX_TEXT = 2000
"""Characters of an error or of a line of history."""

P = TypeVar("P", bound=Payload)


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
    lane: str
    """The place that it is for, as its payload says."""
    state: JobState
    kept: str
    """What it works with, as JSON: see :meth:`read`."""
    attempts: int
    created: float
    since: float
    """When the present series of attempts began: a step, or an operator's retry, begins a new one."""
    next_at: float
    ended: float | None
    taken: int
    """How often it was taken: who took it last, and only who did, may record its end."""
    last_error: str

    def read(self, payload: type[P]) -> P:
        """What it works with, as *payload*, the class of its kind. Raises UnreadablePayload."""
        return payload.load(self.kept)


@dataclass(frozen=True, slots=True)
class CleanObject(Payload):
    """What ``object.clean`` works with."""

    key: str
    """Of an object that is to be removed unless another job needs it by then."""

    @property
    def about(self) -> Mapping[str, str]:
        """As :class:`Payload` has it."""
        return {"key": self.key}


class JobLost(GatewayError):
    """Who wanted to record something of a job has it no more: another worker took it, or an operator ended it."""


def pause_after(attempts: int) -> float:
    """Seconds from the *attempts*-th failure to the next attempt, jittered so that jobs do not march in step."""
    pause = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 20), LONGEST_PAUSE)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311  (no secret depends on it)


def add(
    c: Transaction,
    kind: str,
    subject: str,
    payload: Payload,
    *,
    said: str = "",
    quarantined: str = "",
    after: float = 0.0,
) -> tuple[Job, bool]:
    """The job of this kind and subject, and whether it is new; due *after* so many seconds. One with
    *quarantined*, a reason, waits for an operator from the start. Raises BeingRemoved where it needs an object that
    is being removed."""
    known = find(c, kind, subject)
    if known is not None:
        return known, False
    state = JobState.QUARANTINED if quarantined else JobState.WAITING
    row = {
        "kind": kind, "subject": subject, "lane": payload.lane, "state": state.value, "payload": payload.dump(),
        "attempts": 0, "created": c.now, "since": c.now, "next_at": c.now + after, "pause": after, "taken": 0,
        "last_error": quarantined[:MAX_TEXT], "ended": c.now if quarantined else None,
    }  # fmt: skip
    inserted = c.execute(insert(jobs).values(row)).inserted_primary_key
    assert inserted is not None
    job_id: int = inserted[0]
    objects.use(c, job_id, payload.keys)
    note(c, job_id, said or "added")
    if quarantined:
        note(c, job_id, f"quarantined: {quarantined}")
    job = get(c, job_id)
    assert job is not None
    return job, True


def find(c: Transaction, kind: str, subject: str) -> Job | None:
    """The job of this kind and subject."""
    row = c.execute(select(jobs).where(jobs.c.kind == kind, jobs.c.subject == subject)).one_or_none()
    return job_of(row) if row is not None else None


def get(c: Transaction, job_id: int) -> Job | None:
    """The job of this number."""
    row = c.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    return job_of(row) if row is not None else None


def note(c: Transaction, job_id: int, said: str) -> None:
    """Adds a line to a job's history."""
    c.execute(insert(job_history).values(job_id=job_id, at=c.now, text=said[:MAX_TEXT]))


def end(
    c: Transaction,
    job: Job,
    state: JobState,
    said: str,
    payload: Payload | None = None,
    *,
    clean_after: float | None = None,
) -> None:
    """A job is done, or cannot be done. The objects that it needed, and no other job does, are removed *clean_after*
    so many seconds; None: they stay. Raises JobLost."""
    values: dict[str, Any] = {
        "state": state.value, "ended": c.now, "last_error": said[:MAX_TEXT] if state is JobState.QUARANTINED else "",
    }  # fmt: skip
    needed = objects.of(c, job.id)
    _change(c, job, values, payload)
    note(c, job.id, f"{state.value}: {said}" if said else state.value)
    if state is JobState.QUARANTINED:
        return  # it may go on
    objects.release(c, job.id)
    if clean_after is not None:
        for key in needed:
            if objects.user_of(c, key) is None:
                clean(c, key, after=clean_after)


def reschedule(
    c: Transaction,
    job: Job,
    said: str,
    *,
    failed: bool = False,
    after: float | None = None,
    payload: Payload | None = None,
    new_series: bool = True,
) -> None:
    """A job is to go on later: *after* so many seconds; one that *failed*, when its next attempt is due. One that did
    not begins its attempts anew, and unless it only waits for somebody else, a *new_series* of them, whose time
    counts from now. Raises JobLost."""
    values: dict[str, Any] = {"state": JobState.WAITING.value, "last_error": said[:MAX_TEXT] if failed else ""}
    if not failed:
        values |= {"attempts": 0, "ended": None}
        if new_series:
            values["since"] = c.now
        after = after or 0.0
    if after is not None:
        values |= {"next_at": c.now + after, "pause": after}
    _change(c, job, values, payload)
    note(c, job.id, f"attempt {job.attempts} failed: {said}" if failed else said)


def _change(c: Transaction, job: Job, values: dict[str, Any], payload: Payload | None) -> None:
    """Raises JobLost."""
    if payload is not None:
        values |= {"payload": payload.dump()}
        objects.release(c, job.id)
        objects.use(c, job.id, payload.keys)
    values |= {"leased_by": None, "leased_until": None, "unclean_ends": 0}
    # As it was when it was read: neither taken nor ended by anybody else in between.
    same = (jobs.c.id == job.id) & (jobs.c.taken == job.taken) & (jobs.c.state == job.state.value)
    if not c.execute(update(jobs).where(same).values(values)).rowcount:
        raise JobLost(f"job {job.id} is not ours any more: another worker took it, or an operator ended it")


def clean(c: Transaction, key: str, *, after: float) -> None:
    """The object *key* is to be removed from the store in *after* seconds, unless another job needs it then."""
    add(c, CLEAN, f"{key[:200]} {uuid.uuid4().hex}", CleanObject(key), after=after)


def user_of(c: Transaction, key: str) -> int | None:
    """A job that is not over and needs the object *key*."""
    return objects.user_of(c, key)


def held(c: Transaction, *, besides: str) -> list[tuple[int, float]]:
    """Number and ``since`` of every job that waits for an operator, *besides* those of one kind."""
    wanted = select(jobs.c.id, jobs.c.since).where(jobs.c.state == JobState.QUARANTINED.value, jobs.c.kind != besides)
    return [(row.id, row.since) for row in c.execute(wanted)]


def ended(c: Transaction, kind: str, state: JobState, since: float) -> list[Job]:
    """The jobs of a kind that came to stand in *state* since then."""
    wanted = select(jobs).where(jobs.c.kind == kind, jobs.c.state == state.value, jobs.c.ended >= since)
    return [job_of(row) for row in c.execute(wanted)]


def hasten(c: Transaction, job_id: int, said: str) -> None:
    """What a job waits for has come: it goes on at once if it waits."""
    waiting = (jobs.c.id == job_id) & (jobs.c.state == JobState.WAITING.value)
    c.execute(update(jobs).where(waiting).values(next_at=c.now, pause=0.0))
    note(c, job_id, said)


class Unfit(ValueError):
    """An operator asked for what cannot be done to this job; the text says why."""


def job_of(row: Any) -> Job:
    """The job in a row of its table."""
    return Job(
        row.id, row.kind, row.subject, row.lane, JobState(row.state), row.payload, row.attempts, row.created, row.since,
        row.next_at, row.ended, row.taken, row.last_error,
    )  # fmt: skip
