"""Durable jobs: work that is done however often it fails, by whichever worker is alive.

A job is added in the transaction that makes it necessary, and its end is recorded in the one that has its effects.
(kind, subject) is unique, which is what makes adding one again harmless. How jobs are taken by a worker is in
:mod:`gateway.journal.leases`, and what an operator does with them in :mod:`gateway.journal.desk`.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from gateway.journal import objects
from gateway.journal.job import CLEAN, CleanObject, Job, JobLost, JobState, job_of
from gateway.journal.payload import Payload
from gateway.journal.prepared import Prepared
from gateway.journal.slots import INBOX
from gateway.journal.tables import job_history, jobs
from gateway.journal.transaction import Transaction
from gateway.runtime import begun_by

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15 * 60.0
"""Seconds between the attempts of a job: twice as long each time."""

MAX_TEXT = 2000
"""Characters of an error or of a line of history."""

SUBJECTS_AT_ONCE = 500
"""Subjects in one statement; databases bound how many values it may have."""

# What runs for each job is built once. Names that are no column's are asked for, those that are get set.
_BY_ID = Prepared(select(jobs).where(jobs.c.id == bindparam("job_id")))
_BY_SUBJECT = Prepared(select(jobs).where(jobs.c.kind == bindparam("kind"), jobs.c.subject == bindparam("subject")))
_BEHIND_ALL = "\U0010ffff"
"""Sorts behind whatever a subject goes on with."""

_COUNT_BEGINNING = Prepared(  # by the index, unlike LIKE
    select(func.count())
    .select_from(jobs)
    .where(jobs.c.kind == bindparam("kind"))
    .where(jobs.c.subject >= bindparam("first"), jobs.c.subject < bindparam("behind"))
)
_BY_SUBJECTS = select(jobs).where(
    jobs.c.kind == bindparam("kind"), jobs.c.subject.in_(bindparam("subjects", expanding=True))
)
_NEW, _NOTE = Prepared(insert(jobs).returning(jobs.c.id)), Prepared(insert(job_history))
_CHANGE = Prepared(
    update(jobs).where(
        jobs.c.id == bindparam("job_id"),
        # As it was when it was read: neither taken nor ended by anybody else in between.
        jobs.c.taken == bindparam("read_taken"),
        jobs.c.state == bindparam("read_state"),
    )
)


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
    text: str = "",
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
    row: dict[str, Any] = {
        "kind": kind, "subject": subject, "lane": payload.lane, "state": state.value, "payload": payload.dump(),
        "attempts": 0, "created": c.now, "since": c.now, "next_at": c.now + after, "pause": after, "taken": 0,
        "unclean_ends": 0, "last_error": quarantined[:MAX_TEXT], "ended": c.now if quarantined else None,
        "log_ids": json.dumps(begun_by()),
    }  # fmt: skip
    job_id = c.value(_NEW, row)
    assert isinstance(job_id, int)
    objects.use(c, job_id, payload.keys)
    note(c, job_id, text or "added")
    c.jobs_due |= not quarantined and after <= 0
    if quarantined:
        note(c, job_id, f"quarantined: {quarantined}")
    return (
        Job(
            job_id, kind, subject, payload.lane, state, row["payload"], 0, c.now, c.now, row["next_at"], row["ended"],
            0, row["last_error"], begun_by(),
        ),
        True,
    )  # fmt: skip


def find(c: Transaction, kind: str, subject: str) -> Job | None:
    """The job of this kind and subject."""
    row = c.row(_BY_SUBJECT, {"kind": kind, "subject": subject})
    return job_of(row) if row is not None else None


def find_all(c: Transaction, kind: str, subjects: Sequence[str]) -> dict[str, Job]:
    """Those jobs of this kind that are there, by their subjects."""
    found: dict[str, Job] = {}
    for at in range(0, len(subjects), SUBJECTS_AT_ONCE):
        some = {"kind": kind, "subjects": subjects[at : at + SUBJECTS_AT_ONCE]}
        found.update((row.subject, job_of(row)) for row in c.execute(_BY_SUBJECTS, some))
    return found


def count_beginning(c: Transaction, kind: str, subject: str) -> int:
    """How many jobs of this kind there are whose subject begins so, whatever became of them."""
    found = c.value(_COUNT_BEGINNING, {"kind": kind, "first": subject, "behind": subject + _BEHIND_ALL})
    assert isinstance(found, int)
    return found


def get(c: Transaction, job_id: int) -> Job | None:
    """The job of this number."""
    row = c.row(_BY_ID, {"job_id": job_id})
    return job_of(row) if row is not None else None


def note(c: Transaction, job_id: int, text: str) -> None:
    """Adds a line to a job's history."""
    c.change(_NOTE, {"job_id": job_id, "at": c.now, "text": text[:MAX_TEXT]})


def end(
    c: Transaction,
    job: Job,
    state: JobState,
    text: str,
    payload: Payload | None = None,
    *,
    clean_after: float | None = None,
) -> None:
    """A job is done, or cannot be done. The objects that it needed, and no other job does, are removed *clean_after*
    so many seconds; None: they stay. Raises JobLost."""
    values: dict[str, Any] = {
        "state": state.value, "ended": c.now, "last_error": text[:MAX_TEXT] if state is JobState.QUARANTINED else "",
    }  # fmt: skip
    goes_on = state is JobState.QUARANTINED  # perhaps
    needed = objects.of(c, job.id)
    _change(c, job, values, payload)
    note(c, job.id, f"{state.value}: {text}" if text else state.value)
    _need(c, job, needed, () if not goes_on else payload.keys if payload is not None else needed)
    if goes_on:
        _clean_dropped(c, needed)
    elif clean_after is not None:
        clean_unneeded(c, needed, after=clean_after)


def reschedule(
    c: Transaction,
    job: Job,
    text: str,
    *,
    failed: bool = False,
    after: float | None = None,
    payload: Payload | None = None,
    new_series: bool = True,
) -> None:
    """A job is to go on later: *after* so many seconds; one that *failed*, when its next attempt is due. One that did
    not begins its attempts anew, and unless it only waits for somebody else, a *new_series* of them, whose time
    counts from now. Raises JobLost."""
    values: dict[str, Any] = {"state": JobState.WAITING.value, "last_error": text[:MAX_TEXT] if failed else ""}
    if not failed:
        values |= {"attempts": 0, "ended": None}
        if new_series:
            values["since"] = c.now
        after = after or 0.0
    if after is not None:
        values |= {"next_at": c.now + after, "pause": after}
    needed = objects.of(c, job.id)
    _change(c, job, values, payload)
    _need(c, job, needed, payload.keys if payload is not None else needed)
    _clean_dropped(c, needed)
    note(c, job.id, f"attempt {job.attempts} failed: {text}" if failed else text)


def _change(c: Transaction, job: Job, values: dict[str, Any], payload: Payload | None) -> None:
    """Raises JobLost."""
    if payload is not None:
        values |= {"payload": payload.dump()}
    values |= {"leased_by": None, "leased_until": None, "unclean_ends": 0}
    same = {"job_id": job.id, "read_taken": job.taken, "read_state": job.state.value}
    if not c.change(_CHANGE, values | same):
        raise JobLost(f"job {job.id} is not ours any more: another worker took it, or an operator ended it")


def _need(c: Transaction, job: Job, until_now: Collection[str], from_now: Collection[str]) -> None:
    if set(from_now) != set(until_now):
        objects.release(c, job.id)
        objects.use(c, job.id, from_now)


def clean(c: Transaction, key: str, *, after: float) -> None:
    """The object *key* is to be removed from the store in *after* seconds, unless another job needs it then."""
    add(c, CLEAN, f"{key[:200]} {uuid.uuid4().hex}", CleanObject(key), after=after)


def clean_unneeded(c: Transaction, keys: Collection[str], *, after: float) -> None:
    """Those of the objects *keys* that no job needs any more are to be removed in *after* seconds."""
    for key in keys:
        if objects.user_of(c, key) is None:
            clean(c, key, after=after)


def _clean_dropped(c: Transaction, needed: Collection[str]) -> None:
    """What a job that goes on *needed* until now, and needs no more, was put by an attempt that did not come to its
    end. Uploads are left to the inbox: another one may lie under the same key."""
    clean_unneeded(c, [key for key in needed if not key.startswith(INBOX)], after=0.0)


def held(c: Transaction, *, besides: str) -> list[tuple[int, float]]:
    """Number and ``since`` of every job that waits for an operator, *besides* those of one kind."""
    wanted = select(jobs.c.id, jobs.c.since).where(jobs.c.state == JobState.QUARANTINED.value, jobs.c.kind != besides)
    return [(row.id, row.since) for row in c.execute(wanted)]


def ended(c: Transaction, kind: str, state: JobState, since: float) -> list[Job]:
    """The jobs of a kind that came to stand in *state* since then."""
    wanted = select(jobs).where(jobs.c.kind == kind, jobs.c.state == state.value, jobs.c.ended >= since)
    return [job_of(row) for row in c.execute(wanted)]


def hasten(c: Transaction, job_id: int, text: str) -> None:
    """What a job waits for has come: it goes on at once if it waits."""
    waiting = (jobs.c.id == job_id) & (jobs.c.state == JobState.WAITING.value)
    c.execute(update(jobs).where(waiting).values(next_at=c.now, pause=0.0))
    note(c, job_id, text)
