"""The protocol machine state by state: what each answers to each PDU that may come (PS3.8 Table 9-10).

Reached as acceptor (StorageScp): Sta1 no connection, Sta2 waiting for A-ASSOCIATE-RQ, Sta3 deciding, Sta6 data
transfer, Sta8 deciding on a release, Sta13 waiting for the connection to close.
Reached as requestor (Association): Sta4 connecting, Sta5 waiting for the answer, Sta6, Sta7 waiting for
A-RELEASE-RP, Sta9 and Sta11 both releasing, Sta13.
Never entered: Sta10 and Sta12, both releasing as seen by an acceptor; we never release what we accepted.

What is left out: what PDUs contain (test_wire.py, test_negotiation.py). Sta1 and Sta4 are a port that is closed, or
that does not answer (test_client.py); Sta3 and Sta8 last no time here: nothing can come between.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.pacs.errors import AssociationRejected, PacsUnreachable, ProtocolViolation
from gateway.pacs.peer import Peer as Address
from gateway.pacs.peer import Timeouts
from gateway.pacs.upper import association
from gateway.pacs.upper.association import Association
from gateway.pacs.upper.negotiation import Context, accept, read_answer, read_request, request_pdu
from gateway.pacs.upper.wire import data_pdus
from tests.pacs.test_wire import CT, EXPLICIT, RELEASE, VERIFICATION, Peer, Receiver, c_store, connected, store_request

RQ = request_pdu("THEM", "US", [Context(CT, (EXPLICIT,)), Context(VERIFICATION, (EXPLICIT,))])
AC = accept(read_request(RQ[6:]), RQ[6:], lambda c: c.transfer_syntaxes[0])[1]
RJ = bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 3))
DATA = b"".join(data_pdus(1, store_request(), command=True, last=True, max_pdu=16384))
RP = bytes((6, 0, 0, 0, 0, 4, 0, 0, 0, 0))
ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))
UNKNOWN = bytes((9, 0, 0, 0, 0, 4, 0, 0, 0, 0))
NAMES = {RQ: "RQ", AC: "AC", RJ: "RJ", DATA: "P-DATA", RELEASE: "RELEASE-RQ", RP: "RELEASE-RP", ABORT: "ABORT"}


def named(pdu):
    return NAMES.get(pdu, "unknown")


@pytest.fixture
async def receiver(tmp_path):
    made = Receiver(tmp_path, artim=2)
    await made.scp.start()
    yield made
    await made.scp.stop(drain_for=0.1)


@pytest.mark.parametrize("pdu", [AC, RJ, DATA, RELEASE, RP, UNKNOWN], ids=named)
async def test_acceptor_sta2_aborts_what_is_no_request(receiver, pdu):
    async with connected(receiver) as peer:
        await peer.send(pdu)
        assert (await peer.pdu())[0] == 7
        assert await peer.closed()


@pytest.mark.parametrize("pdu", [RQ, AC, RJ, RP, UNKNOWN], ids=named)
async def test_acceptor_sta6_aborts_what_is_out_of_turn(receiver, pdu):
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(pdu)
        pdu_type, content = await peer.pdu()
        assert (pdu_type, content[2]) == (7, 2)
        assert await peer.closed()


@pytest.mark.parametrize("associate_first", [False, True], ids=["Sta2", "Sta6"])
@pytest.mark.parametrize("end", [ABORT, b""], ids=["ABORT", "closed"])
async def test_acceptor_takes_an_abort_or_a_lost_connection_in_silence(receiver, associate_first, end):
    async with connected(receiver) as peer:
        if associate_first:
            await peer.associate()
        await peer.send(end)
        if not end:
            peer.writer.write_eof()
        assert await peer.closed()
    async with asyncio.timeout(5):
        while receiver.scp._callers:
            await asyncio.sleep(0.01)


async def test_acceptor_sta8_answers_a_release_after_all_that_came_before_it(receiver):
    async with connected(receiver) as peer:
        await peer.associate()
        await peer.send(c_store(b"last") + RELEASE)
        assert await peer.status() == 0
        assert (await peer.pdu())[0] == 6
        assert await peer.closed()
    assert len(receiver.received) == 1


@pytest.mark.parametrize("rejected", [True, False], ids=["after RJ", "after RELEASE-RP"])
async def test_acceptor_sta13_closes_by_itself_and_ignores_what_still_comes(receiver, rejected):
    async with connected(receiver) as peer:
        await peer.associate(calling="STRANGER" if rejected else "THEM")
        if not rejected:
            await peer.send(RELEASE)
            assert (await peer.pdu())[0] == 6
        with contextlib.suppress(ConnectionError):
            await peer.send(c_store(b"too late"))
            assert await peer.closed()
    assert receiver.received == []


async def test_another_protocol_version_is_rejected_as_such(receiver):
    async with connected(receiver) as peer:
        await peer.send(RQ[:6] + b"\0\2" + RQ[8:])
        answer = read_answer(*await peer.pdu(), [])
        assert (answer.result, answer.source, answer.reason) == (1, 2, 2)


async def test_items_that_nobody_knows_are_ignored(receiver):
    at = RQ.index(bytes((0x50, 0)), 74)
    length = int.from_bytes(RQ[at + 2 : at + 4], "big")
    odd_sub, odd = bytes((0x77, 0, 0, 2, 1, 2)), bytes((0x78, 0, 0, 1, 9))
    content = RQ[6 : at + 2] + (length + len(odd_sub)).to_bytes(2, "big") + RQ[at + 4 :] + odd_sub + odd
    async with connected(receiver) as peer:
        await peer.send(b"\1\0" + len(content).to_bytes(4, "big") + content)
        pdu_type, answer = await peer.pdu()
        contexts = [Context(CT, (EXPLICIT,)), Context(VERIFICATION, (EXPLICIT,))]
        assert set(read_answer(pdu_type, answer, contexts).contexts) == {1, 3}


class Pacs:
    """A PACS that follows a script: what it says to a request, and then to the next PDU of each turn."""

    def __init__(self, *script):
        self.script = script
        self.heard = []

    async def __aenter__(self):
        self.done = asyncio.Event()
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.address = Address("pacs", "THEM", "127.0.0.1", port, "US", timeouts=Timeouts(associate=2, respond=2))
        return self

    async def __aexit__(self, *_):
        async with asyncio.timeout(10):
            await self.done.wait()
        self.server.close()

    async def serve(self, reader, writer):
        peer = Peer(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            for said in self.script:
                self.heard.append((await peer.pdu())[0])
                await peer.send(said)
                if not said:
                    break
            else:
                while True:
                    self.heard.append((await peer.pdu())[0])
        writer.close()
        self.done.set()

    def open(self):
        return Association.open(self.address, [Context(CT, (EXPLICIT,)), Context(VERIFICATION, (EXPLICIT,))])


@pytest.mark.parametrize(
    ("pdu", "error", "aborts"),
    [
        (RQ, ProtocolViolation, True),
        (RJ, AssociationRejected, False),
        (DATA, PacsUnreachable, True),
        (RELEASE, ProtocolViolation, True),
        (RP, ProtocolViolation, True),
        (ABORT, PacsUnreachable, False),
        (UNKNOWN, PacsUnreachable, True),
        (b"", PacsUnreachable, False),
    ],
    ids=lambda value: named(value) if isinstance(value, bytes) else "",
)
async def test_requestor_sta5_takes_no_answer_but_an_answer(pdu, error, aborts):
    async with Pacs(pdu) as pacs:
        with pytest.raises(error):
            await pacs.open()
    assert pacs.heard == [1, *[7] * aborts]


@pytest.mark.parametrize(
    ("pdu", "error", "hears"),
    [
        (RQ, ProtocolViolation, [7]),
        (AC, ProtocolViolation, [7]),
        (RJ, ProtocolViolation, [7]),
        (RP, ProtocolViolation, [7]),
        (RELEASE, PacsUnreachable, [6]),
        (ABORT, PacsUnreachable, []),
        (UNKNOWN, PacsUnreachable, [7]),
    ],
    ids=lambda value: named(value) if isinstance(value, bytes) else "",
)
async def test_requestor_sta6_waits_for_a_response_and_takes_nothing_else(pdu, error, hears):
    async with Pacs(AC + pdu) as pacs:
        opened = await pacs.open()
        with pytest.raises(error):
            await opened.receive(2)
    assert pacs.heard == [1, *hears]


@pytest.mark.parametrize(
    ("pdu", "hears"),
    [
        (RP, []),
        (ABORT, []),
        (b"", []),
        (b"".join(data_pdus(3, store_request(), command=True, last=True, max_pdu=100)) + RP, []),
        (RELEASE + RP, [6]),  # Sta9, then Sta11
        (AC, [7]),
        (UNKNOWN, [7]),
    ],
    ids=["RELEASE-RP", "ABORT", "closed", "P-DATA first", "both release", "AC", "unknown"],
)
async def test_requestor_sta7_releases_and_comes_to_an_end_whatever_is_said(pdu, hears):
    async with Pacs(AC, pdu) as pacs:
        await (await pacs.open()).release()
    assert pacs.heard == [1, 5, *hears]


async def test_requestor_sta7_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(association, "RELEASE_WITHIN", 0.1)
    async with Pacs(AC) as pacs:
        await (await pacs.open()).release()
    assert pacs.heard == [1, 5, 7]
