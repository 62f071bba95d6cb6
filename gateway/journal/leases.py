"""How a worker takes jobs: under a lease that a dead worker loses, and under a number that tells who took it last.

An attempt is counted, and the next one's time set, before it begins: a crash loop finds growing pauses too, and never
hammers anybody. The lease's time is wall-clock time, which can jump. So a worker never takes what it has itself, and
whatever is recorded of a job is recorded only by who took it last (``Job.taken``, a fencing token): a job that was
taken from somebody whose clock stood still ends once all the same.

A job can kill the process that does it, by the memory that it takes or a fault in a decoder, and would do so at each
start. So each time that a worker dies is counted for the jobs that it had. What was there twice goes on alone, so that
of many jobs it is the one that kills that is there a third time. Yet where the power comes and goes, many a job is
there three times that does no harm: it rests before it is tried again, rests longer after the fourth time, and only
what was there at a fifth end too waits for an operator.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, bindparam, exists, func, select, update

from gateway.journal.job import Job, JobState, job_of
from gateway.journal.jobs import end, pause_after
from gateway.journal.prepared import Prepared
from gateway.journal.tables import commitments, jobs
from gateway.journal.transaction import Transaction

log = logging.getLogger(__name__)

SUSPECT_AFTER, HELD_AFTER = 2, 5
"""Ends of workers, one after the other, at which a job was running: from then on no other such job runs beside it; it
waits for an operator."""

RESTS = {3: 20.0, 4: 60.0}
"""Ends of workers at which a job was running → seconds for which it rests, while others that may kill are tried."""

_WAITING = jobs.c.state == JobState.WAITING.value
_RUNNING = jobs.c.state == JobState.RUNNING.value
_SUSPECT = jobs.c.unclean_ends >= SUSPECT_AFTER

_running = jobs.alias()
_FREE = _WAITING & (
    ~_SUSPECT | ~exists().where(_running.c.state == JobState.RUNNING.value, _running.c.unclean_ends >= SUSPECT_AFTER)
)
"""Waits, and for its time only."""


def _lanes_that_wait() -> Select[Any]:
    """Kind, lane and when the first of its jobs is due, of each lane in which any waits. It goes from each kind to the
    next, and from each lane to the next, by the index: thousands of copies wait to be removed some day, and a GROUP BY
    looks at each of them."""
    kinds = select(func.min(jobs.c.kind).label("kind")).where(_WAITING).cte("kinds", recursive=True)
    next_kind = select(func.min(jobs.c.kind)).where(_WAITING, jobs.c.kind > kinds.c.kind).correlate(kinds)
    kinds = kinds.union_all(select(next_kind.scalar_subquery()).select_from(kinds).where(kinds.c.kind.is_not(None)))
    of_kind = select(func.min(jobs.c.lane)).where(_WAITING, jobs.c.kind == kinds.c.kind).correlate(kinds)
    first_lanes = select(kinds.c.kind, of_kind.scalar_subquery().label("lane")).where(kinds.c.kind.is_not(None))
    lanes = first_lanes.cte("lanes", recursive=True)
    next_lane = (
        select(func.min(jobs.c.lane))
        .where(_WAITING, jobs.c.kind == lanes.c.kind, jobs.c.lane > lanes.c.lane)
        .correlate(lanes)
    )
    lanes = lanes.union_all(
        select(lanes.c.kind, next_lane.scalar_subquery()).select_from(lanes).where(lanes.c.lane.is_not(None))
    )
    due = select(func.min(jobs.c.next_at)).where(_FREE, jobs.c.kind == lanes.c.kind, jobs.c.lane == lanes.c.lane)
    first_due = due.correlate(lanes).scalar_subquery()
    return select(lanes.c.kind, lanes.c.lane, first_due.label("due")).where(lanes.c.lane.is_not(None))


# What runs each time that jobs are taken is built once.
_LANES_THAT_WAIT = Prepared(_lanes_that_wait())
_DUE = Prepared(
    select(jobs)
    .where(
        _FREE, jobs.c.kind == bindparam("kind"), jobs.c.lane == bindparam("lane"), jobs.c.next_at <= bindparam("now")
    )
    .order_by(jobs.c.next_at, jobs.c.id)
    .limit(bindparam("most"))
)
_NEXT_DUE = Prepared(
    select(func.min(jobs.c.next_at)).where(_FREE, jobs.c.kind == bindparam("kind"), jobs.c.lane == bindparam("lane"))
)
# Its state is asked for again: where transactions run side by side, another worker may have been quicker; and one
# that was taken just now may have to be alone.
_TAKE = Prepared(update(jobs).where(jobs.c.id == bindparam("job_id"), _FREE, jobs.c.taken == bindparam("read_taken")))


def waiting(c: Transaction, kinds: Collection[str]) -> list[tuple[str, str, float]]:
    """The lanes in which jobs of *kinds* wait: kind, lane, and when the first of them is due."""
    rows = c.rows(_LANES_THAT_WAIT, {})
    return [(row.kind, row.lane, row.due) for row in rows if row.kind in kinds and row.due is not None]


def next_due(c: Transaction, kind: str, lane: str) -> float | None:
    """When the first of the jobs that wait in a lane is due; None where none waits."""
    found: float | None = c.value(_NEXT_DUE, {"kind": kind, "lane": lane})
    return found


def take(c: Transaction, kind: str, lane: str, most: int, owner: str, seconds: float) -> list[Job]:
    """Up to *most* jobs of a lane that are due, those that are for the longest first, for *owner* alone for so many
    *seconds*."""
    taken = []
    for row in c.rows(_DUE, {"kind": kind, "lane": lane, "now": c.now, "most": most}):
        attempts, pause = row.attempts + 1, pause_after(row.attempts + 1)
        values = {
            "state": JobState.RUNNING.value, "attempts": attempts, "taken": row.taken + 1, "leased_by": owner,
            "leased_until": c.now + seconds, "next_at": c.now + pause, "pause": pause,
        }  # fmt: skip
        if c.change(_TAKE, values | {"job_id": row.id, "read_taken": row.taken}):
            taken.append(
                replace(
                    job_of(row), state=JobState.RUNNING, attempts=attempts, taken=row.taken + 1, next_at=c.now + pause
                )
            )
    return taken


def renew(c: Transaction, owner: str, seconds: float) -> None:
    """Prolongs what *owner* holds."""
    c.execute(update(jobs).where(_RUNNING, jobs.c.leased_by == owner).values(leased_until=c.now + seconds))


def takes(c: Transaction, job_ids: Collection[int]) -> dict[int, int]:
    """How often each of the jobs was taken; one that is not the number that its worker knows was taken from it."""
    wanted = select(jobs.c.id, jobs.c.taken).where(jobs.c.id.in_(job_ids))
    return {row.id: row.taken for row in c.execute(wanted)}


def release(c: Transaction, owner: str, *, alone: bool) -> None:
    """What others than *owner* hold is free again: if it is *alone* all of it, for then they are dead; else what is
    held by a lease that is over. The next attempts are due when they were to be, but for those of jobs that were
    there at too many such ends."""
    over = _RUNNING & ((jobs.c.leased_by != owner) | jobs.c.leased_by.is_(None))
    if not alone:
        over &= jobs.c.leased_until <= c.now
    free = {"state": JobState.WAITING.value, "leased_by": None, "leased_until": None}
    if not c.execute(update(jobs).where(over).values(free | {"unclean_ends": jobs.c.unclean_ends + 1})).rowcount:
        return
    for ends, rest in RESTS.items():
        rests = _WAITING & (jobs.c.unclean_ends == ends) & (jobs.c.next_at < c.now + rest)
        c.execute(update(jobs).where(rests).values(next_at=c.now + rest, pause=rest))
    for row in c.execute(select(jobs).where(_WAITING, jobs.c.unclean_ends >= HELD_AFTER)).all():
        why = (
            f"the gateway died {row.unclean_ends} times in a row while it did this: see its log and the system's for "
            "what ended it (too little memory?), put that right, then retry"
        )
        log.error("job %d (%s) is quarantined: %s", row.id, row.kind, why)
        end(c, job_of(row), JobState.QUARANTINED, why)


def held(c: Transaction, owner: str) -> dict[int, int]:
    """The jobs that *owner* holds, and how often each was taken."""
    wanted = select(jobs.c.id, jobs.c.taken).where(_RUNNING, jobs.c.leased_by == owner)
    return {row.id: row.taken for row in c.execute(wanted)}


def give_back(c: Transaction, owner: str, job_ids: Collection[int]) -> None:
    """Those jobs that *owner* holds, and does not do, are free again."""
    given = _RUNNING & (jobs.c.leased_by == owner) & jobs.c.id.in_(job_ids)
    c.execute(update(jobs).where(given).values(state=JobState.WAITING.value, leased_by=None, leased_until=None))


def overdue(c: Transaction, kind: str, lane: str, since: float, most: int) -> list[Job]:
    """Jobs that wait in a lane, whose attempts began before *since*."""
    wanted = (
        select(jobs)
        .where(_WAITING, jobs.c.kind == kind, jobs.c.lane == lane, jobs.c.attempts > 0, jobs.c.since < since)
        .order_by(jobs.c.id)
        .limit(most)
    )
    return [job_of(row) for row in c.execute(wanted)]


def hasten_lane(c: Transaction, kind: str, lane: str) -> None:
    """A place answers again: what failed there is due at once."""
    failed = _WAITING & (jobs.c.kind == kind) & (jobs.c.lane == lane) & (jobs.c.attempts > 0)
    c.execute(update(jobs).where(failed).values(next_at=c.now, pause=0.0))


# -- clocks that jump


def move_times(c: Transaction, by: float) -> None:
    """The clock was moved *by* so many seconds while jobs waited: what they wait for moves with it."""
    alive = _WAITING | _RUNNING
    moved = {"next_at": jobs.c.next_at + by, "since": jobs.c.since + by, "leased_until": jobs.c.leased_until + by}
    c.execute(update(jobs).where(alive).values(moved))
    c.execute(update(commitments).values(asked=commitments.c.asked + by))
    correct_times(c)


def correct_times(c: Transaction) -> None:
    """What is further off than the pause that was due was written by a clock that ran ahead."""
    alive = _WAITING | _RUNNING
    c.execute(update(jobs).where(alive, jobs.c.next_at > c.now + jobs.c.pause).values(next_at=c.now + jobs.c.pause))
    c.execute(update(jobs).where(alive, jobs.c.since > c.now).values(since=c.now))
    c.execute(update(commitments).where(commitments.c.asked > c.now).values(asked=c.now))
