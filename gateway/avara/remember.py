"""What was answered to which delivery, for as long as it could be played back.

A signature stays good for five minutes either way, so whoever captured a webhook could get answers with new URLs for
as long. Each ``webhook-id`` is therefore answered once: the same delivery again gets the same answer, and when that
is not kept any more, none. Avara's own repeats are signed anew: one that is later than those that were seen is a
repeat of hers, and is answered afresh where its answer is gone (Standard Webhooks: the id is the idempotency key).

Over a restart only a hash of the id and the time of its signature are kept (``gateway/app/deliveries.py``), of what was
*sent*: a repeat of what a gateway that died did not answer is served, also where it is the same delivery.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.runtime import SYSTEM_CLOCK, Clock

GOOD_FOR = 300.0
"""Seconds by which a signature's timestamp may be off, either way."""

MOST_BYTES = 16 * 1024 * 1024
"""Of answers: ten with 3,000 URLs each."""

MOST_UNKEPT = 20_000
"""Deliveries that wait to be kept over a restart; past them the oldest is not."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that was given."""

    status: int
    body: bytes
    opens: bool = True
    """Whether it may have what a stranger must not get."""


class Replayed(Exception):
    """This very delivery was answered, and its answer is not kept any more."""


class _Known:
    def __init__(self, timestamp: int) -> None:
        self.timestamp = timestamp
        """Unix seconds: the latest with which it was signed."""
        self.until = 0.0
        """Unix seconds until which a copy of it would be let in."""
        self.response: Response | None = None
        self.answering: asyncio.Future[None] | None = None


class Deliveries:
    """Answers by ``webhook-id``."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK, most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._known: dict[str, _Known] = {}  # by digest
        self._bytes = 0
        self._sent: dict[str, int] = {}

    def restore(self, signed: Mapping[str, int]) -> None:
        """An earlier start has answered these: when they were signed (unix seconds), by digest. Their answers are not
        kept. To be called before any other is answered."""
        for digest, timestamp in sorted(signed.items(), key=lambda item: item[1]):
            self._signed(self._known.setdefault(digest, _Known(timestamp)), timestamp)

    def answered(self, webhook_id: str, timestamp: int) -> None:
        """The whole answer to this delivery has left, and may have what opens something."""
        self.put_back({_digest(webhook_id): timestamp})

    def take(self) -> dict[str, int]:
        """What has to be kept over a restart, for :meth:`restore`; whoever takes it keeps it, or puts it back."""
        taken, self._sent = self._sent, {}
        return taken

    def put_back(self, signed: Mapping[str, int]) -> None:
        """These are to be taken again."""
        for digest, timestamp in signed.items():
            self._sent[digest] = max(timestamp, self._sent.get(digest, 0))
        while len(self._sent) > MOST_UNKEPT:
            del self._sent[next(iter(self._sent))]

    async def begin(self, webhook_id: str, timestamp: int) -> Response | None:
        """The answer that was given to this delivery; None where it is to be answered now, and :meth:`end` called then.

        Waits where it is just being answered. Raises Replayed.
        """
        self._forget()
        digest = _digest(webhook_id)
        while (known := self._known.get(digest)) is not None and known.answering is not None:
            await asyncio.wait([known.answering])
        if known is not None:
            if known.response is not None:
                self._signed(known, timestamp)
                return known.response
            if timestamp <= known.timestamp:
                raise Replayed("this delivery was answered before")
        else:
            known = self._known[digest] = _Known(timestamp)
        self._signed(known, timestamp)
        known.answering = asyncio.get_running_loop().create_future()
        return None

    def end(self, webhook_id: str, response: Response | None) -> None:
        """It was answered so; None where it was not, and may come again."""
        digest = _digest(webhook_id)
        known = self._known[digest]
        if known.answering is not None:
            known.answering.set_result(None)
            known.answering = None
        if response is None:
            del self._known[digest]
            return
        known.response = response
        self._bytes += len(response.body)
        for old in self._known.values():
            if self._bytes <= self._most_bytes:
                break
            self._drop(old)

    def _signed(self, known: _Known, timestamp: int) -> None:
        known.timestamp = max(known.timestamp, timestamp)
        known.until = known.timestamp + GOOD_FOR

    def _drop(self, known: _Known) -> None:
        if known.response is not None:
            self._bytes -= len(known.response.body)
            known.response = None

    def _forget(self) -> None:
        now = self._clock.now()
        # In the order of their coming, which is nearly that of their end: what is behind one that ends later waits.
        while self._known:
            digest, known = next(iter(self._known.items()))
            if known.until >= now or known.answering is not None:
                break
            self._drop(known)
            del self._known[digest]


def _digest(webhook_id: str) -> str:
    return hashlib.sha256(webhook_id.encode()).hexdigest()
