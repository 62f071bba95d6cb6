"""The embedded store's public face: presigned URLs under the gateway's own public name.

The embedded store listens on loopback. So that a hospital needs one public name and one certificate, the
gateway's HTTP port passes requests for ``/<bucket>/…`` on to it: only such as carry a presigned signature,
whose check stays the store's; the Host stays as the browser sent it, since that is what was signed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp import web
from yarl import URL

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "PUT")

_ASKED = ("Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "Content-Type", "Content-Length")
_TOLD = (
    "Content-Type", "Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Last-Modified", "Content-Disposition",
)  # fmt: skip

CHUNK = 256 * 1024
"""Bytes held of a transfer at a time."""


class Cors:
    """Which web origins' pages may read the answers (WHATWG Fetch, CORS protocol).

    Without credentials: the URL itself is the permission, and a page can do no more with it than its holder.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """What goes onto every answer to a page of *origin*."""
        if origin is None or not (self._any or origin in self._origins):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if self._any else origin,
            "Access-Control-Expose-Headers": "Content-Range, Content-Length, Accept-Ranges, ETag",
            **({} if self._any else {"Vary": "Origin"}),
        }

    def preflight(self, request: web.Request, methods: Sequence[str] = METHODS) -> web.Response:
        """The answer to a preflight request. It also admits a public page to a private address where a browser asks."""
        allowed = self.headers(request.headers.get("Origin"))
        if not allowed:
            return web.Response(status=403)
        allowed["Access-Control-Allow-Methods"] = ", ".join(methods)
        allowed["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "")[:500]
        allowed["Access-Control-Max-Age"] = "3600"
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            allowed["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=allowed)


class StoreFront:
    """Passes presigned requests on to the embedded store. To be used as an async context manager."""

    def __init__(self, endpoint: Callable[[], str], *, bucket: str, cors: Cors, max_upload: int) -> None:
        """*endpoint* gives ``host:port`` of the store; *max_upload* is bytes."""
        self._endpoint = endpoint
        self._bucket = bucket
        self._cors = cors
        self._max_upload = max_upload
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> StoreFront:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60),
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
        return [web.route("*", f"/{self._bucket}/{{key:.+}}", self._handle)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return self._cors.preflight(request)
        if request.method not in METHODS:
            return web.json_response({"error": "GET, HEAD or PUT"}, status=405, headers={"Allow": ", ".join(METHODS)})
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        allowed = self._cors.headers(request.headers.get("Origin"))
        if "X-Amz-Signature" not in request.query:
            return web.json_response({"error": "this URL is not signed"}, status=403, headers=allowed)
        if request.method == "PUT" and (request.content_length or 0) > self._max_upload:
            return web.json_response({"error": "the upload is too large"}, status=413, headers=allowed)
        if request.method == "PUT" and request.content_length is None:
            return web.json_response({"error": "an upload needs a Content-Length"}, status=411, headers=allowed)
        assert self._http is not None
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        headers["Host"] = request.host
        url = URL(f"http://{self._endpoint()}{request.rel_url.raw_path_qs}", encoded=True)
        body = request.content.iter_chunked(CHUNK) if request.method == "PUT" else None
        response: web.StreamResponse | None = None
        try:
            async with self._http.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                if answer.status >= 400:
                    return web.json_response(
                        {"error": _REFUSALS.get(answer.status, "the store refused this request")},
                        status=answer.status if answer.status < 500 else 503,
                        headers=allowed,
                    )
                told = {name: answer.headers[name] for name in _TOLD if name in answer.headers}
                response = web.StreamResponse(status=answer.status, headers={**told, **allowed})
                await response.prepare(request)
                if request.method != "HEAD":
                    async for chunk in answer.content.iter_chunked(CHUNK):
                        await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            if response is not None:
                raise  # too late for another status: the connection ends, and the browser sees a short body
            log.warning("the embedded store does not answer: %s", type(e).__name__)
            return web.json_response({"error": "the store is not available now"}, status=503, headers=allowed)


_REFUSALS = {
    403: "this URL has expired, or was altered",
    404: "there is no such object",
    416: "the range lies outside the object",
}
