"""A PACS that sends bytes as they are: data sets that no library would write, under UIDs that no library would take.

Its DICOM and its DICOMweb side are written out by hand, so that what it says can be as odd as what the field says.
Its database (:class:`Held`) is not read out of the files: the two may differ, as they do where one was corrected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from gateway.dicom.elements import read_elements, string
from gateway.pacs.upper import dimse

EXPLICIT = "1.2.840.10008.1.2.1"
LEVEL, STUDY, SERIES, SOP, SOP_CLASS, COUNT = 0x00080052, 0x0020000D, 0x0020000E, 0x00080018, 0x00080016, 0x00201208


@dataclass
class Held:
    """An instance as the PACS has it in its database, and the data set that it sends for it."""

    study: str
    series: str
    uid: str
    data: bytes
    sop_class: str = "1.2.840.10008.5.1.4.1.1.2"
    syntax: str = EXPLICIT
    affected: str | None = None
    """Affected SOP Instance UID of the C-STORE; ``uid`` where it is None."""
    part10: bytes | None = None
    """What WADO-RS sends; preamble, file meta information and ``data`` where it is None."""


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def associate(
    pdu_type: int, called: bytes, calling: bytes, contexts: Iterable[bytes], *user_items: bytes, length: int = 65536
) -> bytes:
    """An A-ASSOCIATE-RQ or -AC; *contexts* are its presentation context items (PS3.8 §9.3.2, §9.3.3)."""
    user = item(0x51, struct.pack(">I", length)) + (b"".join(user_items) or item(0x52, b"1.2.826.0.1.3680043.8.498"))
    content = struct.pack(">Hxx", 1) + called.ljust(16) + calling.ljust(16) + bytes(32)
    content += item(0x10, b"1.2.840.10008.3.1.1.1") + b"".join(contexts) + item(0x50, user)
    return struct.pack(">BxI", pdu_type, len(content)) + content


def proposed(context_id: int, abstract: str, syntaxes: Iterable[str]) -> bytes:
    content = bytes((context_id, 0, 0, 0)) + item(0x30, abstract.encode())
    return item(0x20, content + b"".join(item(0x40, s.encode()) for s in syntaxes))


def parse_contexts(content: bytes) -> tuple[dict[int, tuple[int, str, list[str]]], list[bytes]]:
    """ID → (result, abstract syntax, transfer syntaxes), and the role selections."""
    contexts, roles = {}, []
    for kind, value in items(content[68:]):
        if kind in (0x20, 0x21):
            inner = items(value[4:])
            abstract = "".join(v.decode() for k, v in inner if k == 0x30)
            contexts[value[0]] = (value[2], abstract, [v.decode() for k, v in inner if k == 0x40])
        if kind == 0x50:
            roles += [v for k, v in items(value) if k == 0x54]
    return contexts, roles


def items(content: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 4 <= len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        found.append((kind, content[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def identifier(values: dict[int, str]) -> bytes:
    """A data set in explicit VR little endian, of UI elements save for the level and the count."""
    out = b""
    for tag, value in sorted(values.items()):
        vr = {LEVEL: b"CS", COUNT: b"IS"}.get(tag, b"UI")
        raw = value.encode() + (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        out += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(raw)) + raw
    return out


class Wire:
    """One association, from either side, once its PDUs are P-DATA-TF."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def pdu(self) -> tuple[int, bytes]:
        header = await self.reader.readexactly(6)
        pdu_type, length = struct.unpack(">BxI", header)
        return pdu_type, await self.reader.readexactly(length)

    def send(self, context_id: int, command: dict[int, int | str] | bytes, data: bytes | None = None) -> None:
        raw = command if isinstance(command, bytes) else dimse.encode(command)
        for flags, payload in ((3, raw), (2, data)):
            if payload is None:
                continue
            pieces = [payload[i : i + 30_000] for i in range(0, len(payload), 30_000)] or [b""]
            for n, piece in enumerate(pieces):
                last = flags if n == len(pieces) - 1 else flags & 1
                pdv = struct.pack(">IBB", len(piece) + 2, context_id, last) + piece
                self.writer.write(struct.pack(">BxI", 4, len(pdv)) + pdv)

    async def message(self) -> tuple[int, dict[int, int | str], bytes] | None:
        """The next message; None at a release, which is answered."""
        command, data, announced = b"", b"", None
        while True:
            pdu_type, content = await self.pdu()
            if pdu_type == 5:
                self.writer.write(struct.pack(">BxIxxxx", 6, 4))
                return None
            if pdu_type != 4:
                raise ConnectionError(f"PDU {pdu_type}")
            at = 0
            while at < len(content):
                length, context_id, flags = struct.unpack_from(">IBB", content, at)
                fragment = content[at + 6 : at + 4 + length]
                at += 4 + length
                if flags & 1:
                    command += fragment
                    announced = dimse.decode(command) if flags & 2 else None
                else:
                    data += fragment
                if announced is None or not flags & 2:
                    continue
                if not flags & 1 or announced[dimse.DATA_SET_TYPE] == dimse.NO_DATA_SET:
                    return context_id, announced, data


@dataclass
class RawPacs:
    """The PACS; ``async with raw_pacs(...)`` starts one."""

    held: list[Held]
    ae_title: str = "RAWPACS"
    calling: bytes = b"RAWPACS"
    """The Calling AE title of its C-STORE associations, as bytes."""
    user_items: list[bytes] = field(default_factory=list)
    """User information sub-items of its A-ASSOCIATE-RQs and -ACs, instead of the usual ones."""
    failing_get: bytes | None = None
    """The command set that every C-GET is answered with, as bytes."""
    writes: Callable[[dict[int, str]], list[bytes]] = lambda values: [identifier(values)]
    """An answer to a query → the identifiers that are sent for it, one a response."""
    says_of_data_set: bool = True
    """Whether the last response to a query has a Command Data Set Type."""
    lists: bool = True
    """Whether it answers IMAGE-level queries."""
    destination: tuple[str, int] = ("127.0.0.1", 0)
    statuses: list[int] = field(default_factory=list)
    """What its C-STOREs were answered with."""
    port: int = 0
    url: str = ""

    def described(self, method: str) -> dict[str, object]:
        """As the configuration has it."""
        base = {"name": "raw", "ae_title": self.ae_title, "host": "127.0.0.1", "port": self.port, "retrieve": method}
        return base | ({"dicomweb_url": self.url} if method == "wado-rs" else {})

    # -- DICOM

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        try:
            _, content = await wire.pdu()
            contexts, roles = parse_contexts(content)
            accepted = [item(0x21, bytes((n, 0, 0, 0)) + item(0x40, c[2][0].encode())) for n, c in contexts.items()]
            echoed = [item(0x54, role) for role in roles]
            user = self.user_items or [item(0x52, b"1.2.826.0.1.3680043.8.498")]
            writer.write(associate(2, content[4:20], content[20:36], accepted, *user, *echoed))
            while (got := await wire.message()) is not None:
                await self._answer(wire, contexts, *got)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await _closed(writer)

    async def _answer(self, wire: Wire, contexts, context_id: int, command, data: bytes) -> None:
        request = command[dimse.COMMAND_FIELD]
        reply = dimse.response(command, 0)
        if request == dimse.C_FIND_RQ:
            for answer in self._find(data):
                pending = reply | {dimse.STATUS: 0xFF00, dimse.DATA_SET_TYPE: 1}
                for written in self.writes(answer):
                    wire.send(context_id, pending, written)
            if not self.says_of_data_set:
                del reply[dimse.DATA_SET_TYPE]
        elif request in (dimse.C_MOVE_RQ, dimse.C_GET_RQ):
            if request == dimse.C_GET_RQ and self.failing_get is not None:
                wire.send(context_id, self.failing_get)
                return
            chosen = self._chosen(read_elements(data, EXPLICIT, {STUDY, SERIES, SOP, LEVEL}))
            if request == dimse.C_GET_RQ:
                done = await self._store(wire, contexts, chosen)
            else:
                done = await self._move(chosen)
            reply |= {dimse.COMPLETED: done, dimse.FAILED: len(chosen) - done, dimse.WARNING: 0}
        wire.send(context_id, reply)
        await wire.writer.drain()

    def _find(self, data: bytes) -> list[dict[int, str]]:
        query = read_elements(data, EXPLICIT, {STUDY, SERIES, SOP, LEVEL})
        level, held = string(query[LEVEL]), self._chosen(query)
        if level == "STUDY":
            counts = {h.study: sum(o.study == h.study for o in held) for h in held}
            return [{LEVEL: level, STUDY: s, COUNT: str(n)} for s, n in counts.items()]
        if level == "SERIES":
            return [{LEVEL: level, STUDY: s, SERIES: r} for s, r in dict.fromkeys((h.study, h.series) for h in held)]
        if not self.lists:
            return []
        return [{LEVEL: level, STUDY: h.study, SERIES: h.series, SOP: h.uid, SOP_CLASS: h.sop_class} for h in held]

    def _chosen(self, query: dict[int, bytes]) -> list[Held]:
        held = self.held
        for tag, name in ((STUDY, "study"), (SERIES, "series"), (SOP, "uid")):
            wanted = string(query.get(tag))
            if wanted:
                held = [h for h in held if getattr(h, name) in wanted.split("\\")]
        return held

    async def _move(self, chosen: list[Held]) -> int:
        pairs = list(dict.fromkeys((h.sop_class, h.syntax) for h in chosen))
        contexts = {2 * n + 1: (0, a, [t]) for n, (a, t) in enumerate(pairs)}
        reader, writer = await asyncio.open_connection(*self.destination)
        wire = Wire(reader, writer)
        encoded = [proposed(n, a, t) for n, (_, a, t) in contexts.items()]
        writer.write(associate(1, b"AVARAGW", self.calling, encoded, *self.user_items))
        try:
            pdu_type, content = await wire.pdu()
            if pdu_type != 2:
                return 0
            accepted = {n for n, c in parse_contexts(content)[0].items() if c[0] == 0}
            done = await self._store(wire, {n: c for n, c in contexts.items() if n in accepted}, chosen)
            writer.write(struct.pack(">BxIxxxx", 5, 4))
            await wire.pdu()
            return done
        finally:
            await _closed(writer)

    async def _store(self, wire: Wire, contexts, chosen: list[Held]) -> int:
        by_pair = {(a, t[0]): n for n, (_, a, t) in contexts.items()}
        done = 0
        for n, h in enumerate(chosen):
            context_id = by_pair.get((h.sop_class, h.syntax))
            if context_id is None:
                continue
            command = {
                dimse.COMMAND_FIELD: dimse.C_STORE_RQ, dimse.MESSAGE_ID: n + 1, dimse.PRIORITY: 0,
                dimse.DATA_SET_TYPE: 1, dimse.AFFECTED_SOP_CLASS_UID: h.sop_class,
                dimse.AFFECTED_SOP_INSTANCE_UID: h.uid if h.affected is None else h.affected,
            }  # fmt: skip
            wire.send(context_id, command, h.data)
            answer = await wire.message()
            assert answer is not None
            self.statuses.append(answer[1][dimse.STATUS])
            done += answer[1][dimse.STATUS] == 0
        return done

    # -- DICOMweb

    async def studies(self, request: web.Request) -> web.Response:
        asked = request.query.get("StudyInstanceUID")
        held = [h for h in self.held if h.study == asked]
        found = [{"0020000D": {"vr": "UI", "Value": [asked]}, "00201208": {"vr": "IS", "Value": [len(held)]}}]
        return web.Response(body=json.dumps(found if held else []), content_type="application/dicom+json")

    async def instances(self, request: web.Request) -> web.Response:
        held = [h for h in self.held if h.study == request.match_info["study"]]
        if int(request.query.get("offset", 0)):
            held = []
        tags = {"0020000D": "study", "0020000E": "series", "00080018": "uid", "00080016": "sop_class"}
        found = [{tag: {"vr": "UI", "Value": [getattr(h, name)]} for tag, name in tags.items()} for h in held]
        return web.Response(body=json.dumps(found), content_type="application/dicom+json")

    async def retrieve(self, request: web.Request) -> web.Response:
        match = request.match_info
        held = [h for h in self.held if h.study == match["study"] and h.series == match.get("series", h.series)]
        held = [h for h in held if h.uid == match.get("uid", h.uid)]
        parts = [b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + (h.part10 or part10(h)) for h in held]
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
        return web.Response(body=b"".join(parts) + b"\r\n--x--\r\n", headers=headers)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def part10(h: Held) -> bytes:
    """A Part 10 file of a data set (PS3.10 §7.1)."""
    meta = b""
    for number, value in ((2, h.sop_class), (3, h.uid if h.affected is None else h.affected), (16, h.syntax)):
        raw = value.encode() + b"\0" * (len(value) % 2)
        meta += struct.pack("<HH2sH", 2, number, b"UI", len(raw)) + raw
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + h.data


@asynccontextmanager
async def raw_pacs(*held: Held) -> AsyncIterator[RawPacs]:
    """A running one."""
    pacs = RawPacs(list(held))
    server = await asyncio.start_server(pacs.serve, "127.0.0.1", 0)
    pacs.port = server.sockets[0].getsockname()[1]
    app = web.Application()
    app.router.add_get("/studies", pacs.studies)
    app.router.add_get("/studies/{study}/instances", pacs.instances)
    for path in ("", "/series/{series}", "/series/{series}/instances/{uid}", "/instances/{uid}"):
        app.router.add_get("/studies/{study}" + path, pacs.retrieve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    pacs.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    try:
        yield pacs
    finally:
        server.close()
        await runner.cleanup()
