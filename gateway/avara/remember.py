"""What was answered to which delivery, for as long as it could be played back.

A signature stays good for five minutes either way, so whoever captured a webhook could get answers with new URLs for
as long. Each ``webhook-id`` is therefore answered once: the same delivery again gets the same answer, and when that
is not kept any more, none. Avara's own repeats are signed anew: one that is later than those that were seen is a
repeat of hers, and is answered afresh where its answer is gone (Standard Webhooks: the id is the idempotency key).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.runtime import SYSTEM_CLOCK, Clock

GOOD_FOR = 300.0
"""Seconds by which a signature's timestamp may be off, either way."""

MOST_BYTES = 32 * 1024 * 1024
"""Of answers; one with 3,000 URLs has about a million."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that was given."""

    status: int
    body: bytes


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
        self._known: dict[str, _Known] = {}
        self._bytes = 0

    async def begin(self, webhook_id: str, timestamp: int) -> Response | None:
        """The answer that was given to this delivery; None where it is to be answered now, and :meth:`end` called then.

        Waits where it is just being answered. Raises Replayed.
        """
        self._forget()
        while (known := self._known.get(webhook_id)) is not None and known.answering is not None:
            await asyncio.wait([known.answering])
        if known is not None:
            if known.response is not None:
                self._signed(known, timestamp)
                return known.response
            if timestamp <= known.timestamp:
                raise Replayed("this delivery was answered before")
        else:
            known = self._known[webhook_id] = _Known(timestamp)
        self._signed(known, timestamp)
        known.answering = asyncio.get_running_loop().create_future()
        return None

    def end(self, webhook_id: str, response: Response | None) -> None:
        """It was answered so; None where it was not, and may come again."""
        known = self._known[webhook_id]
        if known.answering is not None:
            known.answering.set_result(None)
            known.answering = None
        if response is None:
            del self._known[webhook_id]
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
            webhook_id, known = next(iter(self._known.items()))
            if known.until >= now or known.answering is not None:
                break
            self._drop(known)
            del self._known[webhook_id]
