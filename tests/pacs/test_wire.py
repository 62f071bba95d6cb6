"""The upper layer byte by byte: a scripted peer that plays the other side of the wire (PS3.8 §9).

What is left out: interoperation with other implementations (test_interoperation.py), and C-MOVE and C-FIND,
which tests/studies meets against Orthanc and the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dicom.part10 import file_header
from gateway.pacs.scp.server import StorageScp
from gateway.pacs.upper import dimse
from gateway.pacs.upper.negotiation import Context, read_answer, request_pdu
from gateway.pacs.upper.reader import HEADERS, MAX_COMMAND
from gateway.pacs.upper.spool import Spool
from gateway.pacs.upper.wire import MAX_PDU, data_pdus
from gateway.runtime.spools import Spools

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, JPEG2000 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"
VERIFICATION = "1.2.840.10008.1.1"
RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))


class Receiver:
    """A Storage SCP whose handler keeps what comes."""

    def __init__(self, tmp_path, **options):
        self.received = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.scp = StorageScp(
            ae_title="US", host="127.0.0.1", port=0, handler=self.take, allows=lambda ae, host: ae == "THEM",
            spools=Spools(tmp_path), **options,
        )  # fmt: skip

    async def take(self, instance):
        await self.gate.wait()
        body = instance.body
        self.received.append((instance, body.read(0, body.size), body.spooled))
        body.close()
        return 0


class Peer:
    """The other side of the wire: sends what it is told to, byte by byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, content):
        self.writer.write(content)
        await self.writer.drain()

    async def pdu(self):
        header = await asyncio.wait_for(self.reader.readexactly(6), 5)
        return header[0], await asyncio.wait_for(self.reader.readexactly(int.from_bytes(header[2:], "big")), 5)

    async def associate(self, contexts=None, calling="THEM", called="US"):
        contexts = contexts or [Context(CT, (EXPLICIT,)), Context(VERIFICATION, (EXPLICIT,))]
        await self.send(request_pdu(calling, called, contexts))
        pdu_type, content = await self.pdu()
        return pdu_type, content, contexts

    async def closed(self):
        return await asyncio.wait_for(self.reader.read(), 5) == b""

    async def status(self):
        pdu_type, content = await self.pdu()
        assert pdu_type == 4
        return dimse.decode(content[6:])[dimse.STATUS]


def store_request(uid="1.2.3", message_id=1):
    return dimse.encode(
        {
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
            dimse.MESSAGE_ID: message_id,
            dimse.PRIORITY: 0,
            dimse.DATA_SET_TYPE: 1,
            dimse.AFFECTED_SOP_CLASS_UID: CT,
            dimse.AFFECTED_SOP_INSTANCE_UID: uid,
        }
    )


def c_store(data, uid="1.2.3", max_pdu=16384):
    pdus = data_pdus(1, store_request(uid), command=True, last=True, max_pdu=max_pdu)
    return b"".join(pdus + data_pdus(1, data, command=False, last=True, max_pdu=max_pdu))


@pytest.fixture
async def receiver(tmp_path):
    made = Receiver(tmp_path, spool_above=100_000)
    await made.scp.start()
    yield made
    made.gate.set()
    await made.scp.stop(drain_for=0.1)


@contextlib.asynccontextmanager
async def connected(receiver):
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.scp.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


async def test_an_instance_is_received_and_answered(receiver):
    async with connected(receiver) as peer:
        assert (await peer.associate())[0] == 2
        await peer.send(c_store(b"data set"))
        assert await peer.status() == 0
        await peer.send(RELEASE)
        assert (await peer.pdu())[0] == 6
        assert await peer.closed()
    [(instance, content, spooled)] = receiver.received
    assert (instance.sop_instance_uid, instance.transfer_syntax_uid, instance.calling_ae_title) == (
        "1.2.3",
        EXPLICIT,
        "THEM",
    )
    assert (content, spooled) == (b"data set", False)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=1, max_size=3000),
    st.integers(16, 500),
    st.lists(st.integers(1, 200), min_size=1, max_size=8),
)
async def test_however_pdus_are_split_the_instance_is_the_same(receiver, data, max_pdu, pieces):
    receiver.received.clear()
    async with connected(receiver) as peer:
        await peer.associate()
        stream, at, n = c_store(data, max_pdu=max_pdu), 0, 0
        while at < len(stream):
            size = pieces[n % len(pieces)]
            await peer.send(stream[at : at + size])
            if n % 3 == 0:
                await asyncio.sleep(0)
            at, n = at + size, n + 1
        assert await peer.status() == 0
    assert [content for _, content, _ in receiver.received] == [data]


async def test_several_values_in_one_pdu_command_and_data_together(receiver):
    request, data = store_request(), b"x" * 100

    def pdv(payload, flags):
        return struct.pack(">IBB", len(payload) + 2, 1, flags) + payload

    values = pdv(request[:10], 1) + pdv(request[10:], 3) + pdv(data[:40], 0) + pdv(b"", 0) + pdv(data[40:], 2)
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(struct.pack(">BxI", 4, len(values)) + values)
        assert await peer.status() == 0
    assert receiver.received[0][1] == data


@pytest.mark.parametrize("size", [99_999, 100_001, 5_000_000])
async def test_a_large_instance_goes_through_a_file_and_is_the_same(receiver, size):
    data = bytes(range(251)) * (size // 251 + 1)
    async with connected(receiver) as peer:
        await peer.associate()
        # PDUs as long as we announce to take.
        await peer.send(c_store(data[:size], max_pdu=MAX_PDU) + c_store(b"next", uid="1.2.4"))
        assert [await peer.status(), await peer.status()] == [0, 0]
    (_, content, spooled), (_, following, _) = receiver.received
    assert content == data[:size]
    assert spooled == (size > 100_000)
    assert following == b"next"


async def test_a_block_is_due_once_however_many_fragments_come_with_it(tmp_path):
    spool = Spool(Spools(tmp_path), spool_above=100)
    for _ in range(3):
        due = [spool.add(memoryview(b"ten bytes!")) for _ in range(2000)]
        assert due.count(True) == 1
        await spool.flush()
    body = spool.body()
    assert body.size == 60_000
    body.close()


async def test_a_disk_that_is_full_is_told_and_the_association_lives_on(receiver, monkeypatch):
    def full(self, parts):
        raise OSError(28, "No space left on device")

    async with connected(receiver) as peer:
        await peer.associate()
        with monkeypatch.context() as patched:
            patched.setattr("gateway.pacs.upper.spool.Spool._write", full)
            await peer.send(c_store(b"x" * 3_000_000, max_pdu=65536))
            assert await peer.status() == 0xA700
        await peer.send(c_store(b"small", uid="1.2.4"))
        assert await peer.status() == 0
    assert [content for _, content, _ in receiver.received] == [b"small"]


@pytest.mark.slow
async def test_while_the_handler_waits_the_peer_is_not_read_beyond_a_bound(receiver):
    receiver.gate.clear()
    async with connected(receiver) as peer:
        await peer.associate()
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while sent < 500_000_000:
                    await peer.send(c_store(b"x" * 50_000, max_pdu=65536))
                    sent += 50_000
        assert sent < 30_000_000  # what the two sockets' buffers and one read hold
        receiver.gate.set()
        assert await peer.status() == 0


@pytest.mark.parametrize(("calling", "called", "result"), [("STRANGER", "US", (1, 1, 3)), ("THEM", "OTHER", (1, 1, 7))])
async def test_an_ae_that_is_not_allowed_is_rejected_with_its_reason(receiver, calling, called, result):
    async with connected(receiver) as peer:
        pdu_type, content, contexts = await peer.associate(calling=calling, called=called)
        answer = read_answer(pdu_type, content, contexts)
        assert (answer.result, answer.source, answer.reason) == result
        assert await peer.closed()


async def test_too_many_associations_are_rejected_for_now(tmp_path):
    receiver = Receiver(tmp_path, max_associations=1)
    await receiver.scp.start()
    async with connected(receiver) as first, connected(receiver) as second:
        assert (await first.associate())[0] == 2
        pdu_type, content, contexts = await second.associate()
        assert read_answer(pdu_type, content, contexts).transient
    await receiver.scp.stop(drain_for=0.1)


async def test_each_context_is_accepted_as_its_sender_prefers_it(receiver):
    proposed = [
        Context(CT, (JPEG2000, EXPLICIT)),
        Context("1.2.840.10008.5.1.4.1.1.999", (EXPLICIT,)),  # of a later edition
        Context("1.3.12.2.1107.5.9.1", (EXPLICIT,)),  # private
        Context("1.2.840.10008.5.1.4.1.2.2.1", (EXPLICIT,)),  # C-FIND: not served here
        Context(VERIFICATION, (EXPLICIT,)),
    ]
    async with connected(receiver) as peer:
        pdu_type, content, contexts = await peer.associate(proposed)
        accepted = read_answer(pdu_type, content, contexts).contexts
    assert {n: c.transfer_syntaxes[0] for n, c in accepted.items()} == {
        1: JPEG2000,
        3: EXPLICIT,
        5: EXPLICIT,
        9: EXPLICIT,
    }


async def test_a_pacs_that_is_to_send_uncompressed_images_has_its_compressed_contexts_refused(tmp_path):
    receiver = Receiver(tmp_path, uncompressed_only_from=frozenset(["THEM"]))
    await receiver.scp.start()
    async with connected(receiver) as peer:
        proposed = [Context(CT, (JPEG2000,)), Context(CT, (JPEG2000, EXPLICIT))]
        pdu_type, content, contexts = await peer.associate(proposed)
        accepted = read_answer(pdu_type, content, contexts).contexts
    assert {n: c.transfer_syntaxes for n, c in accepted.items()} == {3: (EXPLICIT,)}
    await receiver.scp.stop(drain_for=0.1)


def violation(pdu):
    return pytest.param(pdu, id=pdu[:12].hex())


COMMAND = data_pdus(1, store_request(), command=True, last=True, max_pdu=16384)


@pytest.mark.parametrize(
    "content",
    [
        violation(bytes((9, 0, 0, 0, 0, 4, 0, 0, 0, 0))),  # unknown PDU
        violation(bytes((2, 0, 0, 0, 0, 4, 0, 0, 0, 0))),  # A-ASSOCIATE-AC in the middle
        violation(bytes((5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0))),  # A-RELEASE-RQ of a wrong length
        violation(struct.pack(">BxI", 4, MAX_PDU + HEADERS + 1)),  # longer than announced
        violation(struct.pack(">BxI", 4, 0xFFFFFFFF)),
        violation(struct.pack(">BxIIBB", 4, 6, 100, 1, 3)),  # a value longer than its PDU
        violation(struct.pack(">BxIIBB", 4, 6, 1, 1, 3)),  # a value shorter than its header
        violation(struct.pack(">BxIIBB", 4, 6, 2, 77, 3)),  # a context that was not accepted
        violation(struct.pack(">BxIIBBB", 4, 7, 3, 1, 2, 0)),  # a data set without a command
        violation(b"".join([*COMMAND, *COMMAND])),  # a command where the data set is due
        violation(b"".join(data_pdus(1, b"nonsense", command=True, last=True, max_pdu=100))),
        violation(b"".join(data_pdus(1, b"\0" * (MAX_COMMAND + 10), command=True, last=False, max_pdu=1000))),
        violation(b"".join(data_pdus(3, store_request(), command=True, last=True, max_pdu=16384)) + c_store(b"x")),
        violation(b"".join([*COMMAND, *data_pdus(3, b"x", command=False, last=True, max_pdu=100)])),
    ],
)
async def test_what_breaks_the_protocol_is_aborted_and_stores_nothing(receiver, content):
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(content)
        pdu_type, abort = await peer.pdu()
        assert (pdu_type, abort[2]) == (7, 2)  # by the service provider
        assert await peer.closed()
    assert receiver.received == []
    async with connected(receiver) as peer:  # and the next association is served
        assert (await peer.associate())[0] == 2


@pytest.mark.parametrize(
    ("said", "taken"),
    [("../../etc/passwd", "../../etc/passwd"), ("1.2.*", ""), ("1\\2", ""), ("x" * 100, ""), ("", "")],
)
async def test_a_name_in_place_of_a_uid_is_handed_on_where_it_can_be_worked_with(receiver, said, taken):
    """That no key is a path is promised in tests/field."""
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(c_store(b"x", uid=said))
        assert await peer.status() == 0
    assert [instance.sop_instance_uid for instance, *_ in receiver.received] == [taken]


async def test_a_handler_that_fails_is_a_processing_failure(receiver, monkeypatch):
    async def fail(instance):
        raise RuntimeError

    receiver.scp._services.handler = fail
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(c_store(b"x"))
        assert await peer.status() == 0x0110


@pytest.mark.slow
async def test_a_connection_that_never_asks_for_an_association_is_closed(tmp_path):
    receiver = Receiver(tmp_path, artim=0.1)
    await receiver.scp.start()
    for said in (b"", b"\x01", request_pdu("THEM", "US", [Context(CT, (EXPLICIT,))])[:30]):
        async with connected(receiver) as peer:
            await peer.send(said)
            assert await peer.closed()
    await receiver.scp.stop(drain_for=0.1)


async def test_connections_that_never_ask_are_bounded_in_number_and_make_room_for_those_that_do(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.pacs.scp.server.WAITING_CONNECTIONS", 3)
    receiver = Receiver(tmp_path, max_associations=1)
    await receiver.scp.start()
    async with contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(receiver)) for _ in range(4)]
        assert await idle[0].closed()
        assert (await (await stack.enter_async_context(connected(receiver))).associate())[0] == 2
    await receiver.scp.stop(drain_for=0.1)


async def test_an_association_on_which_nothing_comes_is_aborted(tmp_path):
    receiver = Receiver(tmp_path, idle=0.2)
    await receiver.scp.start()
    async with connected(receiver) as peer:
        await peer.associate()
        assert (await peer.pdu())[0] == 7
    await receiver.scp.stop(drain_for=0.1)


async def test_half_an_instance_is_a_sign_of_life_of_its_sender_and_of_nobody_else(receiver):
    async with connected(receiver) as peer:
        await peer.associate()
        before = time.monotonic()
        await peer.send(c_store(bytes(10_000))[:5_000])
        async with asyncio.timeout(5):
            while receiver.scp.last_received({"THEM"}) < before:
                await asyncio.sleep(0.01)
        assert receiver.scp.last_received({"OTHERS"}) == 0
    async with asyncio.timeout(5):
        while receiver.scp.associations:
            await asyncio.sleep(0.01)
    assert before < receiver.scp.last_received({"THEM"}) < time.monotonic()


async def test_a_connection_lost_in_mid_instance_stores_nothing_and_leaves_no_file(receiver, tmp_path):
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(c_store(b"x" * 3_000_000, max_pdu=65536)[:2_000_000])
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)
    assert receiver.received == []
    assert list(tmp_path.iterdir()) == []
    assert receiver.scp._callers == {}


async def test_stopping_lets_an_instance_that_is_under_way_end(receiver):
    async with connected(receiver) as peer:
        await peer.associate()
        stream = c_store(b"data")
        await peer.send(stream[:50])
        stopping = asyncio.create_task(receiver.scp.stop(drain_for=5))
        await asyncio.sleep(0.05)
        await peer.send(stream[50:])
        assert await peer.status() == 0
        await peer.send(RELEASE)
        assert (await peer.pdu())[0] == 6
        await stopping
    assert len(receiver.received) == 1


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.lists(st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda t, n, b: struct.pack(">BxI", t, n) + b, st.integers(0, 9), st.integers(0, 70000), st.binary(max_size=60)
    ),
    st.just(c_store(b"good")),
), max_size=6))  # fmt: skip
async def test_garbage_never_keeps_the_next_peer_from_being_served(receiver, associate_first, garbage):
    async with connected(receiver) as peer:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if associate_first:
                await peer.associate()
            for piece in garbage:
                await peer.send(piece)
    async with connected(receiver) as peer:
        assert (await peer.associate())[0] == 2
        await peer.send(c_store(b"after"))
        assert await peer.status() == 0


@pytest.mark.slow
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=4),
    st.integers(40, 2000),
    st.floats(0.1, 1),
)
async def test_a_mutated_stream_leaves_no_task_no_file_and_no_descriptor(receiver, tmp_path, changes, step, share):
    open_before, tasks_before = len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())
    stream = bytearray(c_store(b"x" * 150_000, max_pdu=30_000) + c_store(b"small", uid="1.2.4") + RELEASE)
    for at, content in changes:
        start = int(at * (len(stream) if step % 2 else 400))  # the headers are where it hurts
        stream[start : start + len(content)] = content
    del stream[int(share * len(stream)) :]
    async with connected(receiver) as peer:
        await peer.associate()
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(stream), step * 50):
                await peer.send(stream[at : at + step * 50])
    async with asyncio.timeout(10):
        while receiver.scp._callers or len(asyncio.all_tasks()) > tasks_before:
            await asyncio.sleep(0.005)
        while len(list(Path("/proc/self/fd").iterdir())) > open_before:
            await asyncio.sleep(0.005)
    assert list(tmp_path.iterdir()) == []
    receiver.received.clear()


@pytest.mark.parametrize("uid_length", [5, 6, 63, 64])
def test_the_file_header_is_what_pydicom_expects(uid_length):
    from pydicom import dcmread

    uid = "1." + "2" * (uid_length - 2)
    header = file_header(CT, uid, EXPLICIT)
    meta = dcmread(io.BytesIO(header)).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.FileMetaInformationGroupLength == len(header) - 144


@given(st.binary(max_size=200))
def test_a_command_set_is_decoded_or_refused(raw):
    with contextlib.suppress(dimse.MalformedCommand):
        assert dimse.COMMAND_FIELD in dimse.decode(raw)
