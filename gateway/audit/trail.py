"""The trail of a running gateway: whoever has something to note does not wait for the disk.

What is noted is collected and written a moment later, many entries at once, by a thread of its own. What strangers can
cause as often as they like (associations that are rejected, URLs that are none) is told once and then counted, so that
nobody fills the disk with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gateway.audit.chain import BEGINNING, Entry
from gateway.audit.file import AuditFile, NotWritten
from gateway.runtime import SYSTEM_CLOCK, Clock, progress

log = logging.getLogger(__name__)

WRITES_EVERY = 0.5
"""Seconds between two writes: what a gateway that is killed may not have told."""

MOST_WAITING = 100_000
"""Entries that wait for the disk; past them those that come are counted, and told as lost."""

AT_ONCE = 2000

COUNTED_FOR = 60.0
"""Seconds for which what repeats is counted before it is told again."""

KINDS = 1000
"""Kinds of repeated entries that are kept apart; of more, the one that has been counted for longest is told early."""

TELLS_HEAD_EVERY = 3600.0
"""Seconds between two lines of the log with the head, to compare the trail with later."""


@dataclass(slots=True)
class _Counted:
    since: float
    what: str
    fields: dict[str, Any]
    times: int = 0


class AuditTrail:
    """Collects entries, and writes them in its own time."""

    def __init__(
        self,
        file: AuditFile | None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        is_canary: Callable[[Mapping[str, Any]], bool] = lambda fields: False,
    ) -> None:
        """Without *file* there is no trail, and whatever is noted is let go. *is_canary* says of an entry's fields
        whether it is about the gateway's own synthetic study: such an entry is marked."""
        self._is_canary = is_canary
        self._file = file
        self._clock = clock
        self._waiting: deque[Entry] = deque()
        self._counted: OrderedDict[tuple[str, str], _Counted] = OrderedDict()
        self._lost = 0
        self._trouble = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._writing = asyncio.Lock()

    def note(self, what: str, /, **fields: Any) -> None:
        """Something happened. *fields* are identifiers and outcomes, never a patient's name."""
        if self._file is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        if self._is_canary(fields):
            fields["canary"] = True
        self._waiting.append(Entry(self._clock.now(), what, fields))

    def count(self, what: str, by: str, /, **fields: Any) -> None:
        """Something happened that can happen as often as somebody likes: the first is told at once, further ones *by*
        the same are counted."""
        counted = self._counted.get((what, by))
        if counted is not None:
            counted.times += 1
            return
        self._counted[what, by] = _Counted(self._clock.monotonic(), what, fields)
        self.note(what, **fields)
        if len(self._counted) > KINDS:
            self._tell(self._counted.popitem(last=False)[1])

    def check(self) -> str:
        """What is wrong with it, for the operator; empty where nothing is."""
        return self._trouble

    async def run(self) -> None:
        """Writes what was noted, until it is cancelled."""
        head_at = self._clock.monotonic()
        while True:
            progress()
            self._tell_counted()
            await self.flush()
            if self._file is not None and self._file.head != BEGINNING and self._clock.monotonic() >= head_at:
                head_at = self._clock.monotonic() + TELLS_HEAD_EVERY
                log.info("the audit trail ends with entry %s", self._file.head)
            await self._clock.sleep(WRITES_EVERY)

    async def flush(self) -> None:
        """Writes all that was noted so far; where that cannot be done it is told and kept."""
        async with self._writing:
            while self._waiting or self._lost:
                if self._lost and len(self._waiting) < MOST_WAITING:
                    lost, self._lost = self._lost, 0
                    self.note("lost", times=lost, text="entries came faster than they could be written")
                if not await self._write([self._waiting[n] for n in range(min(AT_ONCE, len(self._waiting)))]):
                    return

    async def stop(self) -> None:
        """Writes the rest; to be called once nothing more is noted."""
        self._tell_counted(over=True)
        await self.flush()
        self._thread.shutdown(wait=False)

    async def _write(self, batch: list[Entry]) -> bool:
        assert self._file is not None
        done, trouble = len(batch), ""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.append, batch)
        except NotWritten as e:
            done, trouble = e.done, str(e)
        for _ in range(done):
            self._waiting.popleft()
        if trouble != self._trouble:
            if trouble:
                log.error("%s; what happens meanwhile is kept in memory, up to %d entries", trouble, MOST_WAITING)
            else:
                log.info("the audit trail is written again")
            self._trouble = trouble
        return not trouble

    def _tell_counted(self, *, over: bool = False) -> None:
        while self._counted:
            key, counted = next(iter(self._counted.items()))
            if not over and self._clock.monotonic() - counted.since < COUNTED_FOR:
                return
            del self._counted[key]
            self._tell(counted)

    def _tell(self, counted: _Counted) -> None:
        if counted.times:
            self.note(counted.what, **counted.fields, times_more=counted.times)
