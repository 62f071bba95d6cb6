"""The listening socket: connections are counted, and idle ones make room.

It takes no more than it was given, closes those that say nothing, and, when it is full, lets the one go that has been
idle for longest: whoever is slow to ask, or only keeps a connection, never keeps a webhook out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator

from gateway.runtime import AcceptLoop
from gateway.web.clients import Clients, household

log = logging.getLogger(__name__)

IDLE_FOR = 20.0
"""Seconds without a request, or with half of one's head."""

HANDSHAKE_WITHIN = 10.0
"""Seconds."""

TELL_EVERY = 60.0
"""Seconds between two lines about refused connections."""

UNSENT = 128 * 1024
"""Bytes that the kernel takes of an answer ahead of what it can send (tcp(7), TCP_NOTSENT_LOWAT); by default it is
megabytes, for each of those who read nothing."""

_TCP_NOTSENT_LOWAT = 25


class Connection(asyncio.Protocol):
    """One connection: hands everything on to the HTTP protocol, and knows whether a request is under way."""

    def __init__(self, listener: Listener, http: asyncio.Protocol, address: str) -> None:
        self._listener = listener
        self._http = http
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._requests = 0
        self._unsent = 0
        self.idle_since = self._loop.time()
        """Event-loop seconds; of no meaning while a request is under way."""
        self._timer = self._loop.call_later(IDLE_FOR, self._look)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._requests

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around a request."""
        self._requests += 1
        self._listener.now_busy(self)
        try:
            yield
        finally:
            self._requests -= 1
            self.idle_since = self._loop.time()
            self._listener.now_idle(self)

    def _look(self) -> None:
        left = self.idle_since + IDLE_FOR - self._loop.time()
        if self.idle and left <= 0:
            unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
            if unsent == 0 or unsent == self._unsent:
                self.drop()
                return
            self._unsent = unsent  # the end of an answer, which somebody still reads
            left = IDLE_FOR
        self._timer = self._loop.call_later(left if self.idle else IDLE_FOR, self._look)

    def drop(self) -> None:
        """Ends it, whatever it is doing."""
        self._listener.now_busy(self)  # not to be chosen again before it is gone
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol: what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._http.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._timer.cancel()
        self._listener.lost(self)
        self._http.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._http.eof_received()

    def pause_writing(self) -> None:
        """The client takes less than is written."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """The client took it."""
        self._http.resume_writing()


class Listener:
    """Takes connections on one address."""

    def __init__(
        self,
        http: Callable[[], asyncio.Protocol],
        *,
        limit: int,
        per_address: int,
        clients: Clients,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """*http* makes the protocol of a connection; *limit* in all, *per_address* unless it is a trusted proxy's. With
        *tls* nothing else is spoken; a connection is counted before it has shaken hands."""
        self._tls = tls
        self._http = http
        self._limit = limit
        self._per_address = per_address
        self._clients = clients
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        """The one that has been idle for longest first."""
        self._by_address: Counter[str] = Counter()
        self._sockets = AcceptLoop(self._accepted, self._out_of_descriptors)
        self._opening: set[asyncio.Task[object]] = set()
        self._refused = 0
        self._told = float("-inf")

    def __len__(self) -> int:
        return len(self._connections)

    async def start(self, host: str, port: int) -> None:
        """Listens from now on. Raises OSError."""
        await self._sockets.start(host, port)

    def stop(self) -> None:
        """Takes no more connections; those that are there go on."""
        self._sockets.stop()

    def drop_all(self) -> None:
        """Ends every connection."""
        for connection in list(self._connections):
            connection.drop()

    def now_busy(self, connection: Connection) -> None:
        """It has a request under way."""
        self._idle.pop(connection, None)

    def now_idle(self, connection: Connection) -> None:
        """It has none any more."""
        if connection in self._connections:
            self._idle[connection] = None

    def lost(self, connection: Connection) -> None:
        """A connection is over."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def _accepted(self, accepted: socket.socket, host: str) -> None:
        address = household(host)
        if self._has_room(address):
            self._open(accepted, address)
        else:
            accepted.close()
            self._tell_refused(address)

    def _has_room(self, address: str) -> bool:
        if self._by_address[address] >= self._per_address and not self._clients.is_proxy(address):
            return self._let_one_go(address)
        return len(self._connections) < self._limit or self._let_one_go(None)

    def _let_one_go(self, address: str | None) -> bool:
        """Ends the connection that has been idle for longest, of *address* or of all."""
        oldest = next((c for c in self._idle if address is None or c.address == address), None)
        if oldest is None:
            return False
        oldest.drop()
        return True

    def _open(self, accepted: socket.socket, address: str) -> None:
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)
        connection = Connection(self, self._http(), address)
        self._connections.add(connection)
        self._idle[connection] = None
        self._by_address[address] += 1
        loop = asyncio.get_running_loop()
        opening: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_WITHIN if self._tls is not None else None,
            )
        )
        self._opening.add(opening)
        opening.add_done_callback(lambda done: self._opened(done, connection, accepted))

    def _opened(self, opening: asyncio.Task[object], connection: Connection, accepted: socket.socket) -> None:
        self._opening.discard(opening)
        if opening.cancelled() or opening.exception() is not None:
            accepted.close()
            if connection in self._connections:
                self.lost(connection)

    def _out_of_descriptors(self, e: OSError) -> None:
        self._let_one_go(None)
        self._tell_refused(f"anybody, for now ({e.strerror})")

    def _tell_refused(self, whom: str) -> None:
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._told >= TELL_EVERY:
            log.warning(
                "%d HTTP connections refused, the last of %s: %d of %d are taken, none of them idle",
                self._refused, whom, len(self._connections), self._limit,
            )  # fmt: skip
            self._refused, self._told = 0, now
