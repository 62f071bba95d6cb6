"""The relay that the other tests of faults stand on: that it does each thing that it says, and nothing else."""

from __future__ import annotations

import asyncio
import time

import pytest

from .relay import Relay, Wire

pytestmark = pytest.mark.slow


@pytest.fixture
async def echo():
    """A server that says what it hears; its port, and how its connections ended."""
    ends = []

    async def talk(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            ends.append("eof")
        except ConnectionError:
            ends.append("reset")
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], ends
    server.close()


@pytest.fixture
async def relay(echo):
    async with Relay(echo[0]) as running:
        yield running


async def connect(relay):
    return await asyncio.open_connection("127.0.0.1", relay.port)


async def echoed(reader, writer, data):
    writer.write(data)
    async with asyncio.timeout(10):
        return await reader.readexactly(len(data))


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_wire_that_nothing_ails_carries_every_byte_and_both_ends(relay, echo):
    reader, writer = await connect(relay)
    data = bytes(range(256)) * 4096
    assert await echoed(reader, writer, data) == data
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: echo[1] == ["eof"] and relay.open == 0)


async def test_what_is_late_is_late_and_whole(relay):
    reader, writer = await connect(relay)
    relay.wire.delay = 0.1
    began = time.monotonic()
    assert await echoed(reader, writer, b"late") == b"late"
    assert time.monotonic() - began >= 0.2
    writer.close()


async def test_a_throttled_wire_takes_its_time(relay):
    reader, writer = await connect(relay)
    relay.wire.rate = 100_000
    began = time.monotonic()
    await echoed(reader, writer, bytes(50_000))
    assert time.monotonic() - began >= 0.4
    writer.close()


async def test_a_silent_wire_takes_connections_and_carries_what_it_held_once_it_is_mended(relay):
    relay.wire.silent = True
    reader, writer = await connect(relay)
    writer.write(b"held")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.read(1)
    relay.mend()
    async with asyncio.timeout(10):
        assert await reader.readexactly(4) == b"held"
    writer.close()


async def test_a_cut_is_an_end_and_a_reset_is_a_reset_for_both_sides(relay, echo):
    reader, writer = await connect(relay)
    await echoed(reader, writer, b"x")
    relay.cut()
    assert await reader.read() == b""
    writer.close()
    await until(lambda: echo[1] == ["eof"])
    reader, writer = await connect(relay)
    await echoed(reader, writer, b"x")
    relay.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await until(lambda: echo[1] == ["eof", "reset"] and relay.open == 0)


async def test_half_closed_the_client_hears_an_end_and_the_server_still_hears_the_client(relay):
    heard = []

    async def listen(reader, writer):
        while data := await reader.read(100):
            heard.append(data)
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with Relay(server.sockets[0].getsockname()[1]) as relay:
        reader, writer = await connect(relay)
        writer.write(b"one")
        await until(lambda: heard == [b"one"])
        relay.half_close()
        assert await reader.read() == b""
        writer.write(b"two")
        await until(lambda: heard == [b"one", b"two"])
        writer.close()
    server.close()


async def test_a_wire_that_refuses_resets_and_one_that_is_down_is_not_there(relay):
    relay.wire.refuses = True
    reader, writer = await connect(relay)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    relay.mend()
    await relay.listen_no_more()
    with pytest.raises(ConnectionRefusedError):
        await connect(relay)
    await relay.listen()
    reader, writer = await connect(relay)
    assert await echoed(reader, writer, b"back") == b"back"
    writer.close()


async def test_a_corrupting_wire_alters_one_bit_at_the_places_that_it_is_told(relay):
    reader, writer = await connect(relay)
    relay.wire = Wire(corrupts_every=100_000)
    got = await echoed(reader, writer, bytes(60_000))
    # There and back on one count: the 100,000th byte is in the echo.
    assert [n for n, b in enumerate(got) if b] == [39_999]
    writer.close()


async def test_a_connection_is_reset_after_what_it_may_carry_and_the_answer_to_what_arrived_can_be_lost(relay, echo):
    reader, writer = await connect(relay)
    relay.wire = Wire(resets_after=10)
    with pytest.raises(ConnectionResetError):
        await echoed(reader, writer, bytes(100))
    writer.close()
    await until(lambda: echo[1] == ["reset"])
    relay.wire = Wire(loses_answers=True)
    reader, writer = await connect(relay)
    writer.write(b"arrives")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.read(1)
    writer.close()
