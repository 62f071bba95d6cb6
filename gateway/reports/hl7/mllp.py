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
from gateway.reports.hl7.acknowledgement import Acknowledged, Unclear, judged

log = logging.getLogger(__name__)

START, END = b"\x0b", b"\x1c"
"""Of a block: VT, and FS, behind which a CR belongs and is not waited for."""

MAX_ANSWER = 64 * 1024
"""Bytes of an acknowledgement."""

MAX_ANSWERS = 16
"""Acknowledgements of other messages that are passed over."""


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
            f"{peer} cannot be reached ({type(e).__name__}): is it up, and are host, port and TLS as it has them?"
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
    reading = asyncio.create_task(_block(reader))
    others = 0
    try:
        async with asyncio.timeout(within.send):
            writer.transport.set_write_buffer_limits(0)  # drained means that the kernel has it all
            writer.write(START + message + END + b"\r")
            await writer.drain()
        if reading.done() and reading.exception() is None:
            raise Unclear(f"{peer} answered before it had the whole message: that answer is to something else")
        async with asyncio.timeout(within.answer):
            while others <= MAX_ANSWERS:
                acknowledged = judged(await reading, identity, peer)
                if acknowledged is not None:
                    return acknowledged
                others += 1
                log.info("%s: passed over an acknowledgement of another message", peer)
                reading = asyncio.create_task(_block(reader))
        raise Unclear(f"{peer} acknowledges nothing but other messages (MSA-2): look at it")
    except TimeoutError:
        if others:
            raise Unclear(f"{peer} acknowledged another message only (MSA-2): has it the report? Look at it") from None
        raise NoAnswer(
            f"{peer} did not acknowledge the report in time: is it working, or is reports.hl7.answer_within too short?"
        ) from None
    except asyncio.LimitOverrunError:
        raise Unclear(f"{peer} answers more than {MAX_ANSWER} bytes: that is no acknowledgement") from None
    except (OSError, EOFError):
        if others:
            raise Unclear(f"{peer} acknowledged another message only (MSA-2): has it the report? Look at it") from None
        raise NoAnswer(f"{peer} closed the connection before it acknowledged the report") from None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _block(reader: asyncio.StreamReader) -> bytes:
    """The content of the next block, however it is framed; of one that the receiver did not end before it closed the
    connection, what came. Raises EOFError where nothing did."""
    try:
        block = (await reader.readuntil(END))[:-1]
    except asyncio.IncompleteReadError as e:
        block = e.partial
        if not block.strip(_AROUND):
            raise EOFError from None
    # What stands before the start block, such as a byte order mark or the line end behind the block before, is no part.
    return block.rpartition(START)[2] if START in block else block.strip(_AROUND)


_AROUND = START + b"\r\n\t \0"
