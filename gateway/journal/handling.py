"""What does a kind of jobs, and how it says what came of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.journal.job import Job
from gateway.journal.payload import Payload
from gateway.journal.transaction import Transaction


class NotDone(Exception):
    """A handler's job is not done. The text is for the operator; *payload*, where given, replaces the job's."""

    def __init__(self, text: str, payload: Payload | None = None) -> None:
        super().__init__(text)
        self.payload = payload


class TryLater(NotDone):
    """A handler failed at what may go well later."""


class PlaceSilent(TryLater):
    """The place that a job is for cannot be reached, or does not answer: nor would it for another job."""


class CannotBeDone(NotDone):
    """A handler found that its job cannot be done as things are."""


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job is done."""

    text: str
    payload: Payload | None = None
    """What the record is to keep in place of the job's payload."""


@dataclass(frozen=True, slots=True)
class JobStep:
    """A job took a step, which is recorded, and goes on *after* so many seconds."""

    text: str
    payload: Payload
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a job ended is recorded by *record*, which is called in the transaction that the worker ends it in. Once
    that is on the disk, *then* is awaited, for what may be left undone: what it raises is logged."""

    record: Callable[[Transaction], None]
    then: Callable[[], Awaitable[None]] | None = None


Ended = JobDone | JobStep | Recorded | None
"""How a handler's job ended; None: the handler has recorded it itself, in a transaction of its own."""


Handler = Callable[[Job], Awaitable[Ended]]
"""May raise TryLater or CannotBeDone; any other GatewayError is one of them by what it says of itself."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job: who does it, how many at once for each place, and for how many seconds it is tried."""

    handler: Handler
    at_once: int
    retry_for: float
