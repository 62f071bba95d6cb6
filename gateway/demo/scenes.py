"""What the demo shows: each scene does one of the gateway's jobs as Avara and its viewer would, and checks the end."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from pydicom import dcmread
from pypdf import PdfReader
from rich.console import Console

from gateway.avara import sign
from gateway.demo.sample import sample_capture, small_pdf
from gateway.dicom import header_length
from gateway.pacs import Peer
from gateway.pacs.scu import PacsClient

T = TypeVar("T")

AE_TITLE = "AVARAGW"

STUDY_ID = "stu_" + "0" * 32

STORED_WITHIN = 30.0
"""Seconds; it takes about two."""


class DemoFailed(Exception):
    """The demo did not show what it is to show."""


@dataclass(frozen=True, slots=True)
class DemoPacs:
    """The PACS of the demo, whichever it is."""

    what: str
    """What it is, in words."""
    ae_title: str
    port: int
    """Its DICOM port on loopback."""
    instances: Callable[[str], Awaitable[dict[str, bytes]]]
    """Its Part 10 files of a study, by SOP Instance UID."""


class Avara:
    """Avara and its viewer, as the gateway sees them. An async context manager."""

    def __init__(self, url: str, key: str, reports_port: int) -> None:
        """*url* is the gateway's webhook; *reports_port* that on loopback where the PDFs of reports are."""
        self.url = url
        self._key = key
        self._reports_port = reports_port
        self._reports: dict[str, bytes] = {}
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        application = web.Application()
        application.router.add_get("/reports/{name}", self._give)
        self._server = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> Avara:
        await self._server.setup()
        await web.TCPSite(self._server, "127.0.0.1", self._reports_port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.http.close()
        await self._server.cleanup()

    async def _give(self, request: web.Request) -> web.Response:
        content = self._reports.get(request.match_info["name"])
        if content is None:
            return web.Response(status=404)
        return web.Response(body=content, content_type="application/pdf")

    def sign_report(self, pdf: bytes) -> str:
        """The URL of a report that was just signed."""
        name = secrets.token_hex(16)
        self._reports[name] = pdf
        return f"http://127.0.0.1:{self._reports_port}/reports/{name}"

    async def send(self, kind: str, **data: Any) -> dict[str, Any]:
        """The answer to an event; what is no answer at all fails the demo."""
        event = {"id": f"whe_{secrets.token_hex(16)}", "type": kind, "data": {"studyId": STUDY_ID, **data}}
        body = json.dumps(event).encode()
        headers = sign(self._key, f"msg_{secrets.token_hex(12)}", body)
        async with self.http.post(self.url, data=body, headers=headers) as response:
            answer: dict[str, Any] = await response.json()
        if response.status != 200 or answer.get("error"):
            raise DemoFailed(f"the gateway answers {response.status}: {answer.get('error')}")
        return answer

    async def open_all(self, urls: list[str]) -> list[bytes]:
        """What the viewer gets from URLs."""

        async def read(url: str) -> bytes:
            async with self.http.get(url) as response:
                if response.status != 200:
                    raise DemoFailed(f"a URL answers {response.status}")
                return await response.read()

        return await asyncio.gather(*map(read, urls))


async def show_study(console: Console, pacs: DemoPacs, study: str, avara: Avara) -> None:
    """A study is opened, and compared with what the PACS holds."""
    answer, cold = await _timed(avara.send("study.access_requested", studyInstanceUid=study))
    urls, media = answer["urls"], answer.get("mediaUrls", [])
    series = answer["manifest"]["series"]
    console.print(
        f"asked     study.access_requested, cold: {len(urls)} URLs, {len(series)} series in the manifest, "
        f"{cold * 1000:.0f} ms"
    )
    held = {uid: _data_set(content) for uid, content in (await pacs.instances(study)).items()}
    fetched, took = await _timed(avara.open_all(urls))
    console.print(f"opened    {len(fetched)} URLs, {sum(map(len, fetched)) / 1e6:.2f} MB, {took * 1000:.0f} ms")
    if sorted(map(_data_set, fetched)) != sorted(held.values()):
        raise DemoFailed("what the URLs gave is not what the PACS holds")
    console.print(f"compared  {len(held)} data sets with the PACS: [green]equal, byte by byte[/]")
    for item in media:
        [content] = await avara.open_all([item["url"]])
        if not content.startswith(b"%PDF-"):
            raise DemoFailed(f"{item['fileName']} is no PDF")
        console.print(f"media     {item['fileName']}: {item['mimeType']}, {len(content)} bytes, a PDF that opens")
    again, warm = await _timed(avara.send("study.access_requested", studyInstanceUid=study))
    if len(again["urls"]) != len(urls):
        raise DemoFailed("the second answer differs from the first")
    console.print(f"asked     again, from the cache: {len(again['urls'])} URLs, {warm * 1000:.0f} ms")
    async with avara.http.post(avara.url, data=b"{}") as unsigned:
        console.print(f"refused   the same without a signature: {unsigned.status}")
        if unsigned.status != 401:
            raise DemoFailed("an unsigned event was not refused")


async def show_capture(console: Console, pacs: DemoPacs, study: str, avara: Avara) -> None:
    """A secondary capture is uploaded to every URL, and found in the PACS by C-FIND and by its bytes."""
    capture = sample_capture(study)
    sent = dcmread(io.BytesIO(capture.content))
    answer = await avara.send(
        "secondary_capture.access_requested",
        studyInstanceUid=study,
        seriesInstanceUid=sent.SeriesInstanceUID,
        sopInstanceUid=sent.SOPInstanceUID,
    )
    for url in answer["uploadUrls"]:
        async with avara.http.put(url, data=capture.content, headers={"Content-Type": "application/dicom"}) as put:
            if put.status != 200:
                raise DemoFailed(f"an upload URL answers {put.status}")
    began = time.monotonic()
    console.print(f"uploaded  a secondary capture of {len(capture.content)} bytes to every URL it was given")
    held = dcmread(io.BytesIO(await stored(pacs, study, capture.sop_instance_uid)))
    took = time.monotonic() - began
    if held.PixelData != sent.PixelData:
        raise DemoFailed("the PACS holds other pixels than were uploaded")
    filled = sorted({e.keyword for e in held} - {e.keyword for e in sent} - {"ContributingEquipmentSequence"})
    console.print(
        f"stored    C-FIND lists it in the PACS after {took:.1f} s, [green]its pixels equal, byte by byte[/]; "
        f"filled in from the PACS: {', '.join(filled)}"
    )
    shown = await _shown(study, capture.sop_instance_uid, avara)
    console.print(f"asked     for the study again: {shown} URLs, the capture among them")


async def show_report(console: Console, pacs: DemoPacs, study: str, avara: Avara) -> None:
    """A signed report is delivered, and found in the PACS, where it opens."""
    pdf = small_pdf("Demonstration: a signed report")
    report_id = f"rep_{secrets.token_hex(16)}"
    known = set(await pacs.instances(study))
    answer, took = await _timed(
        avara.send(
            "report.delivered",
            reportId=report_id,
            isCritical=False,
            presignedUrl=avara.sign_report(pdf),
            plainText="No acute finding.",
            studyInstanceUid=study,
        )
    )
    if answer != {"success": True}:
        raise DemoFailed("the report was not acknowledged")
    console.print(f"report    report.delivered, acknowledged and kept after {took * 1000:.0f} ms")
    began = time.monotonic()
    while not (new := set(await pacs.instances(study)) - known):
        if time.monotonic() - began > STORED_WITHIN:
            raise DemoFailed(f"it is not in the PACS after {STORED_WITHIN:.0f} s")
        await asyncio.sleep(0.2)
    held = dcmread(io.BytesIO(await stored(pacs, study, new.pop())))
    if held.EncapsulatedDocument[: held.EncapsulatedDocumentLength] != pdf:
        raise DemoFailed("the PACS holds another document than was signed")
    console.print(
        f"stored    in the PACS after {time.monotonic() - began:.1f} s as {held.SOPClassUID.name} of the same patient "
        "and study, [green]its PDF equal, byte by byte[/]"
    )
    # As a viewer gets it, unpacked by the gateway: it opens.
    shown = await _shown(study, held.SOPInstanceUID, avara)
    media = (await avara.send("study.access_requested", studyInstanceUid=study))["mediaUrls"]
    documents = await avara.open_all([m["url"] for m in media if m["mimeType"] == "application/pdf"])
    if pdf not in documents or len(PdfReader(io.BytesIO(pdf)).pages) != 1:
        raise DemoFailed("the study does not show the report")
    console.print(f"asked     for the study again: {shown} URLs, the report among them, a PDF of 1 page that opens")


async def _shown(study: str, sop_instance_uid: str, avara: Avara) -> int:
    """How many URLs the study has once the instance is among them: the cache learns of it as the PACS does."""
    until = time.monotonic() + STORED_WITHIN
    while True:
        urls = (await avara.send("study.access_requested", studyInstanceUid=study))["urls"]
        if any(sop_instance_uid in url for url in urls):
            return len(urls)
        if time.monotonic() > until:
            raise DemoFailed(f"the study's URLs lack instance {sop_instance_uid}")
        await asyncio.sleep(0.2)


async def stored(pacs: DemoPacs, study: str, sop_instance_uid: str) -> bytes:
    """The instance as the PACS has it, once its C-FIND lists it."""
    client = PacsClient(Peer("demo", pacs.ae_title, "127.0.0.1", pacs.port, AE_TITLE), advertised=AE_TITLE)
    try:
        async with asyncio.timeout(STORED_WITHIN):
            while True:
                listed = await client.list_instances(study)
                if any(ref.sop_instance_uid == sop_instance_uid for ref in listed.instances):
                    return (await pacs.instances(study))[sop_instance_uid]
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise DemoFailed(f"it is not in the PACS after {STORED_WITHIN:.0f} s") from None


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    began = time.monotonic()
    return await work, time.monotonic() - began


def _data_set(part10: bytes) -> bytes:
    """What follows the file meta of a Part 10 file (PS3.10 §7.1), whose length its first element says."""
    return part10[header_length(part10) :]
