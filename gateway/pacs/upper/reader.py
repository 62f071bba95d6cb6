"""Control PDUs and DIMSE messages, read out of the bytes of one connection (PS3.8 §9.3, PS3.7 §6.3).

A P-DATA-TF PDU is never held whole: its fragments flow into the message that they belong to as the bytes come, so a
PDU's size costs no memory and an unlimited-PDU peer is as welcome as any. Every other PDU is small, collected whole
and bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.pacs.upper import dimse
from gateway.pacs.upper.spool import DataSetTooLarge, FileBody, MemoryBody, Spool
from gateway.pacs.upper.wire import (
    ABORT,
    ASSOCIATE_RQ,
    MAX_PDU,
    P_DATA_TF,
    PDU_HEADER,
    PDV_HEADER,
    RELEASE_RQ,
    ServiceProvider,
)
from gateway.runtime import Spools

HEADERS = 64
"""Bytes that a P-DATA-TF PDU may have beyond :data:`MAX_PDU`: some count what is in it without its headers."""

MAX_CONTROL_PDU = 512 * 1024
"""Bytes; an A-ASSOCIATE-RQ of 128 contexts with every transfer syntax is half of this."""

MAX_COMMAND = 16 * 1024
"""Bytes of one command set; C-MOVE responses with an Error Comment are a few hundred."""

MAX_DATA_SET = 1024 * 1024
"""Bytes of a data set that is no instance: identifiers, reports of storage commitment."""

FRAGMENTS_ALLOWED = 1000
"""Fragments of any size that an association may begin with; from then on they must have a size on average."""

LEAST_FRAGMENT = 32
"""Bytes, on average. Smaller ones are work for us and none for the sender: a megabyte of empty ones takes a second."""

_SPEAKS = {0x48: "HTTP", 0x3C: "HTTP", 0x15: "TLS", 0x16: "TLS"}
"""First bytes that no PDU has: of ``HTTP/1.1``, of ``<html>``, of an alert and of a handshake (RFC 8446 §5.1)."""


@dataclass(slots=True)
class Message:
    """One DIMSE message: its command, and its data set where it has one."""

    context_id: int
    command: dict[int, int | str]
    body: MemoryBody | FileBody | None = None
    failure: OSError | None = None
    """Why the data set could not be spooled; the message is whole otherwise, and can be answered."""

    def close(self) -> None:
        """Gives back what the data set holds."""
        if self.body is not None:
            self.body.close()


class Violation(Exception):
    """What came is not what PS3.8 allows: the association is to be aborted with this reason."""

    def __init__(self, text: str, reason: int) -> None:
        super().__init__(text)
        self.reason = reason


class PduReader:
    """Reads one connection. What is whole goes to those who are named here: *on_control* takes a PDU that is not
    P-DATA-TF, its type and content; *on_message* a message, which it closes."""

    def __init__(
        self,
        spools: Spools,
        *,
        spool_above: int,
        on_control: Callable[[int, bytes], None],
        on_message: Callable[[Message], None],
        on_written: Callable[[], None],
    ) -> None:
        """An instance that is larger than *spools* takes is read to its end, kept nowhere, and refused. *on_written*
        is told when what was being written is on the disk."""
        self._spools = spools
        self._on_control = on_control
        self._on_message = on_message
        self._on_written = on_written
        self.spool_above = spool_above
        """Bytes of a data set that are held in memory; holds for the next one."""
        self.read: Callable[[memoryview], memoryview] = self._pdu_header
        """Reads some of what came, and returns the rest: to be called until none is left. Raises Violation."""
        self.contexts: frozenset[int] | None = None
        """IDs of the accepted presentation contexts; None while P-DATA-TF is not allowed, before the association."""
        self.speaks = ""
        """What the other side speaks instead of DICOM, where that can be told."""
        self.writing: asyncio.Task[None] | None = None
        """Writes to the disk what came; until it ends nothing is to be read."""
        self._pending = bytearray()  # a header, or a control PDU, that is not whole yet
        self._needed = PDU_HEADER.size
        self._pdu_type = 0
        self._pdu_left = 0  # bytes of the present P-DATA-TF that were not read yet
        self._pdv_left = 0
        self._pdv_context = 0
        self._pdv_flags = 0
        self._command = bytearray()
        self._fragments = 0
        self._fragment_bytes = 0
        self._data_left = 0  # bytes that the present data set may still have
        self._message: Message | None = None
        self._spool: Spool | None = None
        self._context: int | None = None  # the one that the present message came in

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._context is not None or bool(self._pending)

    def close(self) -> None:
        """Gives back what an unfinished message holds."""
        spool, self._spool = self._spool, None
        if spool is not None and self.writing is not None:
            self.writing.add_done_callback(lambda _: spool.close())
        elif spool is not None:
            spool.close()

    def _collect(self, data: memoryview) -> memoryview:
        """Moves what is needed from *data* to what is pending; returns the rest."""
        take = self._needed - len(self._pending)
        self._pending += data[:take]
        return data[take:]

    def _pdu_header(self, data: memoryview) -> memoryview:
        if not self._pending and len(data) >= 6:
            pdu_type, length = PDU_HEADER.unpack_from(data)
            data = data[6:]
        else:
            data = self._collect(data)
            if len(self._pending) < 6:
                return data
            pdu_type, length = PDU_HEADER.unpack(self._pending)
            self._pending.clear()
        if pdu_type == P_DATA_TF:
            if self.contexts is None:
                raise Violation("P-DATA-TF before the association stands", ServiceProvider.UNEXPECTED_PDU)
            if length > MAX_PDU + HEADERS:
                raise Violation(f"P-DATA-TF of {length} bytes, more than announced", ServiceProvider.INVALID_PARAMETER)
            self._pdu_left = length
            self._needed = 6
            if not length:
                self._count_fragment(0)
            if length:
                self.read = self._pdv_header
            return data
        if not ASSOCIATE_RQ <= pdu_type <= ABORT:
            self.speaks = _SPEAKS.get(pdu_type, "")
            raise Violation(f"PDU of unknown type {pdu_type:#04x}", ServiceProvider.UNRECOGNIZED_PDU)
        if length > MAX_CONTROL_PDU or (pdu_type >= RELEASE_RQ and length != 4):
            raise Violation(f"PDU of type {pdu_type:#04x} of {length} bytes", ServiceProvider.INVALID_PARAMETER)
        self._pdu_type, self._needed = pdu_type, length
        self.read = self._control_pdu
        return data

    def _control_pdu(self, data: memoryview) -> memoryview:
        data = self._collect(data)
        if len(self._pending) == self._needed:
            content = bytes(self._pending)
            self._pending.clear()
            self._needed, self.read = 6, self._pdu_header
            self._on_control(self._pdu_type, content)
        return data

    def _pdv_header(self, data: memoryview) -> memoryview:
        if not self._pending and len(data) >= 6:
            length, context_id, flags = PDV_HEADER.unpack_from(data)
            data = data[6:]
        else:
            data = self._collect(data)
            if len(self._pending) < 6:
                return data
            length, context_id, flags = PDV_HEADER.unpack(self._pending)
            self._pending.clear()
        if length < 2 or length + 4 > self._pdu_left:
            raise Violation("presentation data value longer than its PDU", ServiceProvider.INVALID_PARAMETER)
        assert self.contexts is not None
        if context_id not in self.contexts:
            raise Violation(f"presentation context {context_id} was not accepted", ServiceProvider.INVALID_PARAMETER)
        if self._context is not None and context_id != self._context:
            raise Violation("one message in two presentation contexts", ServiceProvider.INVALID_PARAMETER)
        if (flags & 1) != (self._message is None):
            raise Violation(
                "data set fragment without a command"
                if self._message is None
                else "command fragment within a data set",
                ServiceProvider.UNEXPECTED_PDU,
            )
        self._count_fragment(length)
        self._pdu_left -= length + 4
        self._pdv_left, self._pdv_context, self._pdv_flags = length - 2, context_id, flags
        self._context = context_id
        if self._pdv_left:
            self.read = self._pdv_data
        else:
            self._pdv_done()
        return data

    def _pdv_data(self, data: memoryview) -> memoryview:
        fragment = data[: self._pdv_left]
        self._pdv_left -= len(fragment)
        if self._pdv_flags & 1:
            if len(self._command) + len(fragment) > MAX_COMMAND:
                raise Violation("command set too long", ServiceProvider.INVALID_PARAMETER)
            self._command += fragment
        else:
            self._take_data(fragment)
        if not self._pdv_left:
            self._pdv_done()
        return data[len(fragment) :]

    def _count_fragment(self, length: int) -> None:
        self._fragments += 1
        self._fragment_bytes += length
        if self._fragments > FRAGMENTS_ALLOWED and self._fragment_bytes < self._fragments * LEAST_FRAGMENT:
            raise Violation("fragments with next to nothing in them", ServiceProvider.INVALID_PARAMETER)

    def _take_data(self, fragment: memoryview) -> None:
        assert self._spool is not None
        assert self._message is not None
        self._data_left -= len(fragment)
        if self._data_left >= 0:
            if self._spool.add(fragment):
                self._flush()
            return
        if dimse.number(self._message.command, dimse.COMMAND_FIELD) != dimse.C_STORE_RQ:
            raise Violation(f"a data set of more than {MAX_DATA_SET} bytes", ServiceProvider.INVALID_PARAMETER)
        if self._data_left < -self._spools.largest:
            raise Violation("an instance without an end", ServiceProvider.INVALID_PARAMETER)
        self._spool.refuse(DataSetTooLarge(self._spools.largest))

    def _pdv_done(self) -> None:
        self.read = self._pdv_header if self._pdu_left else self._pdu_header
        if not self._pdv_flags & 2:
            return
        if self._pdv_flags & 1:
            try:
                command = dimse.decode(self._command)
            except dimse.MalformedCommand as e:
                raise Violation(str(e), ServiceProvider.INVALID_PARAMETER) from e
            self._command.clear()
            field = dimse.number(command, dimse.COMMAND_FIELD)
            if field in dimse.WITHOUT_DATA_SET or dimse.has_no_data_set(command):
                self._context = None
                self._on_message(Message(self._pdv_context, command))
            else:
                self._data_left = self._spools.largest if field == dimse.C_STORE_RQ else MAX_DATA_SET
                self._message = Message(self._pdv_context, command)
                self._spool = Spool(self._spools, spool_above=self.spool_above)
            return
        message, spool = self._message, self._spool
        assert message is not None
        assert spool is not None
        self._message = self._spool = None
        if spool.in_file or self.writing is not None:
            self._flush(spool, message)
        else:
            message.body = spool.body()
            self._context = None
            self._on_message(message)

    # A large data set goes to its file in blocks, each written while the connection is not read. What came
    # in the same read as the end of a block is still parsed, and bounded by the size of one read.

    def _flush(self, spool: Spool | None = None, ends: Message | None = None) -> None:
        before = self.writing
        target = spool or self._spool
        assert target is not None
        self.writing = asyncio.get_running_loop().create_task(self._write_out(target, ends, before))

    async def _write_out(self, spool: Spool, ends: Message | None, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await spool.flush()
        if ends is not None:
            try:
                ends.body = spool.body()
            except OSError as e:
                ends.failure = e
            self._context = None
            self._on_message(ends)
        if self.writing is asyncio.current_task():
            self.writing = None
        self._on_written()
