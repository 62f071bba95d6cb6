"""Health, proven by traffic: elsewhere, a listener that looked healthy had been dead for days (field note 25)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from gateway.runtime import SYSTEM_CLOCK, GatewayError, Supervisor

log = logging.getLogger(__name__)

FRESH = 5.0
"""Seconds for which a result is repeated, so that frequent questions do not load what they ask about."""

WITHIN = 5.0
"""Seconds for each probe."""

IDENTITY = "Avara-Gateway"
"""Header that tells one running gateway from any other: by it, ``check`` sees who answers the public URL."""

Probe = Callable[[], Awaitable[object]]


class Unhealthy(GatewayError):
    """A part does not work. Unlike other errors' texts, this one may be shown to anybody: it names no host and no
    path."""


class Health:
    """Runs probes and asks the loops, and tells which of them fail; the log has the details, since anybody may ask."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        loops: Supervisor,
        pacs: Callable[[], Mapping[str, float | None]] = dict,
        lanes: Callable[[], Mapping[str, float | None]] = dict,
        destinations: Callable[[], Mapping[str, float | None]] = dict,
    ) -> None:
        """*pacs* says of each PACS since when it does not answer (unix seconds; None: it does), *lanes* of the places
        that jobs are for, *destinations* of others that are sent something. One that does not is named, but is no
        failure of ours."""
        self.identity = secrets.token_hex(8)
        self._probes = probes
        self._loops = loops
        self._pacs = pacs
        self._lanes = lanes
        self._destinations = destinations
        self._failing: dict[str, str] = {}
        self._since: dict[str, float] = {}
        """Unix seconds since when each of these fails."""
        self._checked = float("-inf")
        self._checking = asyncio.Lock()

    @property
    def probes(self) -> tuple[str, ...]:
        """The names of what is proven."""
        return tuple(self._probes)

    @property
    def since(self) -> Mapping[str, float]:
        """Unix seconds since when each of those fails that did when it was last looked."""
        return self._since

    async def failing(self) -> Mapping[str, str]:
        """The probes that fail, each with its reason where anybody may know it, else with an empty text."""
        async with self._checking:
            if time.monotonic() - self._checked > FRESH:
                results = await asyncio.gather(*(self._run(*probe) for probe in self._probes.items()))
                self._failing = {name: why for name, why in zip(self._probes, results, strict=True) if why is not None}
                self._since = {name: self._since.get(name, SYSTEM_CLOCK.now()) for name in self._failing}
                self._checked = time.monotonic()
            return self._failing

    async def _run(self, name: str, probe: Probe) -> str | None:
        """None where the probe passes."""
        try:
            async with asyncio.timeout(WITHIN):
                await probe()
        except Exception as e:  # whatever it is, it means that this part does not work now
            if name not in self._failing:
                what = f"no answer within {WITHIN:g} s" if isinstance(e, TimeoutError) else str(e) or type(e).__name__
                log.error("health: %s fails: %s", name, what)
            return str(e) if isinstance(e, Unhealthy) else ""
        if name in self._failing:
            log.warning("health: %s works again", name)
        return None

    async def handle(self, request: web.Request) -> web.Response:
        """``GET /health``: 200 where every part works, else 503 with the names of those that do not, and reasons where
        they help and give nothing away."""
        failing = await self.failing()
        states = self._loops.states()
        fine = not failing and all(state.running for state in states)
        body = {
            "status": "ok" if fine else "failing",
            "checks": {name: "failing" if name in failing else "ok" for name in self._probes},
            "reasons": {name: why for name, why in failing.items() if why},
            "loops": {
                state.name: {"status": "ok"}
                if state.running
                else {"status": "failing", "since": moment(state.since), "reason": state.reason}
                for state in states
            },
            "pacs": _answering(self._pacs()),
            "jobs": _answering(self._lanes()),
        }
        if destinations := self._destinations():
            body["destinations"] = _answering(destinations)
        return web.json_response(body, status=200 if fine else 503, headers={IDENTITY: self.identity})

    async def live(self, request: web.Request) -> web.Response:
        """``GET /healthz``: 200 while nothing hangs, so that starting the process afresh would not help; it asks
        nobody. For what restarts processes."""
        alive = self._loops.alive
        return web.json_response({"status": "ok" if alive else "failing"}, status=200 if alive else 503)

    async def ready(self, request: web.Request) -> web.Response:
        """``GET /readyz``: 200 where every part of the gateway works, else 503; each part with its status, since when
        it fails, and why where anybody may know it. For monitors, and for what sends webhooks elsewhere."""
        failing = await self.failing()
        parts = {name: _part(self._since.get(name), failing.get(name, "")) for name in self._probes}
        loops = {
            state.name: _part(None if state.running else state.since, state.reason) for state in self._loops.states()
        }
        fine = all(part["status"] == "ok" for part in (*parts.values(), *loops.values()))
        away = {"pacs": self._pacs(), "jobs": self._lanes()}
        if destinations := self._destinations():
            away["destinations"] = destinations
        body = {
            "status": "ok" if fine else "failing",
            "parts": parts,
            "loops": loops,
            **{
                kind: {name: _part(since, "", "not answering") for name, since in places.items()}
                for kind, places in away.items()
            },
        }
        return web.json_response(body, status=200 if fine else 503)


def _part(since: float | None, reason: str, wrong: str = "failing") -> dict[str, str]:
    if since is None:
        return {"status": "ok"}
    return {"status": wrong, "since": moment(since)} | ({"reason": reason} if reason else {})


def _answering(places: Mapping[str, float | None]) -> dict[str, str]:
    return {name: "ok" if since is None else "not answering" for name, since in places.items()}


def moment(at: float) -> str:
    """Unix seconds, for people and machines."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
