"""How it is recorded what came of a job, and of the place that it was for."""

from __future__ import annotations

import logging

from sqlalchemy import delete, insert

from gateway.journal import jobs as table
from gateway.journal import leases
from gateway.journal.handling import CannotBeDone, Ended, JobDone, JobStep, Kind, NotDone, Recorded, TryLater
from gateway.journal.job import Job, JobLost, JobState
from gateway.journal.lanes import Change, LaneState
from gateway.journal.payload import Payload
from gateway.journal.tables import paused_lanes
from gateway.journal.transaction import Transaction
from gateway.runtime import remark_of

log = logging.getLogger(__name__)

LEAST_ATTEMPTS = 10
"""A job is never given up before so many: a gateway that was off for a week ends nothing at its start."""

GIVEN_UP_AT_ONCE = 200
"""Jobs of a silent place that are left to an operator in one transaction; the others with the next attempt."""

Ending = Ended | TryLater | CannotBeDone | JobLost
"""What came of a job."""


def record(c: Transaction, job: Job, ending: Ending, kind: Kind) -> None:
    """Keeps what came of a job. Raises JobLost."""
    match ending:
        case None:
            pass
        case Recorded(of_its_own):
            of_its_own(c)
        case JobLost():
            log.warning("%s", ending)
        case JobDone(text, payload):
            log.info("job %d (%s) is done: %s", job.id, job.kind, text)
            table.end(c, job, JobState.DONE, text, payload)
        case JobStep(text, payload, after):
            table.reschedule(c, job, text, payload=payload, after=after)
        case CannotBeDone():
            _quarantine(c, job, str(ending), ending.payload)
        case TryLater():
            _failed(c, job, ending, kind)
    if isinstance(ending, NotDone) and (remark := remark_of(ending)):
        table.note(c, job.id, f"the other side said: {remark}")


def record_lane(c: Transaction, lane: LaneState, kind: Kind, change: Change) -> None:
    """Keeps how a lane is for commands, which are other processes; and does what follows for those that wait."""
    if change is Change.NONE:
        return
    c.execute(delete(paused_lanes).where(paused_lanes.c.kind == lane.kind, paused_lanes.c.lane == lane.lane))
    if change is Change.REOPENED:
        leases.hasten_lane(c, lane.kind, lane.lane)
        return
    c.execute(
        insert(paused_lanes).values(
            kind=lane.kind, lane=lane.lane, since=lane.since, failures=lane.failures, next_at=c.now + lane.next_in,
            reason=lane.reason[: table.MAX_TEXT],
        )
    )  # fmt: skip
    if lane.failures >= LEAST_ATTEMPTS:
        for waits in leases.overdue(c, lane.kind, lane.lane, c.now - kind.retry_for, GIVEN_UP_AT_ONCE):
            _quarantine(c, waits, _given_up(waits, c.now - waits.since, lane.reason), None)


def _failed(c: Transaction, job: Job, ended: TryLater, kind: Kind) -> None:
    now = table.get(c, job.id)
    tried_for = c.now - (now or job).since  # a clock that was set moves it
    if tried_for > kind.retry_for and job.attempts >= LEAST_ATTEMPTS:
        _quarantine(c, job, _given_up(job, tried_for, str(ended)), ended.payload)
    else:
        level = logging.WARNING if job.attempts in (1, 5) else logging.INFO
        log.log(level, "job %d (%s), attempt %d failed: %s", job.id, job.kind, job.attempts, ended)
        table.reschedule(c, job, str(ended), failed=True, payload=ended.payload)


def _quarantine(c: Transaction, job: Job, reason: str, payload: Payload | None) -> None:
    log.warning("job %d (%s) is quarantined: %s", job.id, job.kind, reason)
    table.end(c, job, JobState.QUARANTINED, reason, payload)


def _given_up(job: Job, tried_for: float, reason: str) -> str:
    return f"given up after {job.attempts} attempts in {tried_for / 3600:.1f} h: {reason}"
