"""A small HTTP proxy: CONNECT tunnels (RFC 9110 §9.3.6) to servers of this machine under names of the internet, and
what goes wrong with one: it wants a password, forbids, hangs, closes, or opens TLS itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib


class ConnectProxy:
    """To be used as an async context manager."""

    def __init__(self, *, user: str = "", password: str = "", habit: str = "") -> None:
        """*habit*: ``hang``, ``close``, or a status that it answers every CONNECT with."""
        self.habit = habit
        self.names: dict[str, int] = {}
        """Names that it knows, and the port of this machine that each leads to."""
        self.asked: list[str] = []
        """What it was asked to connect to: ``host:port``."""
        self.heads: list[bytes] = []
        self._known = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> ConnectProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._handle(reader, writer)
        writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(target)
        if self.habit == "hang":
            await asyncio.sleep(3600)
        if self.habit == "close":
            return
        status = self.habit
        if self._known and f"Proxy-Authorization: Basic {self._known}".lower() not in head.decode().lower():
            status = "407"
        host = target.rpartition(":")[0]
        if not status and (method != "CONNECT" or host not in self.names):
            status = "502"
        if status:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.names[host])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, server_writer))
            both.create_task(_pump(server_reader, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    with contextlib.suppress(ConnectionError, OSError, RuntimeError):
        sink.close()
