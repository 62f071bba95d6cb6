"""What a gateway talks to, as servers that remember what reached them and that can be killed and come back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import secrets
from base64 import b64decode
from collections import defaultdict
from email import message_from_bytes
from pathlib import Path

from aiohttp import web

from gateway.demo.orthanc import Orthanc, find_orthanc


class MortalOrthanc(Orthanc):
    """A real PACS that dies as by ``kill -9`` and comes back with what it had."""

    def __init__(self, ae_title: str) -> None:
        super().__init__(ae_title=ae_title, settings={"DicomThreadsCount": 16})
        self._known: dict[str, int] = {}

    async def register(self, ae_title: str, port: int) -> None:
        self._known[ae_title] = port
        await super().register(ae_title, port)

    async def die(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def come_back(self) -> None:
        assert self._directory is not None
        await self._session.close()
        await self._launch(find_orthanc(), Path(self._directory.name))
        for ae_title, port in self._known.items():  # it does not keep them itself
            await self.register(ae_title, port)

    async def held(self, study: str) -> dict[str, str]:
        """SOP Instance UID → Orthanc's own name for it, of every instance of a study."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True}
        found = json.loads(await self._ok("POST", "/tools/find", json=query))
        return {i["MainDicomTags"]["SOPInstanceUID"]: i["ID"] for i in found}

    async def file(self, name: str) -> bytes:
        return await self._ok("GET", f"/instances/{name}/file")


class _Server:
    """A TCP server that can be stopped and started again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self):
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def come_back(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._talk(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError


class Hl7Receiver(_Server):
    """A RIS: takes every message and says AA. What it has is kept by what the report's document is."""

    def __init__(self) -> None:
        super().__init__()
        self.controls: dict[str, set[str]] = defaultdict(set)
        """SHA-256 of the PDF → the message control ids under which it came."""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = (await reader.readuntil(b"\x1c\r")).strip(b"\x0b\x1c\r")
            segments = [line.split("|") for line in message.decode().split("\r")]
            control = segments[0][9]
            for segment in segments:
                if segment[0] == "OBX" and segment[2] == "ED":
                    document = b64decode(segment[5].rpartition("^")[2])
                    self.controls[hashlib.sha256(document).hexdigest()].add(control)
            writer.write(f"\x0bMSH|^~\\&|RIS||||||ACK|1|P|2.5.1\rMSA|AA|{control}\r\x1c\r".encode())
            await writer.drain()


class MailServer(_Server):
    """Takes every mail, and keeps which critical reports it was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: dict[str, set[str]] = defaultdict(set)
        """Report id → the Message-IDs under which it was told of."""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            command = line[:4].upper()
            if command == b"DATA":
                writer.write(b"354 go on\r\n")
                mail = message_from_bytes(await reader.readuntil(b"\r\n.\r\n"))
                critical = re.fullmatch(r"Critical report: (\w+)", mail["Subject"])
                if critical is not None:
                    self.mails[critical[1]].add(mail["Message-ID"])
            writer.write(b"221 bye\r\n" if command == b"QUIT" else b"250 fine\r\n")
            await writer.drain()


class Avara:
    """Serves the PDFs that reports' presigned URLs point at."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        application = web.Application()
        application.router.add_get("/{name}", self._give)
        self._runner = web.AppRunner(application, access_log=None)
        self.port = 0

    async def __aenter__(self) -> Avara:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _give(self, request: web.Request) -> web.Response:
        document = self.documents.get(request.match_info["name"])
        if document is None:
            return web.Response(status=404)
        return web.Response(body=document, content_type="application/pdf")

    def url(self, document: bytes) -> str:
        """Where *document* is to be had from now on."""
        name = secrets.token_hex(8)
        self.documents[name] = document
        return f"http://127.0.0.1:{self.port}/{name}?X-Amz-Signature=0"
