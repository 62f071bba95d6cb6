"""The listener: bounded, idle connections make room, what says nothing is closed, and no descriptor is no disaster."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

import aiohttp
import pytest
from aiohttp import web

from gateway.web import listener as module
from gateway.web.clients import Clients
from gateway.web.cors import Cors
from gateway.web.server import Bounds, WebServer
from tests.rig.ports import free_port

BOUNDS = Bounds(connections=8, downloads=4, uploads=2, waiting=4, bodies=4)


class Running:
    def __init__(self, server, port):
        self.server, self.port = server, port
        self.going = asyncio.Event()

    async def ask(self, path="/quick", source="127.0.0.1"):
        """What a client at *source* gets."""
        connector = aiohttp.TCPConnector(local_addr=(source, 0))
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            async with http.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()

    async def connect(self, source="127.0.0.2"):
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))


@pytest.fixture
async def running():
    port = free_port()
    server = WebServer(BOUNDS, Clients([ipaddress.ip_network("127.0.0.9/32")]), Cors(["*"]))
    made = Running(server, port)

    async def quick(request):
        return web.Response(text=request.remote)

    async def slow(request):
        await made.going.wait()
        return web.Response(text="slow")

    server.application.router.add_get("/quick", quick)
    server.application.router.add_get("/slow", slow)
    await server.start("127.0.0.1", port, drain_for=0.2)
    yield made
    made.going.set()
    await server.stop()


async def test_idle_connections_make_room_for_who_asks(running):
    held = [await running.connect(f"127.0.0.{2 + n}") for n in range(BOUNDS.connections * 2)]
    held[-1][1].write(b"GET /quick HTTP/1.1\r\nHost: ")  # half a head is no request
    assert await running.ask() == (200, "127.0.0.1")
    assert len(running.server._listener) <= BOUNDS.connections
    for _, writer in held:
        writer.close()


async def test_a_request_under_way_is_not_ended_for_a_newcomer(running):
    asking = [asyncio.create_task(running.ask("/slow", f"127.0.0.{2 + n}")) for n in range(BOUNDS.connections)]
    while sum(not c.idle for c in running.server._listener._connections) < BOUNDS.connections:
        await asyncio.sleep(0.01)
    with pytest.raises(aiohttp.ClientError):
        await running.ask()
    running.going.set()
    assert await asyncio.gather(*asking) == [(200, "slow")] * BOUNDS.connections


async def test_one_address_gets_half_and_a_proxy_all(running):
    asking = [asyncio.create_task(running.ask("/slow", "127.0.0.2")) for _ in range(BOUNDS.connections // 2)]
    while sum(not c.idle for c in running.server._listener._connections) < BOUNDS.connections // 2:
        await asyncio.sleep(0.01)
    with pytest.raises(aiohttp.ClientError):
        await running.ask(source="127.0.0.2")
    proxied = [asyncio.create_task(running.ask("/slow", "127.0.0.9")) for _ in range(BOUNDS.connections // 2)]
    while sum(not c.idle for c in running.server._listener._connections) < BOUNDS.connections:
        await asyncio.sleep(0.01)
    running.going.set()
    assert {status for status, _ in await asyncio.gather(*asking, *proxied)} == {200}


@pytest.mark.slow
async def test_a_connection_that_says_nothing_is_closed(running, monkeypatch):
    monkeypatch.setattr(module, "IDLE_FOR", 0.2)
    for said in (b"", b"GET /quick HTTP/1.1\r\nX-Half: ", b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"):
        reader, writer = await running.connect()
        writer.write(said)
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()


@pytest.mark.slow
async def test_no_descriptor_is_a_line_in_the_log_and_no_end(running, monkeypatch, caplog):
    [listening] = running.server._listener._sockets._sockets
    out = True

    class Exhausted:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def fileno(self):
            return self.inner.fileno()

        def accept(self):
            if out:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.inner.accept()

    exhausted = Exhausted(listening)
    loop = asyncio.get_running_loop()
    loop.remove_reader(listening)
    running.server._listener._sockets._sockets[:] = [exhausted]
    loop.add_reader(listening, running.server._listener._sockets._accept, exhausted)
    asking = asyncio.create_task(running.ask())
    await asyncio.sleep(1)
    assert len([r for r in caplog.records if "Too many open files" in r.getMessage()]) == 1
    assert not any(r.exc_info for r in caplog.records)
    out = False
    assert await asking == (200, "127.0.0.1")


async def test_what_is_no_http_is_a_line_and_no_traceback(running, caplog):
    caplog.set_level("INFO")
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 20000 + b"\r\n\r\n"):
        reader, writer = await running.connect()
        writer.write(nonsense + b"\r\n\r\n")
        async with asyncio.timeout(10):
            assert b" 400 " in await reader.readline()
        writer.close()
    assert caplog.records
    assert all(r.exc_info is None and r.levelname == "INFO" for r in caplog.records)


async def test_an_address_that_is_taken_is_said_by_name(running):
    other = WebServer(BOUNDS, Clients(), Cors([]))
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{running.port}"):
        await other.start("127.0.0.1", running.port, drain_for=1)


async def test_the_kernel_takes_little_of_an_answer_ahead(running):
    _, writer = await running.connect()
    await running.ask()
    [connection] = [c for c in running.server._listener._connections if c.address == "127.0.0.2"]
    taken = connection._transport.get_extra_info("socket")
    assert taken.getsockopt(socket.IPPROTO_TCP, 25) == module.UNSENT
    writer.close()
