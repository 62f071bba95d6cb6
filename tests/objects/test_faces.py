"""What a browser gets by HTTP's finer points, case by case: from the store itself, by the face, and by a deferred URL.

Each case has the section of RFC 9110 that says what is right. Where a store does otherwise, the case says so, and the
gateway's two faces still do what the standard says.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp
import pytest
from yarl import URL

from gateway.objects import Credentials, ObjectStore, Presigner
from gateway.objects.client import ObjectInfo
from gateway.objects.embedded import free_port
from gateway.objects.front import StoreFront
from gateway.objects.uploads import UploadQuota
from gateway.web.clients import Clients
from gateway.web.cors import Cors
from gateway.web.server import Bounds, WebServer

CONTENT = b"0123456789"
KEY = "studies/1.2.3/1.2.3.4.dcm"
LONG_AGO, FAR_OFF = "Thu, 01 Jan 2015 12:00:00 GMT", "Thu, 01 Jan 2099 12:00:00 GMT"


@dataclass
class Case:
    """A request; ``{etag}`` and ``{modified}`` stand for the object's own."""

    section: str
    headers: dict[str, str]
    status: int
    body: bytes = b""
    method: str = "GET"
    stores: tuple[int, ...] = ()
    """What a store may answer besides: where it is not the standard's word, or leaves a choice."""


CASES = [
    Case("9.3.1", {}, 200, CONTENT),
    Case("9.3.2", {}, 200, method="HEAD"),
    Case("14.1.2 first and last", {"Range": "bytes=2-4"}, 206, b"234"),
    Case("14.1.2 suffix", {"Range": "bytes=-3"}, 206, b"789"),
    Case("14.1.2 open", {"Range": "bytes=7-"}, 206, b"789"),
    Case("14.1.2 past the end", {"Range": "bytes=7-99"}, 206, b"789"),
    Case("14.1.2 outside", {"Range": "bytes=10-"}, 416),
    Case("14.1.2 no suffix", {"Range": "bytes=-0"}, 416, stores=(200, 206)),
    Case("14.1.1 invalid", {"Range": "bytes=4-2"}, 200, CONTENT, stores=(416,)),
    Case("14.2 several, may be ignored", {"Range": "bytes=0-1,3-4"}, 200, CONTENT, stores=(206, 416)),
    Case("14.2 another unit", {"Range": "lines=1-2"}, 200, CONTENT, stores=(416,)),
    Case("14.2 a long number", {"Range": "bytes=" + "9" * 5000 + "-"}, 416, stores=(200, 400)),
    Case("14.2 no method but GET", {"Range": "bytes=2-4"}, 200, method="HEAD", stores=(206,)),
    Case("13.1.1 holds", {"If-Match": "{etag}"}, 200, CONTENT),
    Case("13.1.1 fails", {"If-Match": '"other"'}, 412),
    Case("13.1.2 holds", {"If-None-Match": '"other"'}, 200, CONTENT),
    Case("13.1.2 fails", {"If-None-Match": "{etag}"}, 304),
    Case("13.1.2 fails, weakly", {"If-None-Match": "W/{etag}"}, 304, stores=(200,)),
    Case("13.1.2 fails for a HEAD", {"If-None-Match": "{etag}"}, 304, method="HEAD"),
    Case("13.1.3 unchanged since", {"If-Modified-Since": "{modified}"}, 304),
    Case("13.1.3 changed since", {"If-Modified-Since": LONG_AGO}, 200, CONTENT),
    Case("13.1.4 changed since", {"If-Unmodified-Since": LONG_AGO}, 412),
    Case("13.1.4 unchanged since", {"If-Unmodified-Since": FAR_OFF}, 200, CONTENT),
    Case("13.1.5 same", {"Range": "bytes=2-4", "If-Range": "{etag}"}, 206, b"234"),
    # SeaweedFS and MinIO know nothing of If-Range, and give a part of another object than the one that was begun.
    Case("13.1.5 other", {"Range": "bytes=2-4", "If-Range": '"other"'}, 200, CONTENT, stores=(206,)),
    Case("13.1.5 date", {"Range": "bytes=2-4", "If-Range": LONG_AGO}, 200, CONTENT, stores=(206,)),
    Case("13.2.2 the tag before the date", {"If-None-Match": '"x"', "If-Modified-Since": FAR_OFF}, 200, CONTENT,
         stores=(304,)),
    Case("13.2.2 a range that is not needed", {"Range": "bytes=2-4", "If-None-Match": "{etag}"}, 304),
]  # fmt: skip


@pytest.fixture
async def face(s3):
    """Each real store there is, by its own door and by the gateway's."""
    port = free_port()
    cors = Cors(["*"])
    server = WebServer(Bounds.of(connections=64, descriptors=1024, kept=100), Clients(), cors)
    await s3.put(KEY, CONTENT, content_type="application/dicom")
    room = {"free": 1000}
    quota = UploadQuota(keep_for=60, free=lambda: room["free"])
    told: list[ObjectInfo] = []
    front = StoreFront(s3, server, cors=cors, max_upload=1000, quota=quota, uploaded=told.append, opened=lambda _: None)
    async with front:
        server.application.router.add_routes(front.routes())
        await server.start("127.0.0.1", port, drain_for=1)
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            yield Face(s3, http, f"http://127.0.0.1:{port}", room, told)
        await server.stop()


class Face:
    def __init__(
        self,
        store: ObjectStore,
        http: aiohttp.ClientSession,
        url: str,
        room: dict[str, int],
        told: list[ObjectInfo],
    ) -> None:
        self.store, self.http, self.url, self.room, self.told = store, http, url, room, told
        self.credentials: Credentials = store.credentials

    def presigner(self, endpoint_url):
        return Presigner(
            endpoint_url=endpoint_url, region=self.store.region, bucket=self.store.bucket, credentials=self.credentials
        )

    def signed(self, endpoint_url, method, key=KEY):
        """A URL for a method; our own presigner makes none for HEAD, which browsers send to URLs for GET."""
        made = self.presigner(endpoint_url)
        return made._urls(method, (key,), 60, None)[0]

    async def ask(self, endpoint_url, method, headers, key=KEY, data=None):
        url = URL(self.signed(endpoint_url, method, key), encoded=True)
        async with self.http.request(method, url, headers=headers, data=data) as answer:
            return answer.status, await answer.read(), answer.headers


async def test_each_case_is_answered_as_the_standard_has_it(face):
    info = await face.store.head(KEY)
    own = {"etag": info.etag, "modified": info.last_modified.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    wrong = []
    for case in CASES:
        headers = {name: value.format(**own) for name, value in case.headers.items()}
        there, _, _ = await face.ask(f"http://{face.store.endpoint}", case.method, headers)
        if there not in (case.status, *case.stores):
            wrong.append((case.section, "the store itself", there))
        status, body, told = await face.ask(face.url, case.method, headers)
        if status != case.status or (status < 300 and body != case.body):
            wrong.append((case.section, "the face", status, body))
        if status in (200, 206, 304) and told["ETag"] != info.etag:
            wrong.append((case.section, "ETag", told["ETag"]))
        if status == 206 and told["Content-Range"] != f"bytes {CONTENT.index(body)}-{CONTENT.index(body[-1:])}/10":
            wrong.append((case.section, "Content-Range", told["Content-Range"]))
        if status == 416 and told["Content-Range"] != "bytes */10":
            wrong.append((case.section, "Content-Range", told.get("Content-Range")))
        if status < 300 and case.method == "HEAD" and told["Content-Length"] != "10":
            wrong.append((case.section, "Content-Length", told["Content-Length"]))
    assert wrong == []


async def test_a_put_asks_for_its_body_only_when_it_is_wanted(face):
    """RFC 9110 §10.1.1: whoever is refused has sent nothing."""
    for signature, length, expectation, expected in (
        ("", 5, "100-continue", b" 100 "), ("x", 5, "100-continue", b" 403 "), ("", 5000, "100-continue", b" 413 "),
        ("", 5, "nonsense", b" 417 "),
    ):  # fmt: skip
        url = URL(face.signed(face.url, "PUT", "inbox/expect") + signature, encoded=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
        writer.write(
            f"PUT {url.raw_path_qs} HTTP/1.1\r\nHost: 127.0.0.1:{url.port}\r\nExpect: {expectation}\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        async with asyncio.timeout(20):
            assert expected in await reader.readline()
            if expected == b" 100 ":
                await reader.readline()
                writer.write(b"bytes")
                assert b" 200 " in await reader.readline()
        writer.close()
    assert await face.store.get("inbox/expect") == b"bytes"


async def test_a_put_is_conditional_as_in_the_store(face):
    assert (await face.ask(face.url, "PUT", {"If-None-Match": "*"}, "inbox/new", b"1"))[0] == 200
    assert (await face.ask(face.url, "PUT", {"If-None-Match": "*"}, "inbox/new", b"2"))[0] == 412
    assert await face.store.get("inbox/new") == b"1"


async def test_each_upload_is_told_of_once_it_is_stored_as_a_listing_would_tell_it(face):
    """Were it told otherwise, it would be taken for two uploads."""
    assert (await face.ask(face.url, "PUT", {}, key="inbox/a", data=b"x" * 700))[0] == 200
    assert (await face.ask(face.url, "PUT", {}, key="inbox/b", data=b"x" * 1001))[0] == 413
    assert (await face.ask(face.url, "PUT", {"If-None-Match": "*"}, key="inbox/a", data=b"y"))[0] == 412
    listed = [(info.key, info.size, info.etag) async for info in face.store.list("inbox/")]
    assert [(info.key, info.size, info.etag) for info in face.told] == listed


async def test_an_encoded_upload_is_refused_with_what_would_be_taken(face):
    status, _, told = await face.ask(face.url, "PUT", {"Content-Encoding": "gzip"}, "inbox/gzip", b"x")
    assert (status, told["Accept-Encoding"]) == (415, "identity")
    assert await face.store.head("inbox/gzip") is None
    assert (await face.ask(face.url, "PUT", {"Content-Encoding": "identity"}, "inbox/plain", b"x"))[0] == 200


@pytest.mark.parametrize(
    ("content_type", "active"),
    [
        ("application/dicom", False), ("application/pdf", False), ("image/jpeg", False), ("video/mp4", False),
        ("text/xml", True), ("text/html", True), ("image/svg+xml", True), ("application/xhtml+xml", True),
        ("text/plain", True), ("IMAGE/SVG+XML", True),
    ],
)  # fmt: skip
async def test_what_a_browser_could_run_is_saved_and_never_run(face, content_type, active):
    await face.store.put("studies/media", CONTENT, content_type=content_type)
    _, _, told = await face.ask(face.url, "GET", {}, "studies/media")
    assert told["X-Content-Type-Options"] == "nosniff"
    assert (told.get("Content-Disposition") == "attachment") == active
    _, _, there = await face.ask(f"http://{face.store.endpoint}", "GET", {}, "studies/media")
    assert (there.get("Content-Disposition") == "attachment") == active
    assert ("sandbox" in told.get("Content-Security-Policy", "")) == active


async def test_one_url_takes_so_many_uploads_and_a_failed_one_does_not_count(face, monkeypatch):
    from gateway.objects.uploads import UPLOADS

    for _ in range(UPLOADS):
        assert (await face.ask(face.url, "PUT", {"If-Match": '"no"'}, "inbox/often", b"x"))[0] >= 400
    for _ in range(UPLOADS):
        assert (await face.ask(face.url, "PUT", {}, "inbox/often", b"x"))[0] == 200
    assert (await face.ask(face.url, "PUT", {}, "inbox/often", b"x"))[0] == 429
    assert (await face.ask(face.url, "PUT", {}, "inbox/other", b"x"))[0] == 200


async def test_an_upload_that_the_disk_has_no_room_for_is_refused_and_one_that_fits_is_taken(face):
    face.room["free"] = 4
    status, _, told = await face.ask(face.url, "PUT", {}, "inbox/large", b"five!")
    assert (status, told["Retry-After"]) == (507, "60")
    assert await face.store.head("inbox/large") is None
    assert (await face.ask(face.url, "PUT", {}, "inbox/small", b"four"))[0] == 200
