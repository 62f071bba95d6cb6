"""A link between the PACS and the gateway that lets so many bytes a second through, in each direction by itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PIECE = 32 * 1024
"""Bytes that pass at a time."""

CATCHES_UP = 0.01
"""Seconds by which the link may be late, as a sleep that took too long makes it, and still make up for it: without that
20 MB/s were 17."""


class Rate:
    """So many bytes a second, over all connections together."""

    def __init__(self, bytes_a_second: float) -> None:
        self._bytes_a_second = bytes_a_second
        self._free_at = 0.0

    async def passed(self, size: int) -> None:
        """Returns when *size* bytes have been on the link."""
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time() - CATCHES_UP) + size / self._bytes_a_second
        await asyncio.sleep(self._free_at - loop.time())


@asynccontextmanager
async def link(to_port: int, bytes_a_second: float) -> AsyncIterator[int]:
    """The port that leads to *to_port* over the link."""
    down, up = Rate(bytes_a_second), Rate(bytes_a_second)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = socket.socket()
        # Small buffers: what is on its way is on the link, not in the kernel.
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PIECE)
        there.setblocking(False)
        await asyncio.get_running_loop().sock_connect(there, ("127.0.0.1", to_port))
        far_reader, far_writer = await asyncio.open_connection(sock=there)
        await asyncio.gather(_carry(reader, far_writer, down), _carry(far_reader, writer, up))

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(connected, sock=listener, limit=PIECE)
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: Rate) -> None:
    with contextlib.suppress(ConnectionError):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while piece := await reader.read(PIECE):
            await rate.passed(len(piece))
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(ConnectionError, OSError):
        writer.write_eof()
