"""Brings an HL7 message to its receiver by MLLP, TLS where it is configured (Transport Specification: MLLP, Release 1).

Each message has a connection of its own. So whatever is answered on it is an answer to this message, and how it is
framed and spelt decides nothing (:mod:`.acknowledgement`). Where nothing is answered, the message is sent again later;
where something is that nobody can read, the receiver may have the report, and an operator decides: sending it again
and again would file it again and again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from dataclasses import dataclass

from gateway.reports.errors import ReportError
from gateway.reports.hl7.acknowledgement import NOT_COMMITTED, Acknowledged, Unclear, judged
from gateway.runtime import reason

log = logging.getLogger(__name__)

START, END = b"\x0b", b"\x1c"
"""Of a block: VT, and FS, behind which a CR belongs and is not waited for."""

MAX_ANSWER = 64 * 1024
"""Bytes of an acknowledgement."""

MAX_ANSWERS = 16
"""Acknowledgements of other messages, and empty blocks, that are passed over."""

UNENDED = 2.0
"""Seconds of silence after which an acknowledgement counts that the receiver does not end."""


class NoAnswer(ReportError):
    """The receiver was not reached, or did not answer in time."""

    transient = True
    unanswered = True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 10.0
    send: float = 120.0
    answer: float = 60.0


async def _connected(
    host: str, port: int, tls: ssl.SSLContext | None, within: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Reader and writer of a connection. Raises NoAnswer."""
    peer = f"HL7 receiver {host}:{port}"
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(host, port, limit=MAX_ANSWER, ssl=tls)
    except ssl.SSLCertVerificationError:
        raise NoAnswer(f"{peer} shows a certificate that is not trusted: put its CA into reports.hl7.ca_file") from None
    except (TimeoutError, OSError) as e:
        raise NoAnswer(
            f"{peer} cannot be reached ({reason(e)}): is it up, and are host, port and TLS as it has them?"
        ) from None
    return reader, writer


async def reach(host: str, port: int, *, tls: ssl.SSLContext | None, timeouts: Timeouts) -> None:
    """Whether a receiver takes connections; it is sent nothing. Raises NoAnswer."""
    _, writer = await _connected(host, port, tls, timeouts.connect)
    await _closed(writer)


async def send(
    message: bytes, host: str, port: int, *, tls: ssl.SSLContext | None = None, timeouts: Timeouts | None = None
) -> Acknowledged:
    """Sends *message* over a connection of its own, and waits for its acknowledgement. Raises Refused, Unclear,
    NoAnswer.

    Of its own, so that no acknowledgement of an earlier message is left on it; one that comes all the same is known by
    its MSA-2, and one that comes before the message has left answers something else.
    """
    within = timeouts or Timeouts()
    peer = f"HL7 receiver {host}:{port}"
    reader, writer = await _connected(host, port, tls, within.connect)
    try:
        acknowledged = await _exchange(reader, writer, message, peer, within)
    except BaseException:
        writer.transport.abort()
        raise
    finally:
        await _closed(writer)
    return acknowledged


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            await writer.wait_closed()
    writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, peer: str, within: Timeouts
) -> Acknowledged:
    identity = message.split(b"|", 10)[9].decode()
    answers = _Answers(reader, peer)
    reading = asyncio.create_task(answers.block())
    others = 0
    try:
        async with asyncio.timeout(within.send):
            writer.transport.set_write_buffer_limits(0)  # drained means that the kernel has it all
            writer.write(START + message + END + b"\r")
            await writer.drain()
        if reading.done() and reading.exception() is None:
            raise Unclear(f"{peer} answered before it had the whole message: that answer belongs to something else")
        async with asyncio.timeout(within.answer):
            while others <= MAX_ANSWERS:
                block = await reading
                if block == NOT_COMMITTED:
                    raise NoAnswer(f"{peer} says that it could not keep the report (NAK): its own log says more")
                if block and (acknowledged := judged(block, identity, peer)) is not None:
                    return acknowledged
                others += 1
                log.info("%s: passed over an acknowledgement of another message", peer)
                reading = asyncio.create_task(answers.block())
        raise Unclear(f"{peer} acknowledges only other messages (MSA-2): look there whether it has the report")
    except TimeoutError:
        if (rest := answers.rest()) and (acknowledged := judged(rest, identity, peer)) is not None:
            return acknowledged
        if others or rest:
            raise Unclear(answers.only_others) from None
        raise NoAnswer(
            f"{peer} did not acknowledge the report in time: is it working, or is reports.hl7.answer_within too short?"
        ) from None
    except (OSError, EOFError):
        if others:
            raise Unclear(answers.only_others) from None
        raise NoAnswer(f"{peer} closed the connection before it acknowledged the report") from None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class _Answers:
    """What comes on a connection, block by block, however it is framed."""

    def __init__(self, reader: asyncio.StreamReader, peer: str) -> None:
        self._reader = reader
        self._peer = peer
        self._came = bytearray()
        self._empty = True

    @property
    def only_others(self) -> str:
        """What is told where nothing came that is of our message."""
        if self._empty:
            return f"{self._peer} answers with something that is not an acknowledgement: is this its HL7 port?"
        return f"{self._peer} acknowledged only another message (MSA-2): look there whether it has the report"

    async def block(self) -> bytes:
        """The content of the next block; of one that the receiver does not end, what came before it closed the
        connection, or had been silent for a while behind an acknowledgement. Raises EOFError where nothing did,
        Unclear where it is too long."""
        while (end := self._came.find(END)) < 0:
            if len(self._came) > MAX_ANSWER:
                raise Unclear(f"{self._peer} answers more than {MAX_ANSWER} bytes: that is not an acknowledgement")
            silence = asyncio.timeout(UNENDED if b"MSA" in self._came.upper() else None)
            try:
                async with silence:
                    more = await self._reader.read(MAX_ANSWER)
            except TimeoutError:
                if not silence.expired():
                    raise
                more = b""
            if not more:
                if not (rest := self.rest()):
                    raise EOFError
                return rest
            self._came += more
        came, self._came = bytes(self._came[:end]), self._came[end + 1 :]
        return self._content(came)

    def rest(self) -> bytes:
        """What came and was not ended."""
        came, self._came = bytes(self._came), bytearray()
        return self._content(came)

    def _content(self, came: bytes) -> bytes:
        # What stands before the start block, such as a byte order mark or the line end behind the block before, is no
        # part of it.
        block = (came.partition(START)[2] if START in came else came).strip(_AROUND)
        self._empty = self._empty and not block
        return block


_AROUND = START + b"\r\n\t \0"
