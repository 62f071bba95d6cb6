"""HTTP/1.1 as far as the hot PUT needs it: a request in one piece, a short answer (RFC 9112).

A PUT of 10 KB costs half the CPU of one through aiohttp, and every instance of every study is one. What makes
this small is that it need not understand much: what is not a short answer with a Content-Length ends the
connection, and the caller puts the object again through aiohttp, which reads redirects, chunks and the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.runtime import Patience

MAX_ANSWER = 16 * 1024
"""Bytes of an answer to a PUT, headers included; S3's has no body but for a short error."""

IDLE_FOR = 15.0
"""Seconds that a connection is kept unused; S3 servers close theirs after 20 and more."""


@dataclass(frozen=True, slots=True)
class PutAnswer:
    """A whole answer."""

    status: int
    body: bytes
    keeps: bool
    """Whether the connection stays."""


class PutConnections:
    """Kept connections to one server at a time, each with one request under way."""

    def __init__(self, *, limit: int, connect_within: float, tls: ssl.SSLContext | None) -> None:
        """At most *limit* at once; *connect_within* is seconds."""
        self._turns = asyncio.Semaphore(limit)
        self._connect_within = connect_within
        self._tls = tls
        self._server = ""
        self._idle: list[_Connection] = []

    async def put(
        self, server: str, head: str, body: Sequence[bytes | memoryview], *, within: float
    ) -> PutAnswer | None:
        """Sends a request to *server* (``host:port``): *head* is its request line and headers but for the last,
        empty line. None where the connection was lost, or the answer is for somebody who understands more.

        Raises OSError where there is no connection to be had, TimeoutError after *within* seconds.
        """
        async with self._turns:
            connection = await self._connection(server)
            try:
                return await connection.request(head, body, within)
            finally:
                if connection.reusable and server == self._server:
                    self._idle.append(connection)
                else:
                    connection.abort()

    async def _connection(self, server: str) -> _Connection:
        if server != self._server:  # an embedded store that was started again
            self.close()
            self._server = server
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and loop.time() - connection.used < IDLE_FOR:
                return connection
            connection.abort()
        host, _, port = server.rpartition(":")
        async with asyncio.timeout(self._connect_within):
            _, connection = await loop.create_connection(_Connection, host.strip("[]"), int(port), ssl=self._tls)
        return connection

    def close(self) -> None:
        """Closes those that are kept."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[PutAnswer | None] | None = None
        self._patience = Patience(self._too_late)
        self._received = b""
        self.reusable = False
        self.used = 0.0
        """Event-loop seconds of the latest answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.reusable = None, False
        self._patience.close()
        self._end(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            answer = _read(self._received)
        except ValueError:
            answer = None
        else:
            if answer is None and self._answer is not None and len(self._received) <= MAX_ANSWER:
                return  # more is to come
        self._received = b""
        self.reusable = answer is not None and answer.keeps and self._answer is not None
        self.used = self._loop.time()
        self._end(answer)
        if not self.reusable:
            self.abort()

    def _end(self, answer: PutAnswer | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _too_late(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(TimeoutError())

    async def request(self, head: str, body: Sequence[bytes | memoryview], within: float) -> PutAnswer | None:
        self.reusable = False
        if self._transport is None:
            return None
        self._answer = self._loop.create_future()
        self._patience.begin(within)
        try:
            self._transport.write(b"".join((head.encode("ascii"), b"\r\n", *body)))
            return await self._answer
        finally:
            self._patience.end()
            self._answer = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _read(received: bytes) -> PutAnswer | None:
    """The answer that *received* is; None where it has not all come. Raises ValueError where it is another kind."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = received[:end].split(b"\r\n")
    version, status, *_ = first.split(b" ", 2)
    length, keeps = None, status == b"200"
    for line in lines:
        name, _, value = line.lower().partition(b":")
        if name == b"content-length":
            if length is not None or not value.strip().isdigit():
                raise ValueError("two lengths, or none that is a number")
            length = int(value)
        elif name == b"transfer-encoding":
            raise ValueError("chunks")
        elif name == b"connection" and value.strip() != b"keep-alive":
            keeps = False
    if version != b"HTTP/1.1" or length is None or not status.isdigit():
        raise ValueError("another version, or no length")
    missing = end + 4 + length - len(received)
    if missing < 0:
        raise ValueError("more than was said")
    return None if missing else PutAnswer(int(status), received[end + 4 :], keeps)
