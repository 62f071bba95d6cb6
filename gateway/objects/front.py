"""The embedded store's public face: presigned URLs under the gateway's own public name.

The embedded store listens on loopback. So that a hospital needs one public name and one certificate, the gateway's
HTTP port serves ``/<bucket>/…`` from it. The keys are the gateway's own, so a URL is checked here, before a byte goes
to the store: who has no key takes nothing but the moment that the check takes. Downloads and uploads have turns of
their own, so that neither holds up the other.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from gateway.objects.client import TRANSFER_CHUNK, ObjectStore
from gateway.objects.errors import ObjectNotFound, StoreError
from gateway.objects.info import ObjectInfo
from gateway.objects.serving import OnOpened, Opened, serve_object
from gateway.objects.sigv4 import PresignedCheck
from gateway.objects.uploads import UploadQuota
from gateway.runtime import Seldom
from gateway.runtime import printable as runtime_printable
from gateway.web import METHODS, Cors, Turn, WebServer, ask_for_body, expects_later, gone

log = logging.getLogger(__name__)

_ASKED = ("If-None-Match", "If-Match", "If-Unmodified-Since", "Content-Type", "Content-Length", "Content-MD5")
_TOLD = ("ETag", "Last-Modified")

SILENCE = 60.0
"""Seconds in which the store has to say something."""


class StoreFront:
    """Serves presigned requests from the embedded store. To be used as an async context manager."""

    def __init__(
        self,
        store: ObjectStore,
        server: WebServer,
        *,
        cors: Cors,
        max_upload: int,
        quota: UploadQuota,
        uploaded: Callable[[ObjectInfo], None],
        opened: OnOpened,
        signed_for: str = "",
    ) -> None:
        """*signed_for* is the host of the URLs that are given out. *store* has connections of its own for this;
        *max_upload* is bytes; *uploaded* is told of each upload once the store has it, *opened* of each request,
        however it ended."""
        self._store = store
        self._server = server
        self._check = PresignedCheck(store.credentials, store.region, store.bucket)
        self._cors = cors
        self._max_upload = max_upload
        self._quota = quota
        self._uploaded = uploaded
        self._opened = opened
        self._signed_for = signed_for
        self._told = Seldom(log)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> StoreFront:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._server.bounds.uploads),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._http is not None:
            await self._http.close()

    def routes(self) -> list[web.RouteDef]:
        """What the gateway's HTTP server has to serve."""
        path = f"/{self._store.bucket}/{{key:.+}}"
        return [web.route("*", path, self._handle, expect_handler=expects_later)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return self._cors.preflight(request)
        allowed = self._cors.headers(request.headers.get("Origin"))
        if request.method not in METHODS:
            return _error(405, "GET, HEAD or PUT", allowed | {"Allow": ", ".join(METHODS)})
        key = unquote(request.rel_url.raw_path.split("/", 2)[2])
        if not self._check.allows(request.method, request.host, key, request.rel_url.raw_query_string):
            self._opened(Opened(request.method, key, request.remote or "", 403, 0))
            self._tell_of_a_proxy(request, key)
            return _error(403, "this URL is not signed, has expired, or was altered", _last(request, allowed))
        try:
            if request.method == "PUT":
                return await self._take(request, key, allowed)
            async with self._server.downloads.take(request.remote or "", gone=gone(request)) as turn:
                return await serve_object(request, self._store, key, turn, allowed, opened=self._opened)
        except ObjectNotFound:
            return _error(404, "there is no such object", allowed)
        except StoreError as e:
            log.warning("%s of an object: %s", request.method, e)
            if request.writer.output_size:
                raise ConnectionResetError("too late for another status: the browser sees a short body") from e
            return _error(503, "the store is not available now", allowed)

    def _tell_of_a_proxy(self, request: web.Request, key: str) -> None:
        """Where a URL would be right under the host that it was signed for, a proxy on the way has changed that."""
        query = request.rel_url.raw_query_string
        if self._signed_for and self._check.allows(request.method, self._signed_for, key, query):
            self._told.warning(
                "a URL that is right was refused: it is signed for %s, and the proxy says that it was asked for as %s: "
                "have the proxy pass the Host header on as it came (nginx: proxy_set_header Host $http_host)",
                self._signed_for, runtime_printable.printable(request.host[:100]),
            )  # fmt: skip

    async def _take(self, request: web.Request, key: str, allowed: dict[str, str]) -> web.StreamResponse:
        refused = _last(request, allowed)
        size = request.content_length
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            plain = refused | {"Accept-Encoding": "identity"}  # RFC 9110 §15.5.16
            return _error(415, "an upload comes as it is, without a Content-Encoding", plain)
        if size is None:
            return _error(411, "an upload needs a Content-Length", refused)
        if size > self._max_upload:
            return _error(413, "the upload is too large", refused)
        if not self._quota.has_room(size):
            log.warning("an upload of %d bytes was refused: the disk has to keep cache.min_free", size)
            return _error(507, "the gateway has no room for uploads now", refused | {"Retry-After": "60"})
        async with self._server.uploads.take(request.remote or "", gone=gone(request)) as turn:
            if not self._quota.take(key, size):
                return _error(429, "this URL has been used for as many uploads as it allows", refused)
            stored, status = False, 0
            try:
                await ask_for_body(request)
                answer = await self._put(request, key, turn, allowed)
                stored, status = answer.status < 300, answer.status
                if stored:
                    self._uploaded(ObjectInfo(key, size, answer.headers.get("ETag", "").strip('"'), None))
                return answer
            finally:
                self._quota.end(key, size, stored=stored)
                self._opened(Opened(request.method, key, request.remote or "", status, turn.moved_bytes))

    async def _put(self, request: web.Request, key: str, turn: Turn, allowed: dict[str, str]) -> web.StreamResponse:
        assert self._http is not None
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        headers["Host"] = request.host  # which was signed: the store checks once more
        url = URL(f"http://{self._store.endpoint}{request.rel_url.raw_path_qs}", encoded=True)
        body = _Body(request, turn)
        try:
            async with self._http.put(url, headers=headers, data=aiter(body), allow_redirects=False) as answer:
                told = allowed | {name: answer.headers[name] for name in _TOLD if name in answer.headers}
                if answer.status < 300:
                    return web.Response(status=answer.status, headers=told)
                status = answer.status if answer.status < 500 else 503
                return _error(status, _REFUSALS.get(status, "the store refused this request"), allowed)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            if body.failed:
                raise ConnectionResetError("the browser left") from e
            log.warning("the embedded store does not take an upload: %s", type(e).__name__)
            return _error(503, "the store is not available now", _last(request, allowed))


class _Body:
    """What the browser sends, as it comes."""

    def __init__(self, request: web.Request, turn: Turn) -> None:
        self._content = request.content
        self._turn = turn
        self.failed = False
        """Whether the browser's side broke, rather than the store's."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            try:
                with self._turn.client_moves():
                    chunk = await self._content.read(TRANSFER_CHUNK)
            except Exception:
                self.failed = True
                raise
            if not chunk:
                return
            self._turn.moved(len(chunk))
            yield chunk


_REFUSALS = {
    403: "this URL is not signed, has expired, or was altered",
    412: "a condition of the request does not hold",
}


def _error(status: int, text: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=headers)


def _last(request: web.Request, headers: dict[str, str]) -> dict[str, str]:
    """What still comes of a body that nobody wants is not waited for: the connection ends with the answer."""
    return headers | {"Connection": "close"} if request.body_exists else headers
