"""An audit repository: takes syslog as RFC 5425 frames it, and reads each message as RFC 5424 has it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

HEADER = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<at>\S+) (?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<proc>[!-~]{1,128}) "
    rb"(?P<msgid>[!-~]{1,32}) (?P<data>-|\[.*?\])(?: (?P<msg>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Received:
    pri: int
    at: str
    host: str
    app: str
    msgid: str
    body: bytes


def parsed(message: bytes) -> Received:
    found = HEADER.fullmatch(message)
    assert found is not None, message[:200]
    body = found["msg"] or b""
    assert body.startswith(b"\xef\xbb\xbf")  # MSG-UTF8 begins with a BOM
    return Received(
        int(found["pri"]), found["at"].decode(), found["host"].decode(), found["app"].decode(),
        found["msgid"].decode(), body[3:],
    )  # fmt: skip


class Receiver:
    """Listens on loopback; what came is in :attr:`got`."""

    def __init__(self, tls=None):
        self._tls = tls
        self.got: list[Received] = []
        self.connections = 0
        self.port = 0
        self.end_after = None
        """Ends a connection once so many messages came in all."""
        self._open = set()
        self._server = None

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._open.add(writer)
        try:
            while True:
                length = await reader.readuntil(b" ")
                assert re.fullmatch(rb"[1-9]\d* ", length), length  # MSG-LEN has no leading zero
                self.got.append(parsed(await reader.readexactly(int(length))))
                if self.end_after is not None and len(self.got) >= self.end_after:
                    self.end_after = None
                    writer.transport.abort()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._open.discard(writer)
            writer.close()
