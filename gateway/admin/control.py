"""The control socket: how commands on the same machine reach a running gateway.

A Unix socket in ``state_dir`` that only its owner can open. A command that needs what a running gateway
holds (its listening port, its store) asks it to do the work, and is told of the progress line by line.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway.admin.checks import Checks
from gateway.dicom.uid import is_uid
from gateway.runtime.errors import GatewayError
from gateway.studies.fetch import Fetcher
from gateway.studies.flight import Flight
from gateway.studies.outcome import Complete, Disputed, NotFound, NotSent, NotStored, Partial, Unconfirmed, Unreachable

TELL_EVERY = 0.1
"""Seconds between two lines of progress."""

Line = dict[str, Any]


class GatewayGone(GatewayError):
    """A running gateway ended while it was asked."""

    transient = True


class Control:
    """The server's end."""

    def __init__(self, path: Path, fetcher: Fetcher, checks: Checks) -> None:
        self._path = path
        self._fetcher = fetcher
        self._checks = checks
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens."""
        application = web.Application()
        application.router.add_post("/fetch/{uid}", self._fetch)
        application.router.add_post("/check", self._check)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Listens no more."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _fetch(self, request: web.Request) -> web.StreamResponse:
        uid = request.match_info["uid"]
        if not is_uid(uid):
            return web.json_response({"error": "not a Study Instance UID"}, status=400)
        return await _stream(request, fetch_progress(self._fetcher, uid))

    async def _check(self, request: web.Request) -> web.StreamResponse:
        async def lines() -> AsyncIterator[Line]:
            async for result in self._checks.run():
                yield result.to_dict()

        return await _stream(request, lines())


async def _stream(request: web.Request, lines: AsyncIterator[Line]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async for line in lines:
        await response.write(json.dumps(line).encode() + b"\n")
    await response.write_eof()
    return response


async def fetch_progress(fetcher: Fetcher, study_instance_uid: str) -> AsyncIterator[Line]:
    """Fetches a study; tells how far it is, then how it ended."""
    flight = fetcher.fetch(study_instance_uid)
    while await flight.ended(TELL_EVERY) is None:
        yield _progress(flight)
    yield _progress(flight) | _ended(flight)


def _progress(flight: Flight) -> Line:
    expected = len(flight.expected) if flight.expected else flight.expected_count
    size = sum(i.size for i in flight.stored.values())
    return {"stored": len(flight.stored), "expected": expected, "bytes": size}


def _ended(flight: Flight) -> Line:
    match flight.outcome:
        case Complete(index):
            return {"outcome": "complete", "text": f"{len(index.instances)} instances, {index.size / 1e6:.1f} MB"}
        case Partial(index, missing, reason):
            return {
                "outcome": "partial",
                "text": f"{len(index.instances)} instances are here, {len(missing)} are missing: {reason}",
                "missing": list(missing),
            }
        case Unconfirmed(index, _):
            text = f"{len(index.instances)} instances are here as they were sent; {flight.outcome.reason}"
            return {"outcome": "unconfirmed", "text": text}
        case NotFound():
            return {"outcome": "not found", "text": "no configured PACS has this study"}
        case Unreachable(reason) | NotSent(reason) | Disputed(reason) | NotStored(reason):
            return {"outcome": "failed", "text": reason}
        case None:
            raise AssertionError("told before it ended")


async def ask(path: Path, command: str) -> AsyncIterator[Line]:
    """The lines that a running gateway answers to ``POST`` *command*. Raises ConnectionError where none runs, and
    GatewayGone where it ends meanwhile."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=None)
            ) as http,
            http.post(f"http://gateway{command}") as answer,
        ):
            answer.raise_for_status()
            async for line in answer.content:
                yield json.loads(line)
    except aiohttp.ClientConnectorError as e:
        raise ConnectionError(f"no gateway listens on {path}") from e
    except (aiohttp.ClientError, OSError, ValueError) as e:
        # Half a line, too, is the end of one that died.
        raise GatewayGone("the running gateway ended before it had answered: see its log, and try again") from e
