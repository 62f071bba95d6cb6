"""The HTTP server: aiohttp behind our own listener, with bounds on everything that a stranger can hold.

How many connections and turns there are follows from the descriptors that the process may open: what the gateway
needs for its PACS, store, journal and files is kept out of reach of whoever connects.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.web.clients import Clients
from gateway.web.cors import Cors
from gateway.web.listener import Connection, Listener
from gateway.web.turns import Busy, TooSlow, Turns

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LINGER = 2.0
"""Seconds for which the rest of a refused body is read, so that the client reads the answer (RFC 9112 §9.6)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of everything there is."""

    connections: int
    downloads: int
    uploads: int
    waiting: int
    """Requests for what has not arrived yet."""
    bodies: int
    """Webhooks whose body is being read, before anybody knows who sent them."""

    @classmethod
    def of(cls, *, connections: int, descriptors: int, kept: int) -> Bounds:
        """Of *connections* that are wished for, where *kept* of the process's *descriptors* are not to be had.

        Each transfer also takes a connection to the store.
        """
        possible = min(connections, max((descriptors - kept) * 2 // 3, 16))
        return cls(
            connections=possible,
            downloads=max(min(possible // 3, 256), 4),
            uploads=max(min(possible // 8, 64), 2),
            waiting=max(possible // 4, 4),
            bodies=max(min(possible // 8, 64), 4),
        )


class WebServer:
    """Serves routes on one address. Those who serve take turns of its :attr:`downloads` and so on."""

    def __init__(self, bounds: Bounds, clients: Clients, cors: Cors) -> None:
        self.bounds = bounds
        self._clients = clients
        self._cors = cors
        self.downloads = Turns(bounds.downloads, share=_half(bounds.downloads), least_rate=1024, grace=60)
        self.uploads = Turns(bounds.uploads, share=_half(bounds.uploads), least_rate=8 * 1024, grace=20)
        self.waiting = Turns(bounds.waiting, share=_half(bounds.waiting), least_rate=1024, grace=60)
        self.bodies = Turns(bounds.bodies, share=_half(bounds.bodies), least_rate=8 * 1024, grace=5)
        self.application = web.Application(middlewares=[self._bounded])
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    async def start(self, host: str, port: int, *, drain_for: float, tls: ssl.SSLContext | None = None) -> None:
        """Listens from now on, with *tls* for HTTPS only; *drain_for* is seconds that requests have to end when it
        stops. Raises OSError."""
        # No access log: it would hold every presigned URL. Each endpoint tells what was asked and answered.
        self._runner = web.AppRunner(
            self.application, access_log=None, shutdown_timeout=drain_for, lingering_time=LINGER, logger=_http_log()
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        limit = self.bounds.connections
        self._listener = Listener(server, limit=limit, per_address=_half(limit), clients=self._clients, tls=tls)
        try:
            await self._listener.start(host, port)
        except OSError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Takes no more, lets what is under way end, and ends the rest."""
        if self._listener is not None:
            self._listener.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._listener is not None:
            self._listener.drop_all()

    @web.middleware
    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        forwarded = request.headers.getall("X-Forwarded-For", [])
        if forwarded:
            request = request.clone(remote=self._clients.address(request.remote or "", forwarded))
        connection = request.transport.get_protocol() if request.transport is not None else None
        if not isinstance(connection, Connection):
            return await self._refusing(request, handler)
        with connection.request():
            return await self._refusing(request, handler)

    async def _refusing(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        allowed = self._cors.headers(request.headers.get("Origin"))
        try:
            return await handler(request)
        except Busy:
            again = allowed | {"Retry-After": "2"}
            return web.json_response({"error": "too much is under way; ask again"}, status=503, headers=again)
        except TooSlow:
            if request.writer.output_size == 0 and not gone(request)():
                last = allowed | {"Connection": "close"}
                return web.json_response({"error": "this was too slow; ask again"}, status=408, headers=last)
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("its client is too slow") from None
        except web.HTTPException as e:
            e.headers.extend(allowed)
            raise


def gone(request: web.Request) -> Callable[[], bool]:
    """Tells whether the client of *request* has left."""
    return lambda: request.transport is None or request.transport.is_closing()


async def expects_later(_: web.Request) -> None:
    """A route's ``expect_handler`` where the handler asks for the body itself, once it wants it."""


async def ask_for_body(request: web.Request) -> None:
    """Says ``100 Continue`` where the client waits for that (RFC 9110 §10.1.1). Raises HTTPExpectationFailed."""
    expected = request.headers.get("Expect")
    if expected is None or request.version < (1, 1):
        return
    if expected.lower() != "100-continue":
        raise web.HTTPExpectationFailed(text=f"no server here can {expected[:50]!r}")
    if not request.body_exists or request.content.total_bytes:
        return
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # or an error after it would be taken for one in the midst of an answer


class _Malformed(logging.Filter):
    """What is no HTTP is a line, and no traceback: anybody can send it, as often as they like."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError):
            record.exc_info, record.exc_text = None, None
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "a request that is not HTTP: %s", (type(error).__name__,)
        return True


def _http_log() -> logging.Logger:
    made = logging.getLogger(f"{__name__}.http")
    if not made.filters:
        made.addFilter(_Malformed())
    return made


def _half(number: int) -> int:
    return max(number // 2, 1)
