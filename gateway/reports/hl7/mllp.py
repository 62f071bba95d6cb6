"""Brings an HL7 message to its receiver by MLLP, TLS where it is configured, and judges the acknowledgement
(HL7 v2.5.1 chapter 2.9; Transport Specification: MLLP, Release 1)."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import hl7
from hl7.mllp import InvalidBlockError, open_hl7_connection

from gateway.reports.errors import ReportError

log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 1024
"""Bytes of an acknowledgement."""

MAX_ANSWERS = 16
"""Acknowledgements of other messages that are passed over."""

_ERRORS = {
    "100": "segment sequence error", "101": "required field missing", "102": "data type error",
    "103": "table value not found", "200": "unsupported message type", "201": "unsupported event code",
    "202": "unsupported processing id", "203": "unsupported version id", "204": "unknown key identifier",
    "205": "duplicate key identifier", "206": "application record locked", "207": "application internal error",
}  # fmt: skip
"""Table 0357. The words are ours, since a receiver's may quote the patient."""


class Refused(ReportError):
    """The receiver will not have the message. ``said`` is its own text, which may name the patient: not for a log."""

    def __init__(self, text: str, *, code: str, said: str) -> None:
        super().__init__(text)
        self.code = code
        self.said = said


class NoAnswer(ReportError):
    """The receiver was not reached, or did not acknowledge this message in time and form."""

    transient = True


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The receiver has taken the message (MSA-1 AA or CA)."""

    code: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 10.0
    send: float = 120.0
    answer: float = 60.0


async def _connected(host: str, port: int, tls: ssl.SSLContext | None, within: float) -> tuple[Any, Any]:
    """Reader and writer of a connection. Raises NoAnswer."""
    peer = f"HL7 receiver {host}:{port}"
    try:
        async with asyncio.timeout(within):
            reader, writer = await open_hl7_connection(host, port, limit=MAX_ANSWER, ssl=tls)
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
    """Sends *message* over a connection of its own, and waits for its acknowledgement. Raises Refused, NoAnswer.

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


async def _closed(writer: Any) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            await writer.wait_closed()
    writer.transport.abort()


async def _exchange(reader: Any, writer: Any, message: bytes, peer: str, within: Timeouts) -> Acknowledged:
    identity = message.split(b"|", 10)[9].decode()
    reading = asyncio.create_task(reader.readblock())
    others = 0
    try:
        async with asyncio.timeout(within.send):
            writer.transport.set_write_buffer_limits(0)  # drained means that the kernel has it all
            writer.writeblock(message)
            await writer.drain()
        if reading.done():
            raise NoAnswer(f"{peer} answered before it had the whole message: that answer is to something else")
        async with asyncio.timeout(within.answer):
            while others <= MAX_ANSWERS:
                block = await reading
                answered = _acknowledgement(block, peer)
                if answered.control_id == identity:
                    return _judged(answered, peer)
                others += 1
                log.info("%s: passed over an acknowledgement of another message", peer)
                reading = asyncio.create_task(reader.readblock())
        raise NoAnswer(f"{peer} acknowledges nothing but other messages (MSA-2): look at it")
    except TimeoutError:
        what = "acknowledged another message only (MSA-2)" if others else "did not acknowledge the report in time"
        raise NoAnswer(f"{peer} {what}: is it working, or is reports.hl7.answer_within too short?") from None
    except InvalidBlockError:
        raise NoAnswer(f"{peer} answers something that is not MLLP: is this its HL7 port?") from None
    except ValueError:
        raise NoAnswer(f"{peer} answers more than {MAX_ANSWER} bytes: that is no acknowledgement") from None
    except (OSError, asyncio.IncompleteReadError):
        raise NoAnswer(f"{peer} closed the connection before it acknowledged the report") from None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Answer:
    code: str
    control_id: str
    message: Any


def _acknowledgement(block: bytes, peer: str) -> _Answer:
    text = block.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r").strip()
    try:
        message = hl7.parse(text + "\r")
        msa = message.segment("MSA")
        return _Answer(str(msa(1)).strip(), str(msa(2)).strip(), message)
    except Exception as e:  # the library raises whatever a stranger's text leads it to
        raise NoAnswer(
            f"{peer} answers something that is no acknowledgement ({type(e).__name__}): is this its HL7 port?"
        ) from None


def _judged(answer: _Answer, peer: str) -> Acknowledged:
    if answer.code in ("AA", "CA"):
        return Acknowledged(answer.code)
    if answer.code not in ("AE", "AR", "CE", "CR"):
        raise NoAnswer(f"{peer} answers with a code that is none (MSA-1): look at it")
    # ERR-2 and ERR-3 since v2.5, ERR-1 for both before it: segment, its number, field, code.
    place, error, former = (_said(answer.message, "ERR", number) for number in (2, 3, 1))
    why = ""
    if code := re.match(r"(\d{3})(?:\^|$)", error) or re.match(r"\w*\^\d*\^\d*\^(\d{3})(?:&|$)", former):
        why += f", error {code[1]}: {_ERRORS.get(code[1], 'not of table 0357')}"
    if at := re.match(r"([A-Z][A-Z0-9]{2})\^\d*\^(\d{1,2})(?!\d)", place or former):
        why += f", at {at[1]}-{at[2]}"
    told = [_said(answer.message, "MSA", 3), former, place, error]
    told += [_said(answer.message, "ERR", number) for number in (5, 7, 8)]
    raise Refused(
        f"{peer} refuses the report ({answer.code}{why}): see there what it lacks, correct reports.hl7, then retry",
        code=answer.code,
        said=" ".join(text for text in told if text)[:2000],
    )


def _said(message: Any, segment: str, number: int) -> str:
    try:
        return str(message.segment(segment)(number))
    except (KeyError, IndexError):
        return ""
