"""Hosts on the hospital's network that hold, flood or stall our DICOM port, with honest work beside them: a study is
fetched whole, and we are echoed.

They say what any host can say: the PACS's AE title, from an address of the PACS where that is needed to get so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from gateway.demo.sample import synthetic_ct
from gateway.dicom.sop_classes import VERIFICATION
from gateway.pacs.upper import dimse
from gateway.pacs.upper.negotiation import Context, request_pdu
from gateway.pacs.upper.wire import data_pdus
from tests.attacks.test_impostor import certificates, client  # noqa: F401  (a fixture)
from tests.conftest import data_set

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
INSTANCES = 20


class Neighbour:
    """A host on the network with many connections to us."""

    def __init__(self, gateway, address="127.0.0.1"):
        self.port, self.address = gateway.parts.scp.port, address
        self.held = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for _, writer in self.held:
            writer.transport.abort()
        await asyncio.sleep(0.1)

    async def connect(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))
        self.held.append((reader, writer))
        return reader, writer

    async def half_open(self, number):
        """Connections that say nothing."""
        for _ in range(number):
            await self.connect()

    async def associate(self, title):
        """An association; its streams, or None where it is rejected."""
        reader, writer = await self.connect()
        writer.write(request_pdu(title, "AVARAGW", [Context(CT, (EXPLICIT,)), Context(VERIFICATION, (EXPLICIT,))]))
        header = await asyncio.wait_for(reader.readexactly(6), 20)
        await reader.readexactly(int.from_bytes(header[2:], "big"))
        return (reader, writer) if header[0] == 2 else None


def resident():
    """Bytes of this process, in which the gateway is."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def new_study(pacs):
    study = generate_uid(None)
    sample = list(synthetic_ct(study, INSTANCES, 16, 16))
    pacs.add(*(i.content for i in sample))
    return study, [data_set(i.content) for i in sample]


async def honest_work(gateway, pacs):
    """A study that is new is fetched whole, and the listener answers us."""
    study, sample = new_study(pacs)
    answer = await gateway.ask(study)
    assert "error" not in answer, answer
    assert sorted(await gateway.data_sets(answer)) == sorted(sample)
    await gateway.parts.echo_self()


PATIENT = {"answer_within": "60s"}
"""So that a busy machine makes an answer late, which is measured, and not a failure."""


@contextlib.contextmanager
def bounded(gateway):
    """Memory and disk keep to their bounds meanwhile."""
    memory, disk = resident(), on_disk(gateway)
    yield
    assert resident() - memory < 150_000_000
    assert on_disk(gateway) - disk < 50_000_000


def on_disk(gateway):
    """Bytes of its ``state_dir``, and of the unnamed files that it has open."""
    files = [path.stat() for path in gateway.config.state_dir.rglob("*") if path.is_file()]
    unnamed = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if path.readlink().name.endswith(" (deleted)"):
                unnamed.append(path.stat())
    return sum(found.st_size for found in (*files, *unnamed))


async def test_associations_that_are_only_held_keep_no_study_out(simulator, start, besiege):
    gateway = await start(simulator, avara=PATIENT)

    @contextlib.asynccontextmanager
    async def held():
        async with Neighbour(gateway) as neighbour:
            with bounded(gateway):
                for _ in range(gateway.config.dicom.max_associations):
                    assert await neighbour.associate(simulator.ae_title)
                await asyncio.sleep(2.1)
                yield

    await besiege(held, lambda: honest_work(gateway, simulator))


async def test_associations_that_are_held_with_half_a_message_keep_no_study_out(simulator, start, besiege, monkeypatch):
    monkeypatch.setattr("gateway.pacs.scp.places.STALLED", 1.0)
    gateway = await start(simulator, avara=PATIENT)

    @contextlib.asynccontextmanager
    async def stalled():
        async with Neighbour(gateway) as neighbour:
            with bounded(gateway):
                for _ in range(gateway.config.dicom.max_associations):
                    _, writer = await neighbour.associate(simulator.ae_title)
                    writer.write(bytes.fromhex("04 00 00 00 20 00  00 00 10 00 01 03"))
                await asyncio.sleep(1.1)
                yield

    await besiege(stalled, lambda: honest_work(gateway, simulator))


async def test_another_pacs_that_holds_all_places_and_echoes_keeps_no_study_out_of_whom_we_asked(
    simulator, start, besiege
):
    other = {"name": "other", "ae_title": "OTHER", "host": "127.0.0.66", "port": 1}
    gateway = await start(simulator, other, dicom={"max_associations": 8}, avara=PATIENT)

    @contextlib.asynccontextmanager
    async def chatty():
        async with Neighbour(gateway, "127.0.0.66") as neighbour:
            for _ in range(8):
                assert await neighbour.associate("OTHER")
            assert await neighbour.associate("OTHER") is None

            async def chatter():
                while True:
                    for _, writer in neighbour.held:
                        # The header of a message, and bit by bit more of it: never silent for long.
                        writer.write(bytes.fromhex("04 00 00 00 07  00 00 00 03 01 01 00"))
                    await asyncio.sleep(0.2)

            talking = asyncio.create_task(chatter())
            yield
            talking.cancel()

    await besiege(chatty, lambda: honest_work(gateway, simulator))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.66"], ids=["the PACS's address", "a stranger's"])
async def test_connections_that_never_ask_keep_no_study_out(simulator, start, besiege, address):
    gateway = await start(simulator, avara=PATIENT)

    @contextlib.asynccontextmanager
    async def half_open():
        async with Neighbour(gateway, address) as neighbour:
            with bounded(gateway):
                await neighbour.half_open(400)
                assert len(gateway.parts.scp._door._waiting) <= 128
                yield

    await besiege(half_open, lambda: honest_work(gateway, simulator))


@pytest.fixture
def tls(certificates):  # noqa: F811
    return {
        "certificate_file": str(certificates / "AVARAGW.pem"),
        "key_file": str(certificates / "AVARAGW.key"),
        "ca_file": str(certificates / "ca.pem"),
    }


async def test_connections_that_never_shake_hands_are_counted_and_keep_nobody_out(simulator, start, tls, certificates):  # noqa: F811
    gateway = await start(simulator, dicom={"tls": tls})
    before = resident()
    async with Neighbour(gateway, "127.0.0.66") as neighbour:
        await neighbour.half_open(800)
        async with asyncio.timeout(20):
            while len(gateway.parts.scp._door._waiting) < 8:
                await asyncio.sleep(0.05)
        assert resident() - before < 100_000_000
        await gateway.parts.echo_self()
        context: ssl.SSLContext = client(certificates, "SIMULATOR")
        reader, writer = await asyncio.open_connection("127.0.0.1", neighbour.port, ssl=context)
        with contextlib.closing(writer):
            writer.write(request_pdu(simulator.ae_title, "AVARAGW", [Context(CT, (EXPLICIT,))]))
            assert (await asyncio.wait_for(reader.readexactly(6), 20))[0] == 2
        assert len(gateway.parts.scp._door._waiting) <= 32


async def test_a_handshake_that_does_not_begin_is_ended_in_time(simulator, start, tls):
    gateway = await start(simulator, dicom={"tls": tls})
    gateway.parts.scp._door._handshake = 0.5
    async with Neighbour(gateway) as neighbour:
        reader, _ = await neighbour.connect()
        assert await asyncio.wait_for(reader.read(), 20) == b""
        assert not gateway.parts.scp._door._waiting


async def flood(neighbour, what):
    """Sends it on every association, as fast as it is read, for as long as that stands."""

    async def send(reader, writer):
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(what)
                await writer.drain()

    async def swallow(reader, writer):
        while await reader.read(1 << 16):
            pass

    return [asyncio.create_task(f(*c)) for c in neighbour.held for f in (send, swallow)]


def echo():
    command = {
        dimse.AFFECTED_SOP_CLASS_UID: VERIFICATION, dimse.COMMAND_FIELD: dimse.C_ECHO_RQ, dimse.MESSAGE_ID: 1,
        dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
    }  # fmt: skip
    return b"".join(data_pdus(3, dimse.encode(command), command=True, last=True, max_pdu=16384))


def fragments():
    """A message in fragments of the least size that is taken on average, without an end."""
    store = {
        dimse.AFFECTED_SOP_CLASS_UID: CT, dimse.COMMAND_FIELD: dimse.C_STORE_RQ, dimse.MESSAGE_ID: 1,
        dimse.AFFECTED_SOP_INSTANCE_UID: "1.2.3", dimse.PRIORITY: 0, dimse.DATA_SET_TYPE: 1,
    }  # fmt: skip
    return data_pdus(1, dimse.encode(store), command=True, last=True, max_pdu=16384), b"".join(
        data_pdus(1, bytes(32 * 400), command=False, last=False, max_pdu=32 + 6)
    )


@pytest.mark.parametrize("what", ["echoes", "fragments"])
async def test_associations_that_cost_and_bring_nothing_are_read_slowly_and_others_as_ever(
    simulator, start, besiege, what
):
    gateway = await start(simulator, avara=PATIENT)

    @contextlib.asynccontextmanager
    async def flooded():
        async with Neighbour(gateway) as neighbour:
            for _ in range(12):
                assert await neighbour.associate(simulator.ae_title)
            if what == "fragments":
                begin, more = fragments()
                for _, writer in neighbour.held:
                    writer.writelines(begin)
            else:
                more = echo() * 20
            with bounded(gateway):
                tasks = await flood(neighbour, more)
                links = [caller.link for caller in gateway.parts.scp._standing()]
                await asyncio.sleep(2)  # what they had to begin with is spent
                began, before = time.monotonic(), sum(link._reader._fragments for link in links)
                yield
            fragments_a_second = (sum(link._reader._fragments for link in links) - before) / (time.monotonic() - began)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # An echo is reckoned at half a millisecond, and a fragment takes one and a half microseconds: a tenth of
            # the time buys two hundred of the former, or sixty thousand of the latter.
            assert fragments_a_second < (200_000 if what == "fragments" else 1000)

    await besiege(flooded, lambda: honest_work(gateway, simulator))
