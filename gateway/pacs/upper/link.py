"""One TCP connection of the DICOM upper layer, on asyncio: when it is read, how it is written, how it ends (PS3.8 §9).
What its bytes say is read in reader.py.

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
from collections.abc import Collection
from dataclasses import dataclass

from gateway.pacs import PacsUnreachable
from gateway.pacs.upper.cpu import Account
from gateway.pacs.upper.reader import Message, PduReader, Violation
from gateway.pacs.upper.wire import ABORT, ServiceProvider
from gateway.runtime import Patience, Spools

MESSAGES_AHEAD = 64
"""Messages that may wait for their reader before the connection is no longer read."""

_READ = 256 * 1024
_FIRST_READ = 16 * 1024  # before it is known that somebody is cheap to read
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended."""

    text: str
    by_them: bool = True
    """Whether it was the other side that ended it."""


class Link(asyncio.BufferedProtocol):
    """One connection. Control PDUs come out of :meth:`control`, messages out of :meth:`message`."""

    def __init__(self, spools: Spools, *, spool_above: int, account: Account | None = None):
        """*spools* and *spool_above* are as :class:`PduReader` has them. *account* is charged for what reading costs;
        without it that is not counted."""
        self._account = account
        self._resting: asyncio.TimerHandle | None = None
        self._buffer = memoryview(b"")
        self._reader = PduReader(
            spools,
            spool_above=spool_above,
            on_control=self._take_control,
            on_message=self._take_message,
            on_written=self._throttle,
        )
        self._messages: deque[Message] = deque()
        self._controls: deque[tuple[int, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._awaited = False  # whether somebody waits in message()
        self._patience = Patience(self._arrived.set)
        self._paused = False  # whether the connection is not being read
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self.closed: Closed | None = None
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
        self._patience.close()
        self._writable.set()
        self._reader.close()

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

    def establish(self, contexts: Collection[int]) -> None:
        """The association stands: messages in *contexts*, IDs of the accepted presentation contexts, are taken."""
        self._reader.contexts = frozenset(contexts)

    @property
    def established(self) -> bool:
        """Whether an association stands, or stood."""
        return self._reader.contexts is not None

    def keep_in_memory(self, size: int) -> None:
        """From the next data set on, so many bytes of it are kept in memory before it is spooled."""
        self._reader.spool_above = size

    @property
    def speaks(self) -> str:
        """What the other side speaks instead of DICOM, where that can be told."""
        return self._reader.speaks

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._reader.in_message

    @property
    def writing(self) -> bool:
        """Whether nothing is read until what came is on the disk."""
        return self._reader.writing is not None

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
        cheap = self._reader.contexts is not None and (self._account is None or self._account.sound)
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
        began = time.thread_time() if self._account is not None else 0.0
        data, reader = self._buffer[:nbytes], self._reader
        try:
            while data and self.closed is None:
                data = reader.read(data)
        except Violation as e:
            self.abort(str(e), reason=e.reason)
        if self._account is not None:
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

    def _take_control(self, pdu_type: int, content: bytes) -> None:
        if pdu_type == ABORT:
            source = "user" if content[2] == 0 else f"provider, reason {content[3]}"
            self._end(Closed(f"the other side aborted the association (by its {source})"))
            self.close()
            return
        self._controls.append((pdu_type, content))
        if len(self._controls) > 4:
            raise Violation("more control PDUs than any association has", ServiceProvider.UNEXPECTED_PDU)
        self._arrived.set()

    def _take_message(self, message: Message) -> None:
        if self.closed is not None:  # nobody is left to be answered
            message.close()
            return
        self._messages.append(message)
        self._arrived.set()

    def _throttle(self) -> None:
        """Reads the connection exactly while somebody has room for what comes."""
        # Who waits for a message takes it before more is read: it is no reason to stop, two system calls saved.
        queued = len(self._messages) - self._awaited
        pause = self._reader.writing is not None or self._resting is not None or queued >= self.messages_ahead
        if pause is self._paused:
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._paused = pause
        if pause:
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

    @property
    def has_message(self) -> bool:
        """Whether :meth:`message` need not wait."""
        return bool(self._messages) and self._resting is None

    async def control(self) -> tuple[int, bytes]:
        """The next PDU that is not P-DATA-TF: its type and content. Raises ConnectionClosed."""
        while not self._controls:
            await self._arrival()
        return self._controls.popleft()

    async def message(self, within: float | None = None) -> Message | tuple[int, bytes]:
        """The next message, or control PDU once no message waits before it. Raises ConnectionClosed, and TimeoutError
        after *within* seconds."""
        if not self.has_message and within is not None:
            self._patience.begin(within)
        try:
            while not self.has_message:
                if self._controls and self._reader.writing is None and not self._messages:
                    return self._controls.popleft()
                self._awaited = True
                try:
                    await self._arrival()
                finally:
                    self._awaited = False
                if self._patience.is_over and not self.has_message:
                    raise TimeoutError
        finally:
            self._patience.end()
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
