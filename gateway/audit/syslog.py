"""Syslog to an audit repository: RFC 5424 over TLS (RFC 5425, PS3.15 A.6), TCP (RFC 6587 3.4.1) or UDP (RFC 5426, A.7).

Syslog acknowledges nothing. Over TLS and TCP what was sent counts once the receiver's kernel has it, by TCP's own
acknowledgements, and the connection stood for a while after that (:mod:`.forward`). Over UDP nobody knows.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import ssl
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from gateway.runtime import SYSTEM_CLOCK, Clock, GatewayError, reason

PRIORITY = {False: 85, True: 84}
"""Facility 10 (security), severity 5 (notice), or 4 (warning) of what failed (PS3.15 A.6)."""

MESSAGE_ID = "DICOM+RFC3881"
"""MSGID of such messages (PS3.15 A.6)."""

CONNECT_WITHIN, SEND_WITHIN = 10.0, 60.0
"""Seconds; the latter for a whole batch, until the other side has it."""

LOOKS_EVERY = 0.02
"""Seconds between two looks at what is still on its way."""

MAX_DATAGRAM = 65_507
"""Bytes of a UDP datagram over IPv4."""

IDLE = 60.0
"""Seconds after which a connection that nothing was sent on is made anew: a firewall may have forgotten it, which
shows by nothing but silence."""

Protocol = Literal["tls", "tcp", "udp"]


class NotSent(GatewayError):
    """The receiver was not reached, or did not take what was sent. The text names the mend."""

    transient = True


@dataclass(frozen=True, slots=True)
class Line:
    """What a syslog message says."""

    at: str
    """RFC 3339, with a fraction of six digits at most."""
    body: bytes
    """UTF-8."""
    failed: bool = False


def written(line: Line, host: str) -> bytes:
    """One syslog message (RFC 5424, 6)."""
    header = f"<{PRIORITY[line.failed]}>1 {line.at} {host or '-'} avara-gateway {os.getpid()} {MESSAGE_ID} - "
    return header.encode("ascii", "replace") + b"\xef\xbb\xbf" + line.body


def framed(message: bytes) -> bytes:
    """It as a frame of a stream: octet counting (RFC 5425, 4.3)."""
    return b"%d %s" % (len(message), message)


class Syslog:
    """A receiver of audit messages."""

    def __init__(
        self,
        host: str,
        port: int,
        protocol: Protocol,
        *,
        tls: ssl.SSLContext | None = None,
        name: str = "",
        our_name: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """*tls* is for protocol ``tls``; *name* is what its certificate has to have, else *host*. *our_name* is the
        HOSTNAME of what is sent."""
        self._host, self._port, self._protocol = host, port, protocol
        self._tls = tls if protocol == "tls" else None
        self._name = name or host
        self._our_name = our_name
        self._clock = clock
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    def __str__(self) -> str:
        return f"audit.syslog {self._host}:{self._port}"

    async def check(self) -> None:
        """Whether it takes connections; it is sent nothing. Over UDP, whether its name is known. Raises NotSent."""
        if self._protocol == "udp":
            await self._address()
            return
        _, writer = await self._connect()
        await _close(writer)

    async def send(self, lines: Sequence[Line]) -> None:
        """Sends them, in order. Raises NotSent: then some of them may have come, and all are to be sent again."""
        messages = [written(line, self._our_name) for line in lines]
        if self._protocol == "udp":
            await self._send_datagrams(messages)
            return
        try:
            async with asyncio.timeout(SEND_WITHIN):
                await self._send_stream(b"".join(map(framed, messages)))
        except TimeoutError:
            await self.close()
            raise NotSent(f"{self} does not take what it is sent: is it working, has its disk room?") from None
        except OSError as e:
            await self.close()
            raise NotSent(f"{self} closed the connection ({reason(e)}): does it take TLS or TCP as configured?") from e
        except BaseException:
            await self.close()
            raise

    async def ended(self) -> bool:
        """Whether the other side has ended the connection on which something was sent; it is given up then."""
        if self._streams is None or not self._streams[0].at_eof():
            return False
        await self.close()
        return True

    async def close(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            await _close(writer)

    async def _send_stream(self, data: bytes) -> None:
        now = self._clock.monotonic()
        if self._streams is not None and now - self._used > IDLE:
            await self.close()
        if self._streams is None:
            self._streams = await self._connect()
        self._used = now
        reader, writer = self._streams
        writer.write(data)
        await writer.drain()
        while _on_its_way(writer):
            if reader.at_eof():
                raise ConnectionResetError("it was closed meanwhile")
            await asyncio.sleep(LOOKS_EVERY)
        if reader.at_eof():  # it may have been closed before all of it was read
            raise ConnectionResetError("it was closed meanwhile")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls, server_hostname=self._name if self._tls else None
                )
        except ssl.SSLCertVerificationError as e:
            raise NotSent(
                f"{self} shows a certificate that is not trusted ({e.verify_message}): put its authority into "
                "audit.syslog.ca_file, or the name that it has into audit.syslog.certificate_name"
            ) from None
        except (TimeoutError, OSError) as e:
            raise NotSent(
                f"{self} cannot be reached ({reason(e)}): is it up, and are host, port and protocol as it has them?"
            ) from None
        writer.transport.set_write_buffer_limits(0)  # drained means that the kernel has it all
        return reader, writer

    async def _address(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, remote_addr=(self._host, self._port)
                )
        except (TimeoutError, OSError) as e:
            raise NotSent(f"{self} cannot be reached ({reason(e)}): is host right?") from None
        transport.close()

    async def _send_datagrams(self, messages: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        refused = _Refused()
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: refused, remote_addr=(self._host, self._port)
                )
        except (TimeoutError, OSError) as e:
            raise NotSent(f"{self} cannot be reached ({reason(e)}): is host right?") from None
        try:
            for message in messages:
                transport.sendto(message[:MAX_DATAGRAM])
                await asyncio.sleep(0)
            await asyncio.sleep(LOOKS_EVERY)  # for the word that nobody listens there, where somebody sends it
            if refused.error is not None:
                raise NotSent(f"{self} cannot be reached ({reason(refused.error)}): does it listen on UDP?")
        finally:
            transport.close()


class _Refused(asyncio.DatagramProtocol):
    error: OSError | None = None

    def error_received(self, exc: Exception) -> None:
        self.error = exc if isinstance(exc, OSError) else OSError(str(exc))


def _on_its_way(writer: asyncio.StreamWriter) -> int:
    """Bytes that were sent, and whose receipt the other side's kernel has not confirmed."""
    waiting = writer.transport.get_write_buffer_size()
    connection = writer.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        raise ConnectionResetError("it was closed")
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int(waiting + struct.unpack("i", answer)[0])


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            await writer.wait_closed()
    writer.transport.abort()
