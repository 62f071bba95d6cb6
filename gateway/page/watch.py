"""Looks at the running gateway for the page: now and then, so that "since when" is known though nobody was looking."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.admin import Health, Judgement, of_disk
from gateway.journal import EventKind, EventLog, Jobs, JobState, Journal, JournalError, PausedLane, events
from gateway.objects import ObjectStore
from gateway.page.prefetched import PrefetchSeen
from gateway.page.standing import Memory, Observed, Standing, judge
from gateway.runtime import GatewayError, Supervisor, progress
from gateway.studies import Flight

log = logging.getLogger(__name__)

LOOKS_EVERY = 10.0
"""Seconds."""

FRESH = 2.0
"""Seconds for which what was seen is shown to whoever looks, however many look."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the page looks at."""

    journal: Journal
    store: ObjectStore
    jobs: Jobs
    events: EventLog
    health: Health
    probes: Sequence[str]
    """The names of what ``health`` proves."""
    loops: Supervisor
    judgement: Judgement
    flights: Callable[[], Sequence[Flight]]
    cached: Callable[[], int]
    """Bytes in the cache."""
    prefetch: Callable[[], Awaitable[PrefetchSeen]] | None
    """How prefetch stands, which raises JournalError; None where nothing is prefetched."""


class Watch:
    """Keeps the latest standing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = parts.journal.clock
        self._memory = Memory()
        self._looking = asyncio.Lock()
        self._latest: Standing | None = None

    async def run(self) -> None:
        """Looks, until it is cancelled."""
        while True:
            progress()
            await self._parts.judgement.answering.ask()
            await self.look()
            await self._clock.sleep(LOOKS_EVERY)

    async def standing(self) -> Standing:
        """How it stands, seen a moment ago at most."""
        if self._latest is None or self._clock.now() - self._latest.at > FRESH:
            return await self.look()
        return self._latest

    async def look(self) -> Standing:
        """Looks now."""
        async with self._looking:
            self._latest = judge(await self._observe(), self._memory)
            return self._latest

    async def _observe(self) -> Observed:
        parts = self._parts
        judgement = parts.judgement
        failing = dict(await parts.health.failing())
        paused: Sequence[PausedLane] = ()
        judged = [*await judgement.of_certificates(), *judgement.of_signatures()]
        held, last, prefetch, room = 0, None, None, ""
        try:
            counts = await parts.jobs.counts()
            held = sum(number for (_, state), number in counts.items() if state is JobState.QUARANTINED)
            paused = await parts.jobs.paused_lanes()
            await parts.events.flush()
            webhooks = await parts.journal.run(lambda c: events.latest(c, EventKind.WEBHOOK, 1))
            last = webhooks[-1].at if webhooks else None
            judged += await judgement.of_silence()
            if parts.prefetch is not None:
                prefetch = await parts.prefetch()
        except JournalError as e:
            failing["journal"] = str(e)
        with contextlib.suppress(GatewayError):  # its probe says why
            left = await judgement.state_dir.check()
            room = str(left)
            judged += [trouble] if (trouble := of_disk(left.free, judgement.disk_free)) else []
        return Observed(
            self._clock.now(),
            {name: failing.get(name) for name in parts.probes},
            parts.health.since,
            parts.loops.states(),
            judgement.answering.answers(),
            judged,
            paused,
            held,
            last,
            room,
            parts.cached(),
            judgement.certificates,
            prefetch,
        )
