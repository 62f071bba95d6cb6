"""A wire that fails on command: a TCP relay between the gateway and whatever it talks to.

What is set on :attr:`Relay.wire` holds at once, for connections that are open and for those that come.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field

CHUNK = 64 * 1024


@dataclass
class Wire:
    """How a wire carries bytes; as it is made, faithfully."""

    delay: float = 0.0
    """Seconds that each piece of bytes is late."""
    rate: float | None = None
    """Bytes a second, each way of each connection."""
    silent: bool = False
    """Takes connections and carries nothing, until this is taken back."""
    refuses: bool = False
    """Whoever connects is reset."""
    corrupts_every: int = 0
    """Alters one bit in each so many bytes; 0: none."""
    resets_after: int | None = None
    """Resets a connection that has carried so many bytes."""
    loses_answers: bool = False
    """What the client says arrives; the server's answer to it never does."""


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    carried: int = 0
    half_closed: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Relay:
    """Carries TCP connections from a free loopback port to *port*. An async context manager."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, listen_on: int = 0) -> None:
        self.wire = Wire()
        self.accepted = 0
        """Connections since the start."""
        self.port = listen_on
        self._to = host, port
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listen_no_more()
        handlers = list(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def listen_no_more(self) -> None:
        """As where the machine behind it is off, or the service on it: connections are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def mend(self) -> None:
        """Carries faithfully again."""
        self.wire = Wire()

    def cut(self) -> None:
        """Ends every open connection cleanly (FIN), to both sides."""
        for connection in list(self._open):
            connection.client.close()
            connection.server.close()

    def reset(self) -> None:
        """Resets every open connection (RST), to both sides."""
        for connection in list(self._open):
            _reset(connection.client)
            _reset(connection.server)

    def half_close(self) -> None:
        """Tells each client that its server will say no more (FIN), while the server goes on to read."""
        for connection in list(self._open):
            connection.half_closed = True
            with contextlib.suppress(OSError):
                connection.client.write_eof()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            _reset(writer)
        finally:
            self._handlers.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.wire.refuses:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self._to)
        except OSError:
            _reset(writer)
            return
        for end in (writer, to_server):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(writer, to_server)
        self._open.add(connection)
        try:
            up = asyncio.create_task(self._pump(connection, reader, to_server, up=True))
            down = asyncio.create_task(self._pump(connection, from_server, writer, up=False))
            connection.tasks = [up, down]
            await asyncio.gather(up, down)
        finally:
            for task in connection.tasks:
                task.cancel()
            await asyncio.gather(*connection.tasks, return_exceptions=True)
            self._open.discard(connection)
            for end in (writer, to_server):
                end.close()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._pass(connection, data, writer, up=up)
            while self.wire.silent:  # an end is something said, too
                await asyncio.sleep(0.02)
            if up or not connection.half_closed:
                writer.write_eof()
        except (OSError, ConnectionError):
            # One side has reset it: the other one is told so.
            _reset(connection.client)
            _reset(connection.server)

    async def _pass(self, connection: _Connection, data: bytes, writer: asyncio.StreamWriter, *, up: bool) -> None:
        if self.wire.delay:
            await asyncio.sleep(self.wire.delay)
        while self.wire.silent:
            await asyncio.sleep(0.02)
        wire = self.wire
        if (wire.loses_answers or connection.half_closed) and not up:
            return
        if wire.corrupts_every:
            data = _corrupted(data, connection.carried, wire.corrupts_every)
        connection.carried += len(data)
        if wire.resets_after is not None and connection.carried > wire.resets_after:
            raise ConnectionResetError
        if wire.rate is None:
            writer.write(data)
            await writer.drain()
            return
        step = max(int(wire.rate / 20), 1)
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            if self.wire.rate is not None:
                await asyncio.sleep(step / self.wire.rate)


def _corrupted(data: bytes, offset: int, every: int) -> bytes:
    altered = bytearray(data)
    for at in range(every - 1 - offset % every, len(data), every):
        altered[at] ^= 0x10
    return bytes(altered)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if writer.transport is not None:
        writer.transport.abort()
