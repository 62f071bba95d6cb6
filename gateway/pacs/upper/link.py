"""The DICOM upper layer's wire: PDUs in and out of one TCP connection, on asyncio (PS3.8 §9.3).

A P-DATA-TF PDU is never held whole: its fragments flow into the message that they belong to as the
bytes come, so a PDU's size costs no memory and an unlimited-PDU peer is as welcome as any. Every other
PDU is small, collected whole and bounded.

TCP_NODELAY and TCP_QUICKACK are set on every connection. Stock PACS send a C-STORE as several small
writes with Nagle's algorithm on, and the kernel's delayed ACK then stalls each instance by 40 ms or
more; acknowledging at once is worth a factor of 4 to 18 (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass

from gateway.pacs import PacsUnreachable
from gateway.pacs.upper import dimse
from gateway.pacs.upper.cpu import Account
from gateway.pacs.upper.spool import DataSetTooLarge, FileBody, MemoryBody, Spool
from gateway.runtime import Spools

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

MAX_PDU = 256 * 1024
"""Bytes; the Maximum Length that we announce (PS3.8 D.1)."""

HEADERS = 64
"""Bytes that a P-DATA-TF PDU may have beyond that: some count what is in it without the headers before that."""

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

MESSAGES_AHEAD = 64
"""Messages that may wait for their reader before the connection is no longer read."""

_SPEAKS = {0x48: "HTTP", 0x3C: "HTTP", 0x15: "TLS", 0x16: "TLS"}
"""First bytes that no PDU has: of ``HTTP/1.1``, of ``<html>``, of an alert and of a handshake (RFC 8446 §5.1)."""

_READ = 256 * 1024
_FIRST_READ = 16 * 1024  # before it is known that somebody is cheap to read
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only

_PDU_HEADER = struct.Struct(">BxI")
_PDV_HEADER = struct.Struct(">IBB")


class ServiceProvider:
    """Reasons of an A-ABORT by the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


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


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended."""

    text: str
    by_them: bool = True
    """Whether it was the other side that ended it."""


class Link(asyncio.BufferedProtocol):
    """One connection. Control PDUs come out of :meth:`control`, messages out of :meth:`message`."""

    def __init__(self, spools: Spools, *, spool_above: int, account: Account | None = None):
        """An instance that is larger than *spools* takes is read to its end, kept nowhere, and refused. *account* is
        charged for what reading costs; without it that is not counted."""
        self._spools = spools
        self._account = account
        self._resting: asyncio.TimerHandle | None = None
        self.spool_above = spool_above
        """Bytes of a data set that are held in memory; holds for the next one."""
        self._buffer = memoryview(b"")
        self._pending = bytearray()  # a header, or a control PDU, that is not whole yet
        self._needed = _PDU_HEADER.size
        self._pdu_type = 0
        self._pdu_left = 0  # bytes of the present P-DATA-TF that were not read yet
        self._pdv_left = 0
        self._pdv_context = 0
        self._pdv_flags = 0
        self._state = self._pdu_header
        self._command = bytearray()
        self._fragments = 0
        self._fragment_bytes = 0
        self._data_left = 0  # bytes that the present data set may still have
        self._message: Message | None = None
        self._spool: Spool | None = None
        self._context: int | None = None  # the one that the present message came in
        self._flushing: asyncio.Task[None] | None = None
        self._messages: deque[Message] = deque()
        self._controls: deque[tuple[int, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._awaited = False  # whether somebody waits in message()
        self._held = False  # whether the connection is not being read
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self.established = False
        """Whether P-DATA-TF is allowed: set by the association once it is accepted."""
        self.contexts: frozenset[int] = frozenset()
        """IDs of the accepted presentation contexts."""
        self.closed: Closed | None = None
        self.speaks = ""
        """What the other side speaks instead of DICOM, where that can be told."""
        self.last_received = 0.0
        """Event-loop seconds at which bytes last came."""

    # -- connection (asyncio.BufferedProtocol)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self.last_received = asyncio.get_running_loop().time()
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._acknowledge_at_once()

    def _acknowledge_at_once(self) -> None:
        if _QUICKACK is not None and self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        self._end(Closed("the connection was lost" if exc else "the other side closed the connection"))
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._account is not None:
            self._account.close()
        self._writable.set()
        spool, self._spool = self._spool, None
        if spool is not None and self._flushing is not None:
            self._flushing.add_done_callback(lambda _: spool.close())
        elif spool is not None:
            spool.close()

    def eof_received(self) -> bool:
        """The other side sends no more: the connection is done."""
        return False

    def pause_writing(self) -> None:
        """The other side does not read as fast as we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def _end(self, how: Closed) -> None:
        if self.closed is None:
            self.closed = how
        self._arrived.set()

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._context is not None or bool(self._pending)

    @property
    def writing(self) -> bool:
        """Whether nothing is read until what came is on the disk."""
        return self._flushing is not None

    @property
    def peer_host(self) -> str:
        """The other side's address."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return str(name[0]) if name else ""

    @property
    def our_address(self) -> str:
        """Which of this machine's addresses the other side connected to."""
        name = self._transport.get_extra_info("sockname") if self._transport else None
        return str(name[0]) if name else ""

    @property
    def peer_certificate(self) -> dict[str, object] | None:
        """What the other side's certificate says; None without TLS."""
        return self._transport.get_extra_info("peercert") if self._transport else None

    # -- receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        cheap = self.established and (self._account is None or self._account.sound)
        wanted = _READ if cheap else _FIRST_READ
        if len(self._buffer) != wanted:
            # A view: asyncio's TLS reads into slices of it, and a slice of a bytearray would be a copy.
            self._buffer = memoryview(bytearray(wanted))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self._acknowledge_at_once()  # the kernel clears it at every read
        self.last_received = asyncio.get_running_loop().time()
        # This thread's CPU, dear as the call is: the clock on the wall has others' turns in it.
        began = time.thread_time()
        data = self._buffer[:nbytes]
        try:
            while data and self.closed is None:
                data = self._state(data)
        except _Violation as e:
            self.abort(str(e), reason=e.reason)
        self.spend(time.thread_time() - began, nbytes)
        self._throttle()

    def spend(self, seconds: float, received: int = 0) -> None:
        """Charges CPU that was spent for this connection; where it has spent too much, it is left alone for a while."""
        if self._account is None or self.closed is not None:
            return
        pause = self._account.spend(seconds, received)
        if pause:
            if self._resting is not None:
                self._resting.cancel()
            self._resting = asyncio.get_running_loop().call_later(pause, self._rested)
            self._throttle()

    def earn(self, seconds: float) -> None:
        """Credits CPU that what came was worth."""
        if self._account is not None:
            self._account.earn(seconds)

    def _rested(self) -> None:
        self._resting = None
        self._arrived.set()
        self._throttle()

    def _collect(self, data: memoryview) -> memoryview:
        """Moves what is needed from *data* to what is pending; returns the rest."""
        take = self._needed - len(self._pending)
        self._pending += data[:take]
        return data[take:]

    def _pdu_header(self, data: memoryview) -> memoryview:
        if not self._pending and len(data) >= 6:
            pdu_type, length = _PDU_HEADER.unpack_from(data)
            data = data[6:]
        else:
            data = self._collect(data)
            if len(self._pending) < 6:
                return data
            pdu_type, length = _PDU_HEADER.unpack(self._pending)
            self._pending.clear()
        if pdu_type == P_DATA_TF:
            if not self.established:
                raise _Violation("P-DATA-TF before the association stands", ServiceProvider.UNEXPECTED_PDU)
            if length > MAX_PDU + HEADERS:
                raise _Violation(f"P-DATA-TF of {length} bytes, more than announced", ServiceProvider.INVALID_PARAMETER)
            self._pdu_left = length
            self._needed = 6
            if not length:
                self._count_fragment(0)
            if length:
                self._state = self._pdv_header
            return data
        if not ASSOCIATE_RQ <= pdu_type <= ABORT:
            self.speaks = _SPEAKS.get(pdu_type, "")
            raise _Violation(f"PDU of unknown type {pdu_type:#04x}", ServiceProvider.UNRECOGNIZED_PDU)
        if length > MAX_CONTROL_PDU or (pdu_type >= RELEASE_RQ and length != 4):
            raise _Violation(f"PDU of type {pdu_type:#04x} of {length} bytes", ServiceProvider.INVALID_PARAMETER)
        self._pdu_type, self._needed = pdu_type, length
        self._state = self._control_pdu
        return data

    def _control_pdu(self, data: memoryview) -> memoryview:
        data = self._collect(data)
        if len(self._pending) == self._needed:
            content = bytes(self._pending)
            self._pending.clear()
            self._needed, self._state = 6, self._pdu_header
            self._take_control(content)
        return data

    def _take_control(self, content: bytes) -> None:
        if self._pdu_type == ABORT:
            source = "user" if content[2] == 0 else f"provider, reason {content[3]}"
            self._end(Closed(f"the other side aborted the association (by its {source})"))
            self.close()
            return
        self._controls.append((self._pdu_type, content))
        if len(self._controls) > 4:
            raise _Violation("more control PDUs than any association has", ServiceProvider.UNEXPECTED_PDU)
        self._arrived.set()

    def _pdv_header(self, data: memoryview) -> memoryview:
        if not self._pending and len(data) >= 6:
            length, context_id, flags = _PDV_HEADER.unpack_from(data)
            data = data[6:]
        else:
            data = self._collect(data)
            if len(self._pending) < 6:
                return data
            length, context_id, flags = _PDV_HEADER.unpack(self._pending)
            self._pending.clear()
        if length < 2 or length + 4 > self._pdu_left:
            raise _Violation("presentation data value longer than its PDU", ServiceProvider.INVALID_PARAMETER)
        if context_id not in self.contexts:
            raise _Violation(f"presentation context {context_id} was not accepted", ServiceProvider.INVALID_PARAMETER)
        if self._context is not None and context_id != self._context:
            raise _Violation("one message in two presentation contexts", ServiceProvider.INVALID_PARAMETER)
        if (flags & 1) != (self._message is None):
            raise _Violation(
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
            self._state = self._pdv_data
        else:
            self._pdv_done()
        return data

    def _pdv_data(self, data: memoryview) -> memoryview:
        fragment = data[: self._pdv_left]
        self._pdv_left -= len(fragment)
        if self._pdv_flags & 1:
            if len(self._command) + len(fragment) > MAX_COMMAND:
                raise _Violation("command set too long", ServiceProvider.INVALID_PARAMETER)
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
            raise _Violation("fragments with next to nothing in them", ServiceProvider.INVALID_PARAMETER)

    def _take_data(self, fragment: memoryview) -> None:
        assert self._spool is not None
        assert self._message is not None
        self._data_left -= len(fragment)
        if self._data_left >= 0:
            if self._spool.add(fragment):
                self._flush()
            return
        if dimse.number(self._message.command, dimse.COMMAND_FIELD) != dimse.C_STORE_RQ:
            raise _Violation(f"a data set of more than {MAX_DATA_SET} bytes", ServiceProvider.INVALID_PARAMETER)
        if self._data_left < -self._spools.largest:
            raise _Violation("an instance without an end", ServiceProvider.INVALID_PARAMETER)
        self._spool.refuse(DataSetTooLarge(self._spools.largest))

    def _pdv_done(self) -> None:
        self._state = self._pdv_header if self._pdu_left else self._pdu_header
        if not self._pdv_flags & 2:
            return
        if self._pdv_flags & 1:
            try:
                command = dimse.decode(self._command)
            except dimse.MalformedCommand as e:
                raise _Violation(str(e), ServiceProvider.INVALID_PARAMETER) from e
            self._command.clear()
            field = dimse.number(command, dimse.COMMAND_FIELD)
            if field in dimse.WITHOUT_DATA_SET or dimse.has_no_data_set(command):
                self._deliver(Message(self._pdv_context, command))
            else:
                self._data_left = self._spools.largest if field == dimse.C_STORE_RQ else MAX_DATA_SET
                self._message = Message(self._pdv_context, command)
                self._spool = Spool(self._spools, spool_above=self.spool_above)
            return
        message, spool = self._message, self._spool
        assert message is not None
        assert spool is not None
        self._message = self._spool = None
        if spool.in_file or self._flushing is not None:
            self._flush(spool, message)
        else:
            message.body = spool.body()
            self._deliver(message)

    def _deliver(self, message: Message) -> None:
        self._context = None
        if self.closed is not None:  # nobody is left to be answered
            message.close()
            return
        self._messages.append(message)
        self._arrived.set()

    # A large data set goes to its file in blocks, each written while the connection is not read. What came
    # in the same read as the end of a block is still parsed, and bounded by the size of one read.

    def _flush(self, spool: Spool | None = None, ends: Message | None = None) -> None:
        before = self._flushing
        target = spool or self._spool
        assert target is not None
        self._flushing = asyncio.get_running_loop().create_task(self._write_out(target, ends, before))

    async def _write_out(self, spool: Spool, ends: Message | None, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await spool.flush()
        if ends is not None:
            try:
                ends.body = spool.body()
            except OSError as e:
                ends.failure = e
            self._deliver(ends)
        if self._flushing is asyncio.current_task():
            self._flushing = None
        self._throttle()

    def _throttle(self) -> None:
        """Reads the connection exactly while somebody has room for what comes."""
        # Who waits for a message takes it before more is read: it is no reason to stop, two system calls saved.
        queued = len(self._messages) - self._awaited
        hold = self._flushing is not None or self._resting is not None or queued >= self.messages_ahead
        if hold is self._held:
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._held = hold
        if hold:
            transport.pause_reading()
        else:
            transport.resume_reading()

    messages_ahead = MESSAGES_AHEAD
    """As :data:`MESSAGES_AHEAD`; an SCP, whose peer has to wait for its answer, needs only one."""

    async def _arrival(self) -> None:
        if self.closed is not None:
            raise ConnectionClosed(self.closed)
        self._arrived.clear()
        await self._arrived.wait()

    @property
    def quiet(self) -> bool:
        """Whether the connection stands, and nothing has come that nobody has taken."""
        return self.closed is None and not self._messages and not self._controls

    async def control(self) -> tuple[int, bytes]:
        """The next PDU that is not P-DATA-TF: its type and content. Raises ConnectionClosed."""
        while not self._controls:
            await self._arrival()
        return self._controls.popleft()

    async def message(self) -> Message | tuple[int, bytes]:
        """The next message, or control PDU once no message waits before it. Raises ConnectionClosed."""
        while not self._messages or self._resting is not None:
            if self._controls and self._flushing is None and not self._messages:
                return self._controls.popleft()
            self._awaited = True
            try:
                await self._arrival()
            finally:
                self._awaited = False
        message = self._messages.popleft()
        self._throttle()
        return message

    # -- sending

    async def send(self, pdus: bytes | list[bytes | memoryview]) -> None:
        """Writes, and waits while the other side does not read. Raises ConnectionClosed."""
        if self.closed is not None or self._transport is None:
            raise ConnectionClosed(self.closed or Closed("there is no connection"))
        if isinstance(pdus, bytes):
            self._transport.write(pdus)
        else:
            self._transport.writelines(pdus)
        if not self._writable.is_set():
            await self._writable.wait()
            if self.closed is not None:
                raise ConnectionClosed(self.closed)

    def abort(self, text: str, *, reason: int | None = None) -> None:
        """Sends A-ABORT, by the provider where a *reason* is given (PS3.8 §9.3.8), and closes."""
        if self._transport is not None and not self._transport.is_closing():
            source = 0 if reason is None else 2
            self._transport.write(struct.pack(">BxIxxBB", ABORT, 4, source, reason or 0))
        self._end(Closed(f"association aborted: {text}", by_them=False))
        self.close()

    def close(self, *, linger: float = 1.0) -> None:
        """Closes once what was written has left, or after *linger* seconds without that."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.close()
            asyncio.get_running_loop().call_later(linger, transport.abort)
        for message in self._messages:
            message.close()
        self._messages.clear()


class ConnectionClosed(PacsUnreachable):
    """The connection ended: nothing more comes, nothing can be sent."""

    def __init__(self, how: Closed) -> None:
        super().__init__(how.text)
        self.how = how


class _Violation(Exception):
    """What came is not what PS3.8 allows: the association is aborted with this reason."""

    def __init__(self, text: str, reason: int) -> None:
        super().__init__(text)
        self.reason = reason


def data_pdus(
    context_id: int, payload: bytes | memoryview, *, command: bool, last: bool, max_pdu: int
) -> list[bytes | memoryview]:
    """P-DATA-TF PDUs that carry *payload*, one presentation data value each (PS3.8 §9.3.5).

    *max_pdu* is the other side's Maximum Length; *last* says whether the message's command or data set
    ends with this payload.
    """
    view = memoryview(payload)
    room = max_pdu - 6
    pdus: list[bytes | memoryview] = []
    for at in range(0, len(view), room) or (0,):
        fragment = view[at : at + room]
        flags = (1 if command else 0) | (2 if last and at + room >= len(view) else 0)
        header = _PDU_HEADER.pack(P_DATA_TF, len(fragment) + 6) + _PDV_HEADER.pack(len(fragment) + 2, context_id, flags)
        pdus += (header, fragment)
    return pdus
