"""What we ask of a PACS, against one that is scripted message by message (PS3.4 Annex C, PS3.7 §9).

What is left out: whole fetches from Orthanc and from the simulator, which tests/studies has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from gateway.dicom import STUDY_ROOT_FIND
from gateway.pacs.errors import (
    AssociationRejected,
    OperationFailed,
    PacsError,
    PacsUnreachable,
    ProtocolViolation,
    UnknownMoveDestination,
    UnreachableMoveDestination,
)
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.identifier import encode_identifier
from gateway.pacs.scu.move import MoveRetriever
from gateway.pacs.scu.retrieve import Selection
from gateway.pacs.upper import dimse
from gateway.pacs.upper.association import Association
from gateway.pacs.upper.negotiation import Context, Rejected, accept, read_request, reject_pdu
from gateway.pacs.upper.wire import data_pdus

EXPLICIT = "1.2.840.10008.1.2.1"
STUDY, SERIES, OTHER_SERIES = "1.2.3", "1.2.3.1", "1.2.3.2"
STUDY_UID, SERIES_UID, INSTANCE_UID, CLASS_UID = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016
NAME, CHARACTER_SET, STUDY_INSTANCES = 0x00100010, 0x00080005, 0x00201208
RELEASE_RQ, RELEASE_RP = (bytes((t, 0, 0, 0, 0, 4, 0, 0, 0, 0)) for t in (5, 6))


class Pacs:
    """The accepting end of one association, for a script to play."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.last = {}

    async def pdu(self):
        header = await self.reader.readexactly(6)
        return header[0], await self.reader.readexactly(int.from_bytes(header[2:], "big"))

    async def request(self):
        """The command of the next request, and its identifier's raw bytes."""
        command, data = b"", b""
        while True:
            pdu_type, content = await self.pdu()
            assert pdu_type == 4
            flags = content[5]
            command, data = (command + content[6:], data) if flags & 1 else (command, data + content[6:])
            if flags & 2:
                self.last = dimse.decode(command)
                if not flags & 1 or self.last[dimse.DATA_SET_TYPE] == dimse.NO_DATA_SET:
                    return self.last, data

    async def respond(self, status, keys=None, raw=None, **counters):
        data = raw if raw is not None else encode_identifier("IMAGE", keys, EXPLICIT) if keys else None
        command = dimse.response(self.last, status) | {dimse.DATA_SET_TYPE: dimse.NO_DATA_SET if data is None else 1}
        command |= {getattr(dimse, name.upper()): value for name, value in counters.items()}
        pdus = data_pdus(1, dimse.encode(command), command=True, last=True, max_pdu=4096)
        if data is not None:
            pdus += data_pdus(1, data, command=False, last=True, max_pdu=4096)
        self.writer.write(b"".join(pdus))
        await self.writer.drain()

    async def released(self):
        assert (await self.pdu())[0] == 5
        self.writer.write(RELEASE_RP)
        await self.writer.drain()


@contextlib.asynccontextmanager
async def playing(*scripts, **timeouts):
    """A client of a PACS whose n-th association plays the n-th script; an error of a script fails the test."""
    turns, plays = iter(scripts), []

    async def serve(reader, writer):
        pacs = Pacs(reader, writer)
        script = next(turns)
        try:
            async with asyncio.timeout(10):
                _, content = await pacs.pdu()
                if isinstance(script, Rejected):
                    writer.write(reject_pdu(script))
                else:
                    writer.write(accept(read_request(content), content, lambda context: EXPLICIT)[1])
                    await script(pacs)
        finally:
            writer.close()

    def connected(reader, writer):
        plays.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    peer = Peer("main", "PACS", "127.0.0.1", port, "US", timeouts=Timeouts(**timeouts))
    try:
        yield PacsClient(peer, advertised="US at 10.1.2.3:11112")
        await asyncio.gather(*plays)
        assert next(turns, None) is None, "a script was not played"
    finally:
        server.close()
        for play in plays:
            play.cancel()


def move(client, *selected, last_arrival=lambda: 0.0, total_limit=10.0):
    selection = Selection(STUDY, *selected)
    return MoveRetriever(client, destination="US").move(
        selection, turn=Claim(Lane.RETRIEVE), last_arrival=last_arrival, total_limit=total_limit
    )


async def test_a_study_is_released_only_after_the_last_response():
    async def script(pacs):
        _, identifier = await pacs.request()
        assert identifier == encode_identifier("STUDY", KEYS, EXPLICIT)
        await pacs.respond(0xFF00, {STUDY_UID: STUDY, STUDY_INSTANCES: "7"})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(early := asyncio.ensure_future(pacs.reader.read(1))), 0.1)
        await pacs.respond(0x0000)
        assert await early == RELEASE_RQ[:1]
        await pacs.reader.readexactly(9)
        pacs.writer.write(RELEASE_RP)

    async with playing(script) as client:
        record = await client.find_study(STUDY)
    assert (record.study_instance_uid, record.instances, record.series) == (STUDY, 7, None)


KEYS = {
    0x00080020: "", 0x00080030: "", 0x00080050: "", 0x00080056: "", 0x00080061: "", 0x00080090: "", 0x00081030: "",
    0x00100010: "", 0x00100020: "",
    0x00100021: "", 0x00100030: "", 0x00100040: "", 0x0020000D: STUDY, 0x00200010: "", 0x00201206: "", 0x00201208: "",
}  # fmt: skip


async def test_an_answer_about_another_study_is_not_taken_for_the_one_asked_for():
    async def script(pacs):
        await pacs.request()
        await pacs.respond(0xFF00, {STUDY_UID: "9.9.9"})
        await pacs.respond(0x0000)
        await pacs.released()

    async with playing(script) as client:
        assert await client.find_study(STUDY) is None


async def test_instances_of_other_series_and_studies_and_what_matches_more_are_not_listed():
    async def script(pacs):
        await pacs.request()
        for series in (SERIES, OTHER_SERIES, "1.2.3.*", ".."):
            await pacs.respond(0xFF00, {STUDY_UID: STUDY, SERIES_UID: series})
        await pacs.respond(0xFF00, {STUDY_UID: "9.9.9", SERIES_UID: "9.9.9.1"})
        await pacs.respond(0x0000)
        for _ in (SERIES, OTHER_SERIES):  # whatever series is asked for
            await pacs.request()
            await pacs.respond(0xFF00, {SERIES_UID: SERIES, INSTANCE_UID: "1.1", CLASS_UID: "1.2"})
            await pacs.respond(0xFF00, {STUDY_UID: STUDY, SERIES_UID: OTHER_SERIES, INSTANCE_UID: "2.1"})
            await pacs.respond(0xFF00, {STUDY_UID: "9.9.9", INSTANCE_UID: "3.1"})
            await pacs.respond(0xFF00, {INSTANCE_UID: "1.2.3.?"})
            await pacs.respond(0xFF00, raw=b"no data set")
            await pacs.respond(0x0000)
        await pacs.released()

    told = []
    async with playing(script) as client:
        listed = await client.list_instances(STUDY, told.extend)
    assert listed.complete
    assert [(r.series_instance_uid, r.sop_instance_uid, r.sop_class_uid) for r in listed.instances] == [
        (SERIES, "1.1", "1.2"),
        (OTHER_SERIES, "2.1", ""),
    ]
    assert tuple(told) == listed.instances


async def test_a_move_asks_for_what_it_is_told_to_and_says_what_failed():
    async def script(pacs):
        command, identifier = await pacs.request()
        assert command[dimse.MOVE_DESTINATION] == "US"
        keys = {STUDY_UID: STUDY, SERIES_UID: SERIES, INSTANCE_UID: "1.1\\1.2"}
        assert identifier == encode_identifier("IMAGE", keys, EXPLICIT)
        await pacs.respond(0xFF00, remaining=1, completed=1)
        # Failed SOP Instance UID List (0008,0058), with one that is none
        uids = b"1.2\\1.2.*"
        await pacs.respond(0xB000, raw=b"\x08\0\x58\0UI" + bytes((len(uids), 0)) + uids, failed=1, completed=1)
        await pacs.released()

    async with playing(script) as client:
        outcome = await move(client, SERIES, ("1.1", "1.2"))
    assert (outcome.status, outcome.completed, outcome.failed, outcome.warning) == (0xB000, 1, 1, None)
    assert outcome.failed_sop_instance_uids == ("1.2",)


async def test_an_unknown_destination_says_what_to_register():
    async def script(pacs):
        await pacs.request()
        await pacs.respond(0xA801)
        await pacs.pdu()

    async with playing(script) as client:
        with pytest.raises(UnknownMoveDestination, match=r"register US at 10\.1\.2\.3:11112") as raised:
            await move(client)
    assert not raised.value.transient


async def test_a_move_that_is_cancelled_aborts_its_association():
    asked = asyncio.Event()

    async def script(pacs):
        await pacs.request()
        asked.set()
        pdu_type, content = await pacs.pdu()
        assert (pdu_type, content[2]) == (7, 0)  # by the service user

    async with playing(script) as client:
        moving = asyncio.create_task(move(client))
        await asked.wait()
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving


async def test_a_move_is_given_up_when_neither_responses_nor_instances_come():
    async def script(pacs):
        await pacs.request()
        assert (await pacs.pdu())[0] == 7

    async with playing(script, idle=0.2) as client:
        with pytest.raises(PacsUnreachable, match=r"silent for 0\.2 s.* open a connection to US at 10\.1\.2\.3:11112"):
            await move(client)


@pytest.mark.parametrize(("came", "kind"), [(False, UnreachableMoveDestination), (True, PacsUnreachable)])
async def test_a_move_of_which_not_one_byte_came_is_told_from_one_that_stopped(came, kind):
    async def script(pacs):
        await pacs.request()
        assert (await pacs.pdu())[0] == 7

    async with playing(script, idle=0.2) as client:
        at = time.monotonic() + 0.05 if came else time.monotonic()
        retriever = MoveRetriever(client, destination="US", last_received=lambda: at)
        with pytest.raises(PacsUnreachable, match="does a firewall drop it") as told:
            await retriever.move(
                Selection(STUDY), turn=Claim(Lane.RETRIEVE), last_arrival=lambda: 0.0, total_limit=10.0
            )
    assert type(told.value) is kind


@pytest.mark.slow
async def test_a_move_goes_on_while_bytes_of_an_instance_come_however_long_it_takes():
    async def script(pacs):
        await pacs.request()
        await asyncio.sleep(0.8)  # no response, and no instance is whole
        await pacs.respond(0x0000)

    async with playing(script, idle=0.2) as client:
        retriever = MoveRetriever(client, destination="US", last_received=time.monotonic)
        outcome = await retriever.move(
            Selection(STUDY), turn=Claim(Lane.RETRIEVE), last_arrival=lambda: 0.0, total_limit=10.0
        )
    assert outcome.status == 0


@pytest.mark.slow
async def test_a_move_that_never_ends_is_given_up():
    async def script(pacs):
        await pacs.request()
        with contextlib.suppress(ConnectionError):
            while not pacs.reader.at_eof():
                await pacs.respond(0xFF00)
                await asyncio.sleep(0.01)
                if pacs.reader._buffer:
                    assert (await pacs.pdu())[0] == 7
                    return

    async with playing(script, idle=5) as client:
        with pytest.raises(PacsUnreachable, match=r"over 0\.3 s"):
            await move(client, total_limit=0.3)


async def test_both_sides_may_release_at_once():
    async def script(pacs):
        await pacs.request()
        await pacs.respond(0x0000)
        assert (await pacs.pdu())[0] == 5
        pacs.writer.write(RELEASE_RQ)
        assert (await pacs.pdu())[0] == 6
        pacs.writer.write(RELEASE_RP)

    async with playing(script) as client:
        await client.echo()


async def says(pacs, content):
    await pacs.request()
    pacs.writer.write(content)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await pacs.pdu()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"", PacsUnreachable, "was silent for 0.3 s"),
        (RELEASE_RQ, PacsUnreachable, "released the association while it owed us a response"),
        (bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0)), PacsUnreachable, "aborted the association"),
        (bytes((2, 0, 0, 0, 0, 4, 0, 0, 0, 0)), ProtocolViolation, "out of turn"),
        (b"HTTP/1.1 200 OK\r\n\r\n", PacsUnreachable, "unknown type"),
        (b"\4\0\xff\xff\xff\xff", PacsUnreachable, "more than announced"),
    ],
)
async def test_what_a_pacs_says_out_of_turn_ends_the_request_and_names_the_pacs(content, error, text):
    async with playing(lambda pacs: says(pacs, content), respond=0.3) as client:
        with pytest.raises(error, match=f"PACS main .*{text}"):
            await client.echo()


async def test_a_failure_is_told_with_its_status_and_its_comment_kept_apart():
    async def script(pacs):
        await pacs.request()
        await pacs.respond(0x0122, error_comment="no Doe^Jane here")
        await pacs.pdu()

    async with playing(script) as client:
        with pytest.raises(OperationFailed, match=r"C-ECHO with status 0122$") as caught:
            await client.echo()
    assert caught.value.remark == "no Doe^Jane here"


@pytest.mark.parametrize(
    ("rejected", "fix"),
    [
        (Rejected(1, 1, 3), "register AE title US in it"),
        (Rejected(1, 1, 7), "its AE title is not PACS: correct pacs.ae_title"),
        (Rejected(1, 2, 2), "protocol version not supported"),
    ],
)
async def test_a_permanent_rejection_names_its_fix_and_is_not_asked_again(rejected, fix):
    async with playing(rejected) as client:
        with pytest.raises(AssociationRejected, match=fix) as raised:
            await client.echo()
    assert not raised.value.transient


async def test_an_association_that_is_refused_for_now_is_asked_for_again(monkeypatch):
    async def script(pacs):
        await pacs.request()
        await pacs.respond(0x0000)
        await pacs.released()

    monkeypatch.setattr("gateway.pacs.scu.client.random.uniform", lambda low, high: 0.01)
    async with playing(Rejected(2, 3, 2), Rejected(2, 3, 1), script) as client:
        await client.echo()


async def test_no_more_associations_are_open_at_once_than_the_peer_allows():
    open_now, most = 0, 0

    async def script(pacs):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await pacs.request()
        await asyncio.sleep(0.02)
        open_now -= 1
        await pacs.respond(0x0000)
        await pacs.released()

    async with playing(*[script] * 10) as client:
        await asyncio.gather(*(client.echo() for _ in range(10)))
    assert 1 < most <= client.peer.max_associations


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "busy"])
@pytest.mark.parametrize(
    "last_words", [b"\x05\0\0\0\0\x04\0\0\0\0", b"\x07\0\0\0\0\x04\0\0\0\0", b""], ids=["release", "abort", "none"]
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_however_a_pacs_leaves_an_association_what_comes_of_it_is_an_error_of_the_pacs(reset, last_words, busy):
    """Released, aborted or just closed while it owes a response: while we wait for that, or before we come to it, so
    that its release cannot be answered any more."""

    async def script(pacs):
        pacs.writer.write(last_words)
        await pacs.writer.drain()
        if reset:
            await asyncio.sleep(0.05)
            pacs.writer.transport.abort()

    async with playing(script) as client:
        association = await Association.open(client.peer, [Context(STUDY_ROOT_FIND, (EXPLICIT,))])
        if busy:
            async with asyncio.timeout(5):
                while association._link.closed is None:
                    await asyncio.sleep(0.01)
        with pytest.raises(PacsError, match="PACS"):  # and it says which
            await association.receive(5)


async def test_a_series_without_instances_does_not_stop_the_listing_of_those_after_it():
    async def script(pacs):
        await pacs.request()
        for series in (OTHER_SERIES, SERIES):
            await pacs.respond(0xFF00, {STUDY_UID: STUDY, SERIES_UID: series})
        await pacs.respond(0x0000)
        await pacs.request()
        await pacs.respond(0x0000)
        await pacs.request()
        await pacs.respond(0xFF00, {STUDY_UID: STUDY, SERIES_UID: SERIES, INSTANCE_UID: "1.1", CLASS_UID: "1.2"})
        await pacs.respond(0x0000)
        await pacs.released()

    async with playing(script) as client:
        listed = await client.list_instances(STUDY)
    assert [r.sop_instance_uid for r in listed.instances] == ["1.1"]
