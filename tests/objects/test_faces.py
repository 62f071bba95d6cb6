"""What a browser gets by HTTP's finer points, case by case: from the store itself, by the face, and by a deferred URL.

Each case has the section of RFC 9110 that says what is right. Where a store does otherwise, the case says so, and the
gateway's two faces still do what the standard says.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from yarl import URL

from gateway.objects import Credentials, ObjectStore, Presigner
from gateway.objects.front import StoreFront
from gateway.objects.info import ObjectInfo
from gateway.objects.uploads import UploadQuota
from gateway.web.clients import Clients
from gateway.web.cors import Cors
from gateway.web.server import Bounds, WebServer
from tests.rig.ports import free_port

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
    Case("14.1.2 the first byte", {"Range": "bytes=0-0"}, 206, b"0"),
    Case("14.1.2 the last byte", {"Range": "bytes=-1"}, 206, b"9"),
    Case("14.1.2 a suffix of more than there is", {"Range": "bytes=-99"}, 206, CONTENT),
    Case("14.1.2 everything", {"Range": "bytes=0-"}, 206, CONTENT),
    Case("14.1 in capitals", {"Range": "BYTES=2-4"}, 206, b"234", stores=(200, 416)),
    Case("14.2 no range at all", {"Range": "bytes="}, 200, CONTENT, stores=(416,)),
    Case("14.2 two dashes", {"Range": "bytes=--3"}, 200, CONTENT, stores=(206, 416)),
    Case("14.2 letters", {"Range": "bytes=a-b"}, 200, CONTENT, stores=(206, 416)),
    Case("14.2 a sign", {"Range": "bytes=+2-4"}, 200, CONTENT, stores=(206, 416)),
    Case("13.1.1 any", {"If-Match": "*"}, 200, CONTENT, stores=(412,)),
    Case("13.1.1 one of several", {"If-Match": '"other", {etag}'}, 200, CONTENT, stores=(412,)),
    Case("13.1.1 holds weakly only", {"If-Match": "W/{etag}"}, 412, stores=(200,)),
    Case("13.1.1 fails for a HEAD", {"If-Match": '"other"'}, 412, method="HEAD"),
    Case("13.1.1 empty", {"If-Match": '""'}, 412, stores=(200,)),
    Case("13.1.2 any", {"If-None-Match": "*"}, 304, stores=(200,)),
    Case("13.1.2 one of several", {"If-None-Match": '"other", {etag}'}, 304, stores=(200,)),
    Case("13.1.2 one of several, weakly", {"If-None-Match": '"other",W/{etag}'}, 304, stores=(200,)),
    Case("13.1.2 with empty elements", {"If-None-Match": ',"other",,{etag},'}, 304, stores=(200,)),
    Case("13.1.2 a tag within a tag", {"If-None-Match": '"{bare}, other"'}, 200, CONTENT, stores=(304,)),
    Case("13.1.3 the day after, by RFC 850", {"If-Modified-Since": "{rfc850}"}, 304, stores=(200,)),
    Case("13.1.3 by asctime", {"If-Modified-Since": "{asctime}"}, 304, stores=(200,)),
    Case("13.1.3 no date", {"If-Modified-Since": "yesterday"}, 200, CONTENT, stores=(400,)),
    Case("13.1.3 a number", {"If-Modified-Since": "0"}, 200, CONTENT, stores=(400,)),
    Case("13.1.3 for a HEAD", {"If-Modified-Since": "{modified}"}, 304, method="HEAD"),
    Case("13.1.4 no date", {"If-Unmodified-Since": "yesterday"}, 200, CONTENT, stores=(400,)),
    Case("13.1.4 changed since, by asctime", {"If-Unmodified-Since": "Thu Jan  1 12:00:00 2015"}, 412, stores=(200,)),
    Case("13.1.5 weakly", {"Range": "bytes=2-4", "If-Range": "W/{etag}"}, 200, CONTENT, stores=(206,)),
    Case("13.1.5 no list", {"Range": "bytes=2-4", "If-Range": '"other", {etag}'}, 200, CONTENT, stores=(206,)),
    Case("13.1.5 any", {"Range": "bytes=2-4", "If-Range": "*"}, 200, CONTENT, stores=(206,)),
    Case("13.1.5 its date", {"Range": "bytes=2-4", "If-Range": "{modified}"}, 206, b"234"),
    Case("13.1.5 its date, by asctime", {"Range": "bytes=2-4", "If-Range": "{asctime}"}, 206, b"234"),
    Case("13.1.5 without a range", {"If-Range": '"other"'}, 200, CONTENT),
    Case("13.1.5 outside, and other", {"Range": "bytes=10-", "If-Range": '"other"'}, 200, CONTENT, stores=(416,)),
    Case("13.2.2 the tag before the date, both ways", {"If-Match": "{etag}", "If-Unmodified-Since": LONG_AGO}, 200,
         CONTENT, stores=(412,)),
    Case("13.2.2 the first that fails", {"If-Match": '"other"', "If-None-Match": "{etag}"}, 412, stores=(304,)),
    Case("13.2.2 a condition before a range outside", {"Range": "bytes=10-", "If-None-Match": "{etag}"}, 304,
         stores=(416,)),
    Case("13.2.2 the tag before the date", {"If-None-Match": '"x"', "If-Modified-Since": FAR_OFF}, 200, CONTENT,
         stores=(304,)),
    Case("13.2.2 a range that is not needed", {"Range": "bytes=2-4", "If-None-Match": "{etag}"}, 304),
]  # fmt: skip


def own(etag: str, modified: str) -> dict[str, str]:
    """What stands in the cases for an object's own ETag and Last-Modified, the latter in all three forms (§5.6.7)."""
    moment = parsedate_to_datetime(modified)
    return {
        "etag": etag,
        "bare": etag.strip('"'),
        "modified": modified,
        "rfc850": moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        "asctime": moment.strftime("%a %b %e %H:%M:%S %Y"),
    }


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
    front = StoreFront(
        s3, server, cors=cors, max_upload=1000, quota=quota, uploaded=told.append, opened=lambda _: None,
        signed_for="images.example.org:8443",
    )  # fmt: skip
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


async def test_a_proxy_that_changes_the_host_is_told_once_a_minute_and_a_stranger_is_not(face, caplog):
    right = face.signed("https://images.example.org:8443", "GET").removeprefix("https://images.example.org:8443")
    for url in (right[:-1] + ("0" if right[-1] != "0" else "1"), right, right):
        async with face.http.get(URL(face.url + url, encoded=True)) as answer:
            assert answer.status == 403
    (line,) = [r.getMessage() for r in caplog.records if "the proxy says" in r.getMessage()]
    assert "signed for images.example.org:8443" in line
    assert "proxy_set_header Host $http_host" in line


async def test_each_case_is_answered_as_the_standard_has_it(face):
    info = await face.store.head(KEY)
    known = own(info.etag, info.last_modified.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    wrong = []
    for case in CASES:
        headers = {name: value.format(**known) for name, value in case.headers.items()}
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
    assert not wrong, "\n".join(map(str, wrong))


async def test_a_field_in_several_lines_is_the_list_of_them(face):
    """RFC 9110 §5.3."""
    etag = (await face.store.head(KEY)).etag
    for name, expected in (("If-None-Match", 304), ("If-Match", 200)):
        assert (await face.ask(face.url, "GET", [(name, '"other"'), (name, etag)]))[0] == expected
    status, body, _ = await face.ask(face.url, "GET", [("Range", "bytes=0-1"), ("Range", "bytes=3-4")])
    assert (status, body) == (200, CONTENT)


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
