"""Looks at the running gateway for the page: now and then, so that "since when" is known though nobody was looking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.admin import CertificateEnd, Health, StateDir
from gateway.journal import EventKind, EventLog, Jobs, JobState, Journal, JournalError, JournalEvent, PausedLane, events
from gateway.objects import ObjectStore
from gateway.pacs import PacsError
from gateway.page.standing import AvaraSeen, Memory, Observed, PacsSeen, Standing, judge
from gateway.runtime import GatewayError, Supervisor, progress
from gateway.studies import Flight, Pacs

log = logging.getLogger(__name__)

LOOKS_EVERY = 10.0
"""Seconds."""

READS_EVERY = 600.0
"""Seconds between two looks at certificates."""

FRESH = 2.0
"""Seconds for which what was seen is shown to whoever looks, however many look."""

ECHOES_EVERY = 60.0
"""Seconds between two C-ECHOs to each PACS."""

ECHO_WITHIN = 10.0
"""Seconds for each."""

SILENT_TWICE = 2
"""C-ECHOs in a row that were not answered, from which on that is told: one alone is a PACS that was busy."""

REFUSALS = 200
"""Refused webhooks that are looked at."""


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
    state_dir: StateDir
    pacs: Sequence[Pacs]
    flights: Callable[[], Sequence[Flight]]
    cached: Callable[[], int]
    """Bytes in the cache."""
    certificates: Callable[[], Awaitable[Sequence[CertificateEnd]]]


@dataclass(slots=True)
class _Echo:
    at: float | None = None
    milliseconds: float | None = None
    failures: int = 0
    failure: str = ""


class Watch:
    """Keeps the latest standing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = parts.journal.clock
        self._memory = Memory()
        self._echoes = {pacs.name: _Echo() for pacs in parts.pacs}
        self._looking = asyncio.Lock()
        self._latest: Standing | None = None
        self._certificates: Sequence[CertificateEnd] = ()

    async def run(self) -> None:
        """Looks, until it is cancelled."""
        echo_at = read_at = self._clock.monotonic()
        while True:
            progress()
            if self._clock.monotonic() >= read_at:
                read_at = self._clock.monotonic() + READS_EVERY
                self._certificates = await self._parts.certificates()
            if self._clock.monotonic() >= echo_at:
                echo_at = self._clock.monotonic() + ECHOES_EVERY
                await asyncio.gather(*map(self._echo, self._parts.pacs))
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
        failing = dict(await parts.health.failing())
        paused: Sequence[PausedLane] = ()
        held, avara = 0, AvaraSeen(None, 0, "", None)
        try:
            counts = await parts.jobs.counts()
            held = sum(number for (_, state), number in counts.items() if state is JobState.QUARANTINED)
            paused = await parts.jobs.paused_lanes()
            await parts.events.flush()
            avara = await parts.journal.run(
                lambda c: avara_seen(
                    events.latest(c, EventKind.WEBHOOK, 1), events.latest(c, EventKind.REFUSED, REFUSALS)
                )
            )
        except JournalError as e:
            failing["journal"] = str(e)
        try:
            disk = await parts.state_dir.check()
        except GatewayError:
            disk = ""  # its probe says why
        return Observed(
            self._clock.now(),
            {name: failing.get(name) for name in parts.probes},
            parts.loops.states(),
            [self._seen(pacs) for pacs in parts.pacs],
            paused,
            held,
            avara,
            disk,
            parts.cached(),
            self._certificates,
        )

    def _seen(self, pacs: Pacs) -> PacsSeen:
        echo, peer = self._echoes[pacs.name], pacs.client.peer
        failure = echo.failure if echo.failures >= SILENT_TWICE else ""
        title = f"{peer.ae_title} at {peer.host}:{peer.port}"
        return PacsSeen(pacs.name, title, pacs.trouble, echo.at, echo.milliseconds, failure)

    async def _echo(self, pacs: Pacs) -> None:
        echo, began = self._echoes[pacs.name], self._clock.monotonic()
        try:
            async with asyncio.timeout(ECHO_WITHIN):
                await pacs.client.echo()
        except (PacsError, TimeoutError) as e:
            echo.failures += 1
            echo.failure = str(e) or f"it has not answered a C-ECHO within {ECHO_WITHIN:g} s"
        else:
            echo.failures = 0
            echo.at, echo.milliseconds = self._clock.now(), (self._clock.monotonic() - began) * 1000


def avara_seen(webhooks: Sequence[JournalEvent], refusals: Sequence[JournalEvent]) -> AvaraSeen:
    """Avara's side, out of the latest webhook and what was refused, both in order."""
    last = webhooks[-1].at if webhooks else None
    since = [e for e in refusals if e.text.startswith("webhook") and (last is None or e.at > last)]
    latest = since[-1] if since else None
    return AvaraSeen(last, len(since), latest.text if latest else "", latest.at if latest else None)
