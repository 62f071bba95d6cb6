"""A job as the journal has it, and where it stands."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.journal.payload import Payload
from gateway.runtime import GatewayError

CLEAN = "object.clean"
"""The kind of jobs that remove objects from the store; so that whatever ends a job can say so in its transaction."""

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
    log_ids: Mapping[str, str]
    """The webhook and the event that it was begun by, as far as there is one: what it logs carries them, too."""

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


class Unfit(ValueError):
    """An operator asked for what cannot be done to this job; the text says why."""


def job_of(row: Any) -> Job:
    """The job in a row of its table."""
    return Job(
        row.id, row.kind, row.subject, row.lane, JobState(row.state), row.payload, row.attempts, row.created, row.since,
        row.next_at, row.ended, row.taken, row.last_error, json.loads(row.log_ids),
    )  # fmt: skip
