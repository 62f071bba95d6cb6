"""Health, proven by traffic: a listener that looked healthy has been dead for days elsewhere (field note 25)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from gateway.runtime.supervise import Supervisor

FRESH = 5.0
"""Seconds for which a result is told again, so that whoever asks often does not load what is asked."""

WITHIN = 5.0
"""Seconds for each probe."""

Probe = Callable[[], Awaitable[object]]


class Health:
    """Runs probes and asks the loops, and tells which of them fail; without details, since anybody may ask."""

    def __init__(
        self, probes: Mapping[str, Probe], loops: Supervisor, pacs: Callable[[], Mapping[str, bool]] = dict
    ) -> None:
        """*pacs* says which PACS answer. One that does not is told and is no failure of ours."""
        self._probes = probes
        self._loops = loops
        self._pacs = pacs
        self._failing: list[str] = []
        self._checked = float("-inf")
        self._checking = asyncio.Lock()

    async def failing(self) -> list[str]:
        """Names of the probes that fail."""
        async with self._checking:
            if time.monotonic() - self._checked > FRESH:
                results = await asyncio.gather(*(self._passes(p) for p in self._probes.values()))
                self._failing = [name for name, ok in zip(self._probes, results, strict=True) if not ok]
                self._checked = time.monotonic()
            return self._failing

    @staticmethod
    async def _passes(probe: Probe) -> bool:
        try:
            async with asyncio.timeout(WITHIN):
                await probe()
        except Exception:  # whatever it is, it means that this part does not work now
            return False
        return True

    async def handle(self, request: web.Request) -> web.Response:
        """``GET /health``: 200 where every part works, else 503 with the names of those that do not."""
        failing = await self.failing()
        states = self._loops.states()
        fine = not failing and all(state.running for state in states)
        body = {
            "status": "ok" if fine else "failing",
            "checks": {name: "failing" if name in failing else "ok" for name in self._probes},
            "loops": {
                state.name: {"status": "ok"}
                if state.running
                else {"status": "failing", "since": _moment(state.since), "reason": state.reason}
                for state in states
            },
            "pacs": {name: "ok" if answers else "not answering" for name, answers in self._pacs().items()},
        }
        return web.json_response(body, status=200 if fine else 503)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
