"""The control socket: how commands on the same machine reach a running gateway.

A Unix socket in ``state_dir`` that only its owner can open. A command that needs what a running gateway
holds (its listening port, its store) asks it to do the work, and is told of the progress line by line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.admin.backup import KeptObjects
from gateway.admin.results import CheckEvent
from gateway.dicom import is_usable
from gateway.objects import TRANSFER_CHUNK, ObjectNotFound
from gateway.runtime import GatewayError
from gateway.studies import (
    Complete,
    Disputed,
    Fetcher,
    Flight,
    NotFound,
    NotSent,
    NotStored,
    Partial,
    Unconfirmed,
    Unreachable,
    names_of,
)

TELL_EVERY = 0.1
"""Seconds between two lines of progress."""

Line = dict[str, Any]

StudyCommand = Callable[[str, str, str], AsyncIterator[Line]]

Sing = Callable[[Callable[[str], None]], Awaitable[str]]
"""Is given who is told of each step; returns what came of it, or raises GatewayError."""


class GatewayGone(GatewayError):
    """A running gateway ended while it was asked."""

    transient = True


class Control:
    """The server's end."""

    def __init__(
        self,
        path: Path,
        fetcher: Fetcher,
        check: Callable[[dict[str, Any]], AsyncIterator[CheckEvent]],
        kept: KeptObjects,
        study: StudyCommand,
        synthetic: Sing | None = None,
    ) -> None:
        """*check* checks a configuration, which the command has read from its file. *kept* is what a backup needs of
        the store; *study* does what an operator asks for one study: (what, Study Instance UID, why); *synthetic* what
        is done with the synthetic study."""
        self._synthetic = synthetic
        self._kept_objects = kept
        self._path = path
        self._fetcher = fetcher
        self._check_file = check
        self._study = study
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens."""
        application = web.Application()
        application.router.add_post("/fetch/{uid}", self._fetch)
        application.router.add_post("/check", self._check)
        application.router.add_get("/kept", self._kept)
        application.router.add_get("/kept/{key:.+}", self._kept_object)
        application.router.add_post("/study/{what:show|access|drop|refetch}/{uid}", self._do)
        if self._synthetic is not None:
            application.router.add_post("/synthetic", self._sing)
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
        if not is_usable(uid):
            return web.json_response({"error": "not a Study Instance UID"}, status=400)
        return await _stream(request, fetch_progress(self._fetcher, uid))

    async def _do(self, request: web.Request) -> web.StreamResponse:
        what, uid = request.match_info["what"], request.match_info["uid"]
        if not is_usable(uid):
            return web.json_response({"error": "not a Study Instance UID"}, status=400)
        return await _stream(request, self._study(what, uid, request.query.get("why", "")))

    async def _check(self, request: web.Request) -> web.StreamResponse:
        try:
            document = await request.json()
        except ValueError:
            return web.json_response({"error": "not a configuration"}, status=400)

        async def lines() -> AsyncIterator[Line]:
            async for told in self._check_file(document):
                yield told.to_dict()

        return await _stream(request, lines())

    async def _sing(self, request: web.Request) -> web.StreamResponse:
        return await _stream(request, steps_of(self._synthetic)) if self._synthetic else web.Response(status=404)

    async def _kept(self, _: web.Request) -> web.Response:
        try:
            return web.json_response(await self._kept_objects.sizes())
        except GatewayError as e:
            return web.json_response({"error": str(e)}, status=502)

    async def _kept_object(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        try:
            async with self._kept_objects.read(request.match_info["key"]) as chunks:
                await response.prepare(request)
                async for chunk in chunks:
                    await response.write(chunk)
        except ObjectNotFound:
            return web.Response(status=404)
        except GatewayError as e:
            if response.prepared:
                raise  # half an object must not look whole: the connection ends
            return web.json_response({"error": str(e)}, status=502)
        await response.write_eof()
        return response


class KeptByGateway:
    """What a backup needs of the store, by way of the running gateway, which has it open; an async context manager."""

    def __init__(self, path: Path) -> None:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=None, sock_read=60)
        )

    async def __aenter__(self) -> KeptByGateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def answers(self) -> bool:
        """Whether a gateway runs. Raises GatewayError where it does, and its store fails."""
        try:
            await self.sizes()
        except ConnectionError:
            return False
        return True

    async def sizes(self) -> dict[str, int]:
        """As :class:`KeptObjects` has it; ConnectionError where no gateway runs."""
        async with self._get("") as answer:
            sizes: dict[str, int] = await answer.json()
            return sizes

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """As :class:`KeptObjects` has it."""
        async with self._get(f"/{quote(key, safe='')}") as answer:
            yield answer.content.iter_chunked(TRANSFER_CHUNK)

    @asynccontextmanager
    async def _get(self, what: str) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._http.get(URL(f"http://gateway/kept{what}", encoded=True)) as answer:
                if answer.status == 404:
                    raise ObjectNotFound("it is gone from the store")
                if answer.status != 200:
                    raise GatewayGone(f"the running gateway cannot give it: {(await answer.json())['error']}")
                yield answer
        except aiohttp.ClientConnectorError as e:
            raise ConnectionError("no gateway runs") from e
        except (aiohttp.ClientError, TimeoutError, ValueError) as e:
            raise GatewayGone("the running gateway ended before it had answered: see its log, and try again") from e


async def _stream(request: web.Request, lines: AsyncIterator[Line]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async for line in lines:
        await response.write(json.dumps(line).encode() + b"\n")
    await response.write_eof()
    return response


async def steps_of(sing: Sing) -> AsyncIterator[Line]:
    """Tells each step as it is done, then how it ended."""
    steps = asyncio.Queue[str]()
    work = asyncio.ensure_future(sing(steps.put_nowait))
    try:
        while not work.done() or not steps.empty():
            step = asyncio.ensure_future(steps.get())
            await asyncio.wait([step, work], return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                yield {"step": step.result()}
            step.cancel()
        yield {"ok": True, "text": await work}
    except GatewayError as e:
        yield {"ok": False, "text": str(e)}
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def fetch_progress(fetcher: Fetcher, study_instance_uid: str) -> AsyncIterator[Line]:
    """Fetches a study; tells how far it is, then how it ended."""
    async for line in progress_of(fetcher.fetch(study_instance_uid)):
        yield line


async def progress_of(flight: Flight) -> AsyncIterator[Line]:
    """Tells how far a fetch is, then how it ended."""
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
            text = f"{len(index.instances)} instances are here, {len(missing)} are missing: {reason}{names_of(missing)}"
            return {"outcome": "partial", "text": text, "missing": list(missing)}
        case Unconfirmed(index, _):
            text = f"{len(index.instances)} instances are here as they were sent; {flight.outcome.reason}"
            return {"outcome": "unconfirmed", "text": text}
        case NotFound():
            return {"outcome": "not found", "text": "no configured PACS has this study"}
        case Unreachable(reason) | NotSent(reason) | Disputed(reason) | NotStored(reason):
            return {"outcome": "failed", "text": reason}
        case None:
            raise AssertionError("told before it ended")


async def ask(path: Path, command: str, document: Any = None) -> AsyncIterator[Line]:
    """The lines that a running gateway answers to ``POST`` *command*, with a *document* in JSON. Raises ConnectionError
    where none runs, and GatewayGone where it ends meanwhile."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(total=None)
            ) as http,
            http.post(URL(f"http://gateway{command}", encoded=True), json=document) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.content:
                yield json.loads(line)
    except aiohttp.ClientConnectorError as e:
        raise ConnectionError(f"no gateway listens on {path}") from e
    except (aiohttp.ClientError, OSError, ValueError) as e:
        # Half a line, too, is the end of one that died.
        raise GatewayGone("the running gateway ended before it had answered: see its log, and try again") from e
