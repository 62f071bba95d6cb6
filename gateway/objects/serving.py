"""An object of the store to a browser: conditions and ranges as HTTP has them, whatever the store makes of them."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from aiohttp import web

from gateway.objects.client import ObjectStore
from gateway.objects.content import harmless
from gateway.objects.errors import ObjectNotFound, StoreError, StoreUnavailable
from gateway.objects.info import ObjectInfo
from gateway.web import CONDITIONS, Content, Turn, Verdict, judge


@dataclass(frozen=True, slots=True)
class Opened:
    """A URL that somebody opened, for whoever keeps account."""

    method: str
    key: str
    """Of the object that it is for; as it was asked for, where the URL is none of ours."""
    remote: str
    """The client's address."""
    status: int
    """0 where the connection ended before an answer did."""
    size: int
    """Bytes that the client took, or gave."""


_DECIDING = ("Range", *CONDITIONS)

OnOpened = Callable[[Opened], None]
"""Must not wait."""


async def serve_object(
    request: web.Request,
    store: ObjectStore,
    key: str,
    turn: Turn,
    allowed: dict[str, str],
    *,
    opened: OnOpened,
) -> web.StreamResponse:
    """Answers a GET or HEAD with *key*'s bytes, and tells *opened* how that ended; *allowed* are CORS headers. Raises
    StoreError, ConnectionError."""
    status = 0
    try:
        response = await _serve(request, store, key, turn, allowed)
        status = response.status
        return response
    except ObjectNotFound:
        status = 404
        raise
    except StoreError:
        status = 503
        raise
    finally:
        opened(Opened(request.method, key, request.remote or "", status, turn.moved_bytes))


async def _serve(
    request: web.Request, store: ObjectStore, key: str, turn: Turn, allowed: dict[str, str]
) -> web.StreamResponse:
    if request.method == "GET" and not any(name in request.headers for name in _DECIDING):
        async with store.open(key) as whole:
            return await _send(request, whole.info, Verdict(200, 0, whole.info.size), allowed, whole.chunks, turn)
    info = await store.head(key)
    if info is None:
        raise ObjectNotFound(f"{store} has no object {key}")
    verdict = judge(request.method, _asked(request), Content(info.size, info.etag, info.last_modified))
    if verdict.status == 416:
        outside = allowed | {"Content-Range": f"bytes */{info.size}"}
        return web.json_response({"error": "the range lies outside the object"}, status=416, headers=outside)
    if verdict.status == 412:
        return web.json_response({"error": "a condition of the request does not hold"}, status=412, headers=allowed)
    if verdict.status == 304 or request.method == "HEAD" or verdict.start == verdict.end:
        return await _send(request, info, verdict, allowed, None, turn)
    length = verdict.end - verdict.start if verdict.status == 206 else None
    async with store.open(key, offset=verdict.start, length=length) as part:
        if part.info.etag != info.etag:
            raise StoreUnavailable(f"{store}: {key} was replaced while it was asked for")
        return await _send(request, info, verdict, allowed, part.chunks, turn)


def _asked(request: web.Request) -> dict[str, str]:
    """The fields that decide; one that stands in several lines is the list of their values (RFC 9110 §5.3)."""
    return {name: ", ".join(request.headers.getall(name)) for name in _DECIDING if name in request.headers}


@functools.lru_cache(maxsize=256)
def _written(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


async def _send(
    request: web.Request,
    info: ObjectInfo,
    verdict: Verdict,
    allowed: dict[str, str],
    chunks: AsyncIterator[bytes] | None,
    turn: Turn,
) -> web.StreamResponse:
    headers = allowed | {"ETag": info.etag, "Accept-Ranges": "bytes"}
    if info.last_modified is not None:
        headers["Last-Modified"] = _written(info.last_modified)
    if verdict.status != 304:
        headers |= harmless(info.content_type)
    if verdict.status == 206:
        headers["Content-Range"] = f"bytes {verdict.start}-{verdict.end - 1}/{info.size}"
    response = web.StreamResponse(status=verdict.status, headers=headers)
    if verdict.status != 304:
        response.content_length = verdict.end - verdict.start
    await response.prepare(request)
    if chunks is not None:
        async for chunk in chunks:
            with turn.client_moves(len(chunk)):
                await response.write(chunk)
    with turn.client_moves():
        await response.write_eof()
    return response
