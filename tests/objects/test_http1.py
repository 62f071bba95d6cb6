"""The client of the hot PUT: what it understands, what it leaves to aiohttp, and that a connection is never mixed up.

What is left out: that real S3 servers take its requests and check their checksums (test_store.py).
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.objects import Credentials, ObjectStore
from gateway.objects.http1 import MAX_ANSWER, PutConnections, _read

HEAD = "PUT /b/k HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers each request on a connection with the next of its answers; None closes the connection."""

    def __init__(self, *answers, pause=0.0):
        self.answers = list(answers)
        self.pause = pause
        self.connections = 0
        self.requests = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.at = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.puts = PutConnections(limit=2, connect_within=5, tls=None)
        return self

    async def __aexit__(self, *_):
        self.puts.close()
        self.server.close()

    async def serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head + await reader.readexactly(4))
                await asyncio.sleep(self.pause)
                answer = self.answers.pop(0)
                if answer is None:
                    break
                for piece in answer if isinstance(answer, list) else [answer]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            else:
                await reader.read()
        writer.close()

    async def put(self, within=5.0):
        return await self.puts.put(self.at, HEAD, [b"da", memoryview(b"ta")], within=within)


async def test_a_connection_is_used_again_and_the_request_is_as_it_was_given():
    async with Server(OK, [b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 2\r\n\r\nx", b"y"], OK) as server:
        for body in (b"", b"xy", b""):
            answer = await server.put()
            assert (answer.status, answer.body) == (200, body)
        assert server.connections == 1
        assert server.requests == [HEAD.encode() + b"\r\ndata"] * 3


async def test_an_error_is_given_with_its_body_and_ends_the_connection():
    async with Server(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nCode", OK) as server:
        answer = await server.put()
        assert (answer.status, answer.body) == (403, b"Code")
        assert (await server.put()).status == 200
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,  # closed instead of an answer
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",  # until the connection ends
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        OK + OK,  # a second answer that nobody asked for
        b"nonsense\r\n\r\n",
        b"x" * (MAX_ANSWER + 1),
    ],
)
async def test_what_is_not_understood_is_left_to_others_and_its_connection_is_not_used_again(answer):
    async with Server(answer, OK) as server:
        assert await server.put() is None
        assert (await server.put()).status == 200
        assert server.connections == 2


async def test_a_connection_that_the_server_wants_to_end_is_not_used_again():
    async with Server(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", OK) as server:
        assert (await server.put()).status == 200
        assert (await server.put()).status == 200
        assert server.connections == 2


@pytest.mark.slow
async def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_one():
    async with Server(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine", pause=0.3) as server:
        with pytest.raises(TimeoutError):
            await server.put(within=0.1)
        assert (await server.put()).body == b"mine"


async def test_a_connection_to_a_former_server_is_never_used_for_the_next_one():
    async with Server(OK, OK, pause=0.1) as former, Server(OK, OK) as later:
        under_way = asyncio.create_task(former.put())
        await asyncio.sleep(0.02)
        assert (await former.puts.put(later.at, HEAD, [b"data"], within=5)).status == 200
        assert (await under_way).status == 200
        assert (await former.puts.put(later.at, HEAD, [b"data"], within=5)).status == 200
        assert (len(former.requests), len(later.requests)) == (1, 2)


async def test_no_more_connections_than_allowed_are_open_at_once():
    async with Server(*[OK] * 10, pause=0.02) as server:
        assert [a.status for a in await asyncio.gather(*(server.put() for _ in range(10)))] == [200] * 10
        assert server.connections == 2


async def test_a_server_that_is_away_is_an_os_error():
    async with Server(OK) as server:
        server.server.close()
        await server.server.wait_closed()
        with pytest.raises(OSError, match=r"\d"):
            await server.put()


@given(st.binary(max_size=200), st.integers(0, 200))
def test_an_answer_is_read_refused_or_waited_for_whatever_comes(garbage, at):
    whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc"
    assert at >= len(whole) or _read(whole[:at]) is None
    with contextlib.suppress(ValueError):
        _read(whole[:at] + garbage)


async def test_the_store_client_puts_a_small_object_by_one_request_that_is_well_formed():
    heads = []

    async def connected(reader, writer):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            heads.append(head.decode())
            await reader.readexactly(5)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = ObjectStore(
        endpoint=lambda: f"127.0.0.1:{port}", secure=False, region="us-east-1", bucket="b",
        credentials=Credentials("key", "secret"),
    )  # fmt: skip
    try:
        async with store, asyncio.timeout(10):
            await store.put("a/b", b"12345", content_type="text/plain")
    finally:
        server.close()
    [head] = heads
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    assert first == "PUT /b/a/b HTTP/1.1"
    names = [line.partition(": ")[0].lower() for line in lines]
    assert {"host", "content-length", "authorization", "x-amz-date"} <= set(names)
    assert not any(" " in name for name in names)
