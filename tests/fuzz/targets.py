"""What the fuzzer feeds: whatever reads bytes that come from outside. Each target returns, or a bug was found.

What a target may raise by contract it catches; any other exception, a leak or a hang is the fuzzer's find.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.filereader import read_dataset

from gateway.captures.envelope import Unacceptable
from gateway.captures.examine import check, examine
from gateway.dicom.elements import MalformedDataSet, read_elements
from gateway.dicom.encoding import encode_data_set
from gateway.dicom.mend import mend
from gateway.dicom.stretches import pieces
from gateway.dicom.structure import read_structure
from gateway.dicom.syntaxes import DEFLATED_EXPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN
from gateway.dicom.viewable import made_viewable
from gateway.pacs.errors import ProtocolViolation
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.scp.contexts import of_storage
from gateway.pacs.scp.places import Caller
from gateway.pacs.scp.server import StorageScp
from gateway.pacs.upper import dimse
from gateway.pacs.upper.negotiation import APPLICATION_CONTEXT, Context, accept, read_answer, read_request, request_pdu
from gateway.pacs.upper.spool import MemoryBody
from gateway.pacs.upper.wire import ASSOCIATE_AC, ASSOCIATE_RJ, data_pdus
from gateway.runtime.spools import Spools
from gateway.studies.header import WANTED, read_header, read_header_tolerantly

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
SYNTAXES = (EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
CONTEXTS = [Context(CT, (EXPLICIT,)), Context("1.2.840.10008.1.1", (EXPLICIT,))]


class _Wire(asyncio.Transport):
    """The kernel's side of a connection, without one."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        assert len(data) < 100_000

    def close(self) -> None:
        self.closing = True

    abort = close

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class _Alarm(logging.Handler):
    """An error that the SCP caught and logged is a find, too."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.caught: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.caught.append((record.exc_info and record.exc_info[1]) or AssertionError(record.getMessage()))


class Acceptor:
    """The whole Storage SCP: a connection on which the input comes, in reads of the lengths that it says itself."""

    def __init__(self) -> None:
        self._alarm = _Alarm()
        logging.getLogger("gateway.pacs.scp.server").addHandler(self._alarm)
        self._spool = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        self._scp = StorageScp(
            ae_title="US", host="", port=0, handler=self._take, allows=lambda ae, host: True,
            spools=Spools(Path(self._spool.name)), spool_above=600,
        )  # fmt: skip

    def close(self) -> None:
        """Gives back what it holds."""
        logging.getLogger("gateway.pacs.scp.server").removeHandler(self._alarm)
        self._loop.close()
        self._spool.cleanup()

    async def _take(self, instance: IncomingInstance) -> int:
        assert len(instance.body.read(0, instance.body.size)) == instance.body.size
        with contextlib.suppress(MalformedDataSet):
            read_header(instance)
        instance.body.close()
        return 0

    def __call__(self, data: bytes) -> None:
        self._loop.run_until_complete(asyncio.wait_for(self._serve(data), 5))
        if self._alarm.caught:
            raise self._alarm.caught.pop()

    async def _serve(self, data: bytes) -> None:
        if not data:
            return
        step, data = data[0] * 4 + 1, data[1:]
        wire = _Wire()
        link = self._scp._new_link()
        link.connection_made(wire)
        self._scp._entered(Caller(link, "", "", known=True, since=self._loop.time()))
        await asyncio.sleep(0)
        while data and not wire.closing:
            if wire.paused:
                await asyncio.sleep(0)
                continue
            piece, data = data[:step], data[step:]
            link.get_buffer(len(piece))[: len(piece)] = piece
            link.buffer_updated(len(piece))
            for _ in range(3):
                await asyncio.sleep(0)
        link.connection_lost(None)
        while self._scp._callers or link.writing:
            await asyncio.sleep(0)
        assert link._reader._spool is None
        assert not link._messages
        assert not any(Path(self._spool.name).iterdir())


def request(data: bytes) -> None:
    """An A-ASSOCIATE-RQ, and our answer to it, which has to be readable."""
    with contextlib.suppress(ProtocolViolation):
        proposal = read_request(data)
        if proposal.application_context != APPLICATION_CONTEXT:
            return  # rejected before anything is accepted
        accepted, answer = accept(proposal, data, of_storage)
        read = read_answer(answer[0], answer[6:], [])
        assert read.max_pdu >= 128
        assert set(accepted.contexts) <= set(proposal.contexts)


def answer(data: bytes) -> None:
    """An answer to our own A-ASSOCIATE-RQ."""
    for pdu_type in (ASSOCIATE_AC, ASSOCIATE_RJ):
        with contextlib.suppress(ProtocolViolation):
            read_answer(pdu_type, data, CONTEXTS)


def command(data: bytes) -> None:
    """A command set; what was read can be answered."""
    with contextlib.suppress(dimse.MalformedCommand):
        dimse.encode(dimse.response(dimse.decode(data), 0))


def elements(data: bytes) -> None:
    """The attributes of an instance, in each encoding."""
    for syntax in SYNTAXES:
        with contextlib.suppress(MalformedDataSet):
            read_elements(data, syntax, WANTED)
        with contextlib.suppress(MalformedDataSet):
            read_header(IncomingInstance(CT, "1.2", syntax, "THEM", "US", "", MemoryBody(data)))


def closer(data: bytes) -> None:
    """The closer look at a header: nothing that it meets is an error."""
    for syntax in SYNTAXES:
        read_header_tolerantly(IncomingInstance(CT, "1.2", syntax, "THEM", "US", "", MemoryBody(data)))


def viewable(data: bytes) -> None:
    """A data set turned round keeps its size."""
    with contextlib.suppress(MalformedDataSet):
        assert len(made_viewable(data, EXPLICIT_BIG_ENDIAN)) == len(data)
    with contextlib.suppress(MalformedDataSet):
        made_viewable(data, DEFLATED_EXPLICIT_LITTLE_ENDIAN)


def structure(data: bytes) -> None:
    """A data set walked to its end."""
    for syntax in SYNTAXES[:3]:
        with contextlib.suppress(MalformedDataSet):
            read_structure(memoryview(data), syntax)


def mended(data: bytes) -> None:
    """The data set of a capture, mended: what comes out has the length that was said, and nothing left to mend."""
    for syntax in (*SYNTAXES[:3], JPEG, RLE):
        with contextlib.suppress(MalformedDataSet):
            first = mend(memoryview(data), syntax)
            whole = b"".join(pieces(memoryview(data), first))
            assert len(whole) == first.length
            again = mend(memoryview(whole), syntax)
            # Of a last element whose tag is nothing but padding it can only be told that it is none.
            left = [note for note in again.notes if "behind the data set" not in note]
            assert not left, (syntax, first.notes, left)


def upload(data: bytes) -> None:
    """A file that somebody uploaded as a secondary capture."""
    with tempfile.TemporaryDirectory() as spool, contextlib.suppress(Unacceptable):
        file = (Path(spool) / "upload").open("w+b", buffering=0)
        with file:
            file.write(data)
            found = examine(file, len(data), spools=Spools(Path(spool)), max_size=10_000_000)
            with contextlib.closing(found):
                check(
                    found, study_instance_uid=found.study_instance_uid, series_instance_uid=None,
                    sop_instance_uid=None, allowed_sop_classes=[found.sop_class_uid],
                )  # fmt: skip


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "acceptor": Acceptor,
    "request": lambda: request,
    "answer": lambda: answer,
    "command": lambda: command,
    "elements": lambda: elements,
    "closer": lambda: closer,
    "viewable": lambda: viewable,
    "structure": lambda: structure,
    "mended": lambda: mended,
    "upload": lambda: upload,
}


class All:
    """Every target in turn; the first byte of the input says which."""

    def __init__(self) -> None:
        self._targets = [make() for name, make in TARGETS.items()]

    def __call__(self, data: bytes) -> None:
        if data:
            self._targets[data[0] % len(self._targets)](data[1:])


def explicit_big_endian(data_set: bytes) -> bytes:
    """A data set in explicit VR little endian, turned round."""
    return encode_data_set(read_dataset(io.BytesIO(data_set), False, True), EXPLICIT_BIG_ENDIAN)


def seeds() -> dict[str, list[bytes]]:
    """What a corpus begins with: input that is as it should be."""
    from gateway.demo.sample import sample_study, synthetic_ct

    asked = request_pdu("THEM", "US", CONTEXTS)
    answered = accept(read_request(asked[6:]), asked[6:], lambda c: c.transfer_syntaxes[0])[1]
    store = dimse.encode(
        {
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ, dimse.MESSAGE_ID: 1, dimse.PRIORITY: 0, dimse.DATA_SET_TYPE: 1,
            dimse.AFFECTED_SOP_CLASS_UID: CT, dimse.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
        }
    )  # fmt: skip
    small = next(iter(synthetic_ct("1.2.826.3", 1, 8, 8))).content
    data_set = small[144 + int.from_bytes(small[140:144], "little") :]
    stored = data_pdus(1, store, command=True, last=True, max_pdu=200)
    stored += data_pdus(1, data_set, command=False, last=True, max_pdu=200)
    released = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
    stream = asked + b"".join(stored) * 2 + released
    sample = sorted((i.content for i in sample_study()[1]), key=len)
    shortest = [c[144 + int.from_bytes(c[140:144], "little") :] for c in sample[:2]]
    return {
        "acceptor": [bytes((255,)) + stream, bytes((3,)) + stream],
        "request": [asked[6:]],
        "answer": [answered[6:]],
        "command": [store],
        "elements": [data_set],
        "closer": [data_set],
        "viewable": [explicit_big_endian(data_set)],
        "structure": [data_set, *shortest],
        "mended": [data_set, *shortest],
        "upload": [small, *sample[:2]],
    }
