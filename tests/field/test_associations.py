"""Association fields that only inform, as the field fills them in: accepted; what a decision hangs on is bounded.

From either side, on the wire. What is agreed in an association that is as it should be is in tests/pacs.
"""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pacs.errors import ProtocolViolation
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.peer import Peer
from gateway.pacs.scp.server import StorageScp
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.get import GetRetriever
from gateway.pacs.scu.retrieve import Selection
from gateway.pacs.upper import dimse, negotiation, pdus
from gateway.pacs.upper.negotiation import Context, accept, read_answer, read_request, request_pdu
from gateway.pacs.upper.wire import MAX_PDU
from gateway.runtime.spools import Spools
from gateway.studies.outcome import Complete
from tests.field.inputs import CT, SERIES, STUDY, elements, encoded, held
from tests.field.raw_pacs import EXPLICIT, Wire, associate, item, parse_contexts, proposed, raw_pacs
from tests.field.test_instances import data_set, opened

VERIFICATION = "1.2.840.10008.1.1"
CLASS_UID, VERSION, IDENTITY = 0x52, 0x55, 0x58

INFORMING = {
    "a version name of 22 characters": [item(CLASS_UID, b"1.2.3"), item(VERSION, b"DCMJS-DIMSE-V1.2.3-ABC")],
    "a version name that is not ASCII": [item(CLASS_UID, b"1.2.3"), item(VERSION, "MÜLLER".encode("latin-1"))],
    "an empty version name": [item(CLASS_UID, b"1.2.3"), item(VERSION, b"")],
    "a class UID of 70 characters": [item(CLASS_UID, b"1.2." + b"3" * 66)],
    "a class UID that is none": [item(CLASS_UID, b"MY-PACS 4.2\0")],
    "an empty class UID": [item(CLASS_UID, b"")],
    "no class UID": [item(VERSION, b"X")],
    "a maximum length of two bytes": [item(0x51, b"\x40\0")],
    "asynchronous operations of one byte": [item(0x53, b"\1")],
    "a user identity cut short": [item(IDENTITY, b"\2\1\0")],
    "extended negotiation of a length that lies": [item(0x56, b"\0\xff1.2")],
    "a role selection of a length that lies": [item(0x54, b"\0\xff1.2\1\1")],
    "a sub-item of a later edition": [item(0x5F, b"anything")],
    "a sub-item that is longer than all": [struct.pack(">BxH", CLASS_UID, 500) + b"1.2.3"],
    "sub-items of no length": [item(kind, b"") for kind in range(0x52, 0x5A)],
    "sub-items twice": [item(CLASS_UID, b"1.2"), item(VERSION, b"A"), item(VERSION, b"B"), item(CLASS_UID, b"3.4")],
    "sub-items the other way round": [
        item(VERSION, b"X"),
        item(0x54, b"\0\3" + b"1.2" + b"\1\1"),
        item(CLASS_UID, b"1.2"),
    ],
    "bytes behind the sub-items": [item(CLASS_UID, b"1.2") + b"\0\0\0"],
    "0xFF behind the sub-items": [item(CLASS_UID, b"1.2") + b"\xff" * 20],
    "a second maximum length, of no limit": [item(CLASS_UID, b"1.2"), item(0x51, bytes(4))],
    "a maximum length of eight bytes": [item(0x51, bytes(4) + struct.pack(">I", 16384))],
    "a tiny maximum length": [item(0x51, struct.pack(">I", 7))],
    "a UID with blanks and NULs around it": [item(CLASS_UID, b" 1.2.3 \0\0")],
}
"""dcmjs-dimse#61 for the first ones; PS3.7 D.3.3.2: version 1 to 16 characters, class a UID. All only inform."""

TITLES = {
    "NULs": b"THEM" + b"\0" * 12,
    "a NUL, then blanks": b"THEM\0" + b" " * 11,
    "a NUL, then what was there": b"THEM\0garbage",
    "blanks before and after": b"  THEM   ",
}
"""pynetdicom#921; PS3.8 Table 9-11: leading and trailing blanks are of no meaning."""


def items_of(*items):
    """An A-ASSOCIATE-RQ of these items (PS3.8 §9.3.2), whatever they are."""
    content = struct.pack(">Hxx", 1) + b"US".ljust(16) + b"THEM".ljust(16) + bytes(32) + b"".join(items)
    return struct.pack(">BxI", 1, len(content)) + content


APPLICATION = item(0x10, b"1.2.840.10008.3.1.1.1")
VERIFIES = proposed(1, VERIFICATION, [EXPLICIT])
USER = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(CLASS_UID, b"1.2.3"))

ITEMS = {
    "an application context padded with NULs": [item(0x10, b"1.2.840.10008.3.1.1.1\0"), VERIFIES, USER],
    "an application context padded with blanks": [item(0x10, b"1.2.840.10008.3.1.1.1 "), VERIFIES, USER],
    "no application context": [VERIFIES, USER],
    "an empty application context": [item(0x10, b""), VERIFIES, USER],
    "user information first, application context last": [USER, VERIFIES, APPLICATION],
    "user information in two items": [APPLICATION, VERIFIES, item(0x50, item(0x51, bytes(4))), USER],
    "no user information": [APPLICATION, VERIFIES],
    "empty user information": [APPLICATION, VERIFIES, item(0x50, b"")],
    "user information that says more than it has": [APPLICATION, VERIFIES, struct.pack(">BxH", 0x50, 900) + USER[4:]],
    "user information that says less than it has": [APPLICATION, VERIFIES, struct.pack(">BxH", 0x50, 9) + USER[4:]],
    "an unknown item that is longer than all": [APPLICATION, VERIFIES, USER, struct.pack(">BxH", 0x60, 900) + b"x"],
    "unknown items in between": [item(0x60, b"x"), APPLICATION, item(0x99, b""), VERIFIES, USER],
    "zeros behind them": [APPLICATION, VERIFIES, USER, bytes(64)],
    "0xFF behind them": [APPLICATION, VERIFIES, USER, b"\xff" * 64],
    "a context too short to be one": [APPLICATION, item(0x20, b"\3\0\0"), VERIFIES, USER],
    "a context twice": [APPLICATION, VERIFIES, VERIFIES, USER],
    "UIDs with something behind a NUL": [
        APPLICATION,
        proposed(1, VERIFICATION + "\0xy", [EXPLICIT + "\0\0junk"]),
        USER,
    ],
    "UIDs with blanks": [APPLICATION, proposed(1, f" {VERIFICATION} ", [EXPLICIT + " \0"]), USER],
}
"""None of them leaves open what is proposed."""


class Scp:
    """Our SCP, with what it let in."""

    def __init__(self, tmp_path, spools=None, **options):
        self.asked = []
        self.taken = []
        self._writers = []
        self.scp = StorageScp(
            ae_title="US", host="127.0.0.1", port=0, handler=self._take, allows=self._allows,
            spools=Spools(tmp_path, **(spools or {})), **options,
        )  # fmt: skip

    def _allows(self, title, host):
        self.asked.append(title)
        return title == "THEM"

    async def _take(self, instance):
        self.taken.append((instance.calling_ae_title, instance.sop_class_uid))
        instance.body.close()
        return 0

    async def __aenter__(self):
        await self.scp.start()
        return self

    async def __aexit__(self, *exc):
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()
        await self.scp.stop(drain_for=0)

    async def answer(self, rq):
        """The type and content of the PDU that answers *rq*, and the open association."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.scp.port)
        self._writers.append(writer)
        writer.write(rq)
        wire = Wire(reader, writer)
        return *await asyncio.wait_for(wire.pdu(), 10), wire


def rq(*user_items, calling=b"THEM", called=b"US", contexts=()):
    return associate(1, called, calling, contexts or [proposed(1, VERIFICATION, [EXPLICIT])], *user_items)


@pytest.mark.parametrize("what", INFORMING)
async def test_as_acceptor_what_only_informs_is_passed_over(tmp_path, what):
    async with Scp(tmp_path) as us:
        pdu_type, content, _ = await us.answer(rq(*INFORMING[what]))
        assert pdu_type == 2
        assert [c[0] for c in parse_contexts(content)[0].values()] == [0]


@pytest.mark.parametrize("what", ITEMS)
async def test_as_acceptor_what_is_proposed_is_found_however_it_is_put(tmp_path, what):
    async with Scp(tmp_path) as us:
        pdu_type, content, _ = await us.answer(items_of(*ITEMS[what]))
        assert pdu_type == 2
        assert parse_contexts(content)[0][1][0] == 0


@pytest.mark.parametrize(
    "context",
    [struct.pack(">BxH", 0x20, 900) + VERIFIES[4:], item(0x20, VERIFIES[4:] + struct.pack(">BxH", 0x40, 90) + b"1.2")],
)
def test_a_context_that_says_more_than_it_has_is_a_violation(context):
    with pytest.raises(ProtocolViolation):
        read_request(items_of(APPLICATION, context, USER)[6:])


async def test_a_pdu_whose_headers_were_not_counted_is_taken(tmp_path):
    """PS3.8 D.1: Maximum Length is of the whole variable field; some take it for that of the data alone."""
    async with Scp(tmp_path, {"largest": 1_000_000}) as us:
        _, _, wire = await us.answer(rq(contexts=[proposed(1, CT, [EXPLICIT])]))
        wire.send(
            1,
            {
                dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
                dimse.MESSAGE_ID: 1,
                dimse.DATA_SET_TYPE: 1,
                dimse.PRIORITY: 0,
                dimse.AFFECTED_SOP_CLASS_UID: CT,
                dimse.AFFECTED_SOP_INSTANCE_UID: "1.2.img",
            },
        )
        data = bytes(MAX_PDU)
        wire.writer.write(struct.pack(">BxI", 4, len(data) + 6) + struct.pack(">IBB", len(data) + 2, 1, 2) + data)
        _, answer, _ = await wire.message()
        assert answer[dimse.STATUS] == 0


@pytest.mark.parametrize("padding", TITLES)
async def test_as_acceptor_titles_are_read_however_they_are_padded_and_come_back_as_they_were(tmp_path, padding):
    asked = rq(calling=TITLES[padding].ljust(16), called=b"US\0")
    async with Scp(tmp_path) as us:
        pdu_type, content, _ = await us.answer(asked)
        assert (pdu_type, us.asked[0]) == (2, "THEM")
        assert content[4:68] == asked[10:74]


async def test_a_title_cannot_forge_a_line_of_the_log(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    async with Scp(tmp_path) as us:
        pdu_type, content, _ = await us.answer(rq(calling=b"A\nERROR \x1b[31m x"))
        assert (pdu_type, content[3]) == (3, 3)
    assert any("A?ERROR" in r.getMessage() for r in caplog.records)
    assert not any("\n" in r.getMessage() or "\x1b" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("what", INFORMING)
async def test_as_requestor_a_pacs_can_be_used_whatever_it_says_of_itself(what):
    async with raw_pacs(held(encoded(elements()))) as pacs:
        pacs.user_items = INFORMING[what]
        client = PacsClient(Peer("raw", "RAWPACS", "127.0.0.1", pacs.port, "US"), advertised="US")
        assert (await client.find_study(STUDY)).instances == 1


@pytest.mark.parametrize("method", ["c-move", "c-get"])
async def test_a_study_opens_from_a_pacs_whose_fields_are_all_odd(start, method):
    one = held(encoded(elements(sop="1.2.3.img7A")))
    one.uid = "1.2.3.img7A"
    async with raw_pacs(one) as pacs:
        pacs.calling = b"RAWPACS\0\0garbage"
        pacs.user_items = [item(CLASS_UID, b"MY-PACS"), item(VERSION, b"\xff" * 40)]
        _, ended, _, objects = await opened(start, pacs, method)
        assert isinstance(ended, Complete)
        assert list(map(data_set, objects)) == [one.data]


@pytest.mark.parametrize(("case", "accepted"), [("exact", False), ("ignore", True)])
async def test_ae_title_case_is_kept_to_or_not(start, case, accepted):
    """PS3.5 §6.2: AE is case-sensitive; some PACS write all in capitals, or in small letters."""
    async with raw_pacs(held(encoded(elements()))) as pacs:
        pacs.calling = b"rawpacs"
        gateway = await start(pacs.described("c-move"), dicom={"ae_title_case": case})
        pacs.destination = ("127.0.0.1", gateway.parts.scp.port)
        ended = await gateway.parts.fetcher.fetch(STUDY).ended(60)
        assert isinstance(ended, Complete) == accepted


def orthancs_failed_get():
    """PS3.7 §6.3.1: a command set has group 0000 alone; stock Orthanc appends (0008,0058) behind it."""
    command = {
        dimse.COMMAND_FIELD: dimse.C_GET_RSP, dimse.MESSAGE_ID_RESPONDED_TO: 1, dimse.STATUS: 0xC000,
        dimse.AFFECTED_SOP_CLASS_UID: "1.2.840.10008.5.1.4.1.2.2.3", dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
        dimse.REMAINING: 0, dimse.COMPLETED: 0, dimse.FAILED: 1, dimse.WARNING: 0,
    }  # fmt: skip
    return dimse.encode(command) + struct.pack("<HHI", 0x0008, 0x0058, 8) + b"1.2.3.4\0"


def test_a_command_set_ends_with_its_group():
    command = dimse.decode(orthancs_failed_get())
    assert (command[dimse.STATUS], command[dimse.FAILED]) == (0xC000, 1)
    without_length = orthancs_failed_get()[12:]
    assert dimse.decode(without_length) == command
    lies = bytearray(orthancs_failed_get())
    lies[8:12] = b"\xff\xff\0\0"  # longer than it is
    assert dimse.decode(lies) == command


async def test_a_get_that_failed_is_told_by_its_status():
    async with raw_pacs(held(encoded(elements()))) as pacs:
        pacs.failing_get = orthancs_failed_get()
        client = PacsClient(Peer("raw", "RAWPACS", "127.0.0.1", pacs.port, "US"), advertised="US")
        retriever = GetRetriever(client, spools=None)
        outcome = await retriever.get(Selection(STUDY, SERIES), turn=Claim(Lane.RETRIEVE), deliver=None, total_limit=10)
        assert (outcome.status, outcome.failed) == (0xC000, 1)


@pytest.mark.parametrize(
    "sop_class",
    ["1.2.840.10008.5.1.1.27", "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.39.1", "1.3.12.2.1107.5.9.1", "MY.CLASS"],
)
async def test_every_class_that_is_stored_is_accepted_and_stored(tmp_path, sop_class):
    async with Scp(tmp_path) as us:
        pdu_type, content, wire = await us.answer(rq(contexts=[proposed(1, sop_class, [EXPLICIT])]))
        assert (pdu_type, parse_contexts(content)[0][1][0]) == (2, 0)
        command = {
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ, dimse.MESSAGE_ID: 1, dimse.DATA_SET_TYPE: 1, dimse.PRIORITY: 0,
            dimse.AFFECTED_SOP_CLASS_UID: sop_class, dimse.AFFECTED_SOP_INSTANCE_UID: "1.2.img",
        }  # fmt: skip
        wire.send(1, command, encoded(elements()))
        _, answer, _ = await wire.message()
        assert (answer[dimse.STATUS], us.taken) == (0, [("THEM", sop_class)])


@pytest.mark.parametrize(
    "service", ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.31", "1.2.840.10008.5.1.1.9", ""]
)
async def test_a_service_that_is_none_of_ours_is_not(tmp_path, service):
    async with Scp(tmp_path) as us:
        pdu_type, content, _ = await us.answer(rq(contexts=[proposed(1, service, [EXPLICIT])]))
        assert (pdu_type, parse_contexts(content)[0][1][0]) == (2, 3)


class TestBounds:
    async def test_a_stranger_is_rejected_before_anything_of_the_request_is_decoded(self, tmp_path, monkeypatch):
        """A 505 KiB request from an unknown AE took 1.1 s of CPU."""

        def decoded(content):
            raise AssertionError("the items were looked at")

        monkeypatch.setattr(pdus, "read_items", decoded)
        many = [proposed(n % 256, CT, ["1.2.3"] * 50) for n in range(800)]
        async with Scp(tmp_path) as us:
            for who in ({"calling": b"NOBODY"}, {"called": b"NOT-US"}):
                pdu_type, _, _ = await us.answer(rq(contexts=many, **who))
                assert pdu_type == 3

    def test_items_are_bounded_in_number(self):
        with pytest.raises(ProtocolViolation, match="more than"):
            read_request(rq(contexts=[item(0x20, item(0x40, b"") * 16_000)] * 2)[6:])
        full = rq(contexts=[proposed(2 * n + 1, CT, ["1.2.840.10008.1.2.4.70"] * 60) for n in range(128)])
        assert len(read_request(full[6:]).contexts) == 128

    @given(st.binary(max_size=300))
    def test_no_bytes_break_the_decoder(self, tail):
        content = rq()[6:74] + tail
        try:
            proposal = read_request(content)
        except ProtocolViolation:
            return
        accepted, answer = accept(proposal, content, lambda c: c.transfer_syntaxes[0] if c.transfer_syntaxes else "")
        assert set(accepted.contexts) <= set(proposal.contexts)
        read_answer(answer[0], answer[6:], [])

    @given(st.binary(max_size=200))
    def test_no_answer_breaks_the_decoder(self, content):
        for pdu_type in (2, 3, 7):
            try:
                read_answer(pdu_type, content, [Context(CT, (EXPLICIT,))])
            except ProtocolViolation:
                continue


def test_what_we_write_others_read():
    """pynetdicom's decoder is the strict one."""
    from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

    asked = request_pdu("US", "THEM", [Context(CT, (EXPLICIT, "1.2.840.10008.1.2"), as_scp=True)])
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(asked)
    primitive = theirs.to_primitive()
    assert (primitive.calling_ae_title.strip(), primitive.called_ae_title.strip()) == ("US", "THEM")
    [context] = primitive.presentation_context_definition_list
    assert (context.abstract_syntax, context.transfer_syntax) == (CT, [EXPLICIT, "1.2.840.10008.1.2"])
    assert primitive.maximum_length_received == negotiation.MAX_PDU
    _, answered = accept(read_request(asked[6:]), asked[6:], lambda c: c.transfer_syntaxes[0])
    ours = A_ASSOCIATE_AC()
    ours.decode(answered)
    [result] = ours.to_primitive().presentation_context_definition_results_list
    assert (result.context_id, result.result, result.transfer_syntax) == (1, 0, [EXPLICIT])


class TestWhatAPeerMaySend:
    """Bounds on what comes on an association that stands: disk and time of one peer are not everybody's."""

    async def associated(self, us, service=CT):
        pdu_type, _, wire = await us.answer(rq(contexts=[proposed(1, service, [EXPLICIT])]))
        assert pdu_type == 2
        return wire

    async def aborted(self, wire):
        try:
            async with asyncio.timeout(10):
                while True:
                    pdu_type, _ = await wire.pdu()
                    if pdu_type == 7:
                        return True
        except (asyncio.IncompleteReadError, ConnectionError):
            return True

    def store(self):
        return {
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ, dimse.MESSAGE_ID: 1, dimse.DATA_SET_TYPE: 1, dimse.PRIORITY: 0,
            dimse.AFFECTED_SOP_CLASS_UID: CT, dimse.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
        }  # fmt: skip

    async def test_an_echo_that_announces_a_data_set_is_answered_and_gets_none(self, tmp_path):
        """PS3.7 §9.3.5: C-ECHO has no data set. One without an end spooled 4 GB in 12 s."""
        async with Scp(tmp_path) as us:
            wire = await self.associated(us, VERIFICATION)
            echo = {dimse.COMMAND_FIELD: dimse.C_ECHO_RQ, dimse.MESSAGE_ID: 1, dimse.DATA_SET_TYPE: 1}
            wire.send(1, echo)
            _, answer, _ = await wire.message()
            assert answer[dimse.STATUS] == 0
            wire.send(1, echo, b"x" * 100_000)
            assert await self.aborted(wire)
            assert list(tmp_path.iterdir()) == []

    async def test_a_data_set_that_is_no_instance_is_bounded(self, tmp_path):
        async with Scp(tmp_path) as us:
            wire = await self.associated(us)
            report = {dimse.COMMAND_FIELD: dimse.N_EVENT_REPORT_RQ, dimse.MESSAGE_ID: 1, dimse.DATA_SET_TYPE: 1}
            wire.send(1, report, bytes(3 * 1024 * 1024))
            assert await self.aborted(wire)

    @pytest.mark.parametrize("spool_above", [1000, 10_000_000])
    async def test_an_instance_that_is_too_large_is_refused_and_the_next_one_taken(self, tmp_path, caplog, spool_above):
        async with Scp(tmp_path, {"largest": 1_000_000}, spool_above=spool_above) as us:
            wire = await self.associated(us)
            for size, status in ((1_500_000, 0xA700), (1_000_000, 0)):
                wire.send(1, self.store(), bytes(size))
                _, answer, _ = await wire.message()
                assert answer[dimse.STATUS] == status
            assert len(us.taken) == 1
        assert any("dicom.max_instance_size" in r.getMessage() for r in caplog.records)

    async def test_an_instance_without_an_end_ends_the_association(self, tmp_path):
        async with Scp(tmp_path, {"largest": 1_000_000}) as us:
            wire = await self.associated(us)
            wire.send(1, self.store(), bytes(4_000_000))
            assert await self.aborted(wire)
            assert us.taken == []

    async def test_a_disk_that_is_nearly_full_takes_no_spool_file(self, tmp_path):
        async with Scp(tmp_path, {"keeps_free": 1 << 60}, spool_above=1000) as us:
            wire = await self.associated(us)
            wire.send(1, self.store(), bytes(100_000))
            _, answer, _ = await wire.message()
            assert answer[dimse.STATUS] == 0xA700

    @pytest.mark.parametrize("what", ["empty PDUs", "empty fragments", "fragments of a byte"])
    async def test_fragments_with_next_to_nothing_in_them_end_the_association(self, tmp_path, what):
        """Empty ones from a few associations took 3.7 s of the event loop."""
        pdv = struct.pack(">IBB", 2, 1, 1) if what == "empty fragments" else struct.pack(">IBB", 3, 1, 1) + b"\0"
        pdu = struct.pack(">BxI", 4, 0) if what == "empty PDUs" else struct.pack(">BxI", 4, len(pdv)) + pdv
        async with Scp(tmp_path) as us:
            wire = await self.associated(us)
            wire.writer.write(pdu * 3000)
            assert await self.aborted(wire)

    async def test_small_fragments_of_a_peer_that_means_well_are_taken(self, tmp_path):
        """PS3.8 D.1: a peer may choose a PDU as small as it likes; 116 bytes were seen."""
        data = bytes(200_000)
        async with Scp(tmp_path) as us:
            wire = await self.associated(us)
            wire.send(1, self.store())
            for at in range(0, len(data), 110):
                piece = data[at : at + 110]
                pdv = struct.pack(">IBB", len(piece) + 2, 1, 2 * (at + 110 >= len(data))) + piece
                wire.writer.write(struct.pack(">BxI", 4, len(pdv)) + pdv)
            _, answer, _ = await wire.message()
            assert answer[dimse.STATUS] == 0
