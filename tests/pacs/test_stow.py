"""STOW-RS as a client: what is stored, what is not and why, and what takes its time.

Against Orthanc's DICOMweb plugin, and against a service that is scripted.
"""

from __future__ import annotations

import asyncio
import io
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from gateway.admin.for_pacs import for_pacs
from gateway.demo.sample import sample_capture, sample_study
from gateway.dicom import EXPLICIT_LITTLE_ENDIAN
from gateway.journal import JobState
from gateway.pacs.dicomweb.service import DicomWeb, WebPeer, bearer
from gateway.pacs.dicomweb.stow import StowTarget
from gateway.pacs.errors import OperationFailed, PacsUnreachable, ProtocolViolation, RequestRefused
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.peer import Timeouts
from gateway.pacs.scu.store import OutgoingInstance
from gateway.pacs.upper.spool import FileBody, MemoryBody
from gateway.runtime.spools import Spools
from tests.captures.conftest import Viewer
from tests.conftest import data_set, describe

STUDY, SAMPLE = sample_study()
CAPTURE = sample_capture(STUDY)
UID, SOP_CLASS = CAPTURE.sop_instance_uid, "1.2.840.10008.5.1.4.1.1.7"
JSON = "application/dicom+json"


def outgoing(body=None, syntax=EXPLICIT_LITTLE_ENDIAN):
    return OutgoingInstance(SOP_CLASS, UID, syntax, body or MemoryBody(data_set(CAPTURE.content)))


async def untouched(syntax):
    raise AssertionError("nobody asked for it in another transfer syntax")


def module(*, stored=(), failed=(), others=()):
    """A Store Instances Response Module (PS3.18 Annex I): UIDs with a Warning Reason, or a Failure Reason."""

    def item(uid, tag, reason):
        found = {"00081150": {"vr": "UI", "Value": [SOP_CLASS]}, "00081155": {"vr": "UI", "Value": [uid]}}
        return found | ({tag: {"vr": "US", "Value": [reason]}} if reason else {})

    said = {"00081190": {"vr": "UR", "Value": ["http://pacs/studies/1"]}}
    for tag, reason, items in (
        ("00081199", "00081196", stored), ("00081198", "00081197", failed), ("0008119A", "00081197", others),
    ):  # fmt: skip
        if items:
            said[tag] = {"vr": "SQ", "Value": [item(uid, reason, code) for uid, code in items]}
    return said


class Service:
    """A DICOMweb service that reads what is stored, and answers what a test wants."""

    def __init__(self, *answers, listed=False):
        self.answers = list(answers)
        self.listed = listed
        self.asked, self.requests, self.sizes, self.files = [], [], [], []

    async def store(self, request):
        self.requests.append(request)
        content, size = bytearray(), 0
        if request.content_type != "multipart/related":
            return web.Response(status=415)
        reader = await request.multipart()
        part = await reader.next()
        assert part.headers["Content-Type"] == "application/dicom"
        while data := await part.read_chunk(256 * 1024):
            size += len(data)
            if size < 10_000_000:
                content += data
        assert await reader.next() is None, "more than one part"
        self.sizes.append(size)
        self.files.append(bytes(content))
        status, told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(told, dict):
            return web.json_response(told, status=status, content_type=JSON)
        return web.Response(text=told, status=status, headers={"Location": "http://10.9.9.9/"} if status == 302 else {})

    async def search(self, request):
        self.asked.append(request.path_qs)
        return web.json_response([{"00080018": {"Value": [UID]}}] if self.listed else [], content_type=JSON)


@asynccontextmanager
async def serving(service, *, respond=5.0, **peer):
    app = web.Application(client_max_size=2**31)
    app.router.add_post("/dicom-web/studies/{study}", service.store)
    app.router.add_get("/dicom-web/{path:.*}", service.search)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    timeouts = Timeouts(respond=respond, idle=5.0)
    client = DicomWeb(WebPeer("main", f"http://127.0.0.1:{port}/dicom-web", timeouts=timeouts, **peer), stores=True)
    try:
        yield StowTarget(client)
    finally:
        await client.close()
        await runner.cleanup()


async def stored(service, transcode=untouched, instance=None, **options):
    async with serving(service, **options) as target:
        return await target.store(STUDY, instance or outgoing(), transcode)


STORED = 200, module(stored=[(UID, 0)])


async def test_it_is_one_part_that_is_a_part_10_file_of_the_same_data_set_and_its_length_is_told():
    service = Service(STORED)
    done = await stored(service, authorization=bearer("t0ken"))
    assert (done.transfer_syntax_uid, done.warning) == (EXPLICIT_LITTLE_ENDIAN, "")
    [request], [file] = service.requests, service.files
    assert request.path == f"/dicom-web/studies/{STUDY}"
    assert request.headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert (request.headers["Accept"], request.headers["Authorization"]) == (JSON, "Bearer t0ken")
    assert int(request.headers["Content-Length"]) > len(file)
    assert data_set(file) == data_set(CAPTURE.content)
    read = dcmread(io.BytesIO(file))
    assert (read.file_meta.MediaStorageSOPInstanceUID, read.SOPInstanceUID) == (UID, UID)
    assert service.asked == []


@pytest.mark.slow
async def test_a_large_one_is_streamed_from_its_file_and_never_held(tmp_path, monkeypatch):
    size, largest, held = 60_000_000, [], Spools(tmp_path).file()
    held.write(b"\x08\0\x05\0CS\x0a\0ISO_IR 100")
    held.truncate(size)
    body = FileBody(held, size)

    class Counted:
        spooled = True

        def __init__(self):
            self.size = size

        def read(self, at, limit):
            largest.append(limit)
            return body.read(at, limit)

    service = Service(STORED)
    await stored(service, instance=outgoing(Counted()))
    body.close()
    assert service.sizes[0] > size
    assert max(largest) <= 256 * 1024
    assert len(largest) >= size // (256 * 1024)


@pytest.mark.slow
async def test_a_service_that_takes_long_for_the_whole_and_goes_on_is_waited_for():
    class Slow(MemoryBody):
        spooled = True

        def read(self, at, limit):
            time.sleep(0.4)
            return super().read(at, limit)

    service = Service(STORED)
    await stored(service, instance=outgoing(Slow(bytes(2_000_000))), respond=2.5)  # 8 pieces: over 3 s
    assert service.sizes[0] > 2_000_000


@pytest.mark.slow
async def test_a_service_that_does_not_answer_is_given_up_and_then_left_alone():
    class Silent(Service):
        async def store(self, request):
            await request.read()
            await asyncio.sleep(30)

    async with serving(Silent(), respond=0.3) as target:
        for _ in range(3):
            with pytest.raises(PacsUnreachable, match="did not answer within"):
                await target.store(STUDY, outgoing(), untouched)
        with pytest.raises(PacsUnreachable, match="is left alone"):
            await target.store(STUDY, outgoing(), untouched)


@pytest.mark.parametrize("then", ["stays", "closes"])
async def test_one_that_refuses_before_it_has_read_it_all_is_not_waited_for(then):
    """As a proxy does with what is too large for it; it reads no more, and may keep the connection."""

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        if then == "stays":
            await over.wait()
        writer.close()

    over = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = DicomWeb(WebPeer("main", f"http://127.0.0.1:{port}", timeouts=Timeouts(respond=60.0)), stores=True)
    try:
        async with asyncio.timeout(20):
            with pytest.raises((RequestRefused, PacsUnreachable)) as e:
                await StowTarget(client).store(STUDY, outgoing(MemoryBody(bytes(60_000_000))), untouched)
        if then == "stays":
            assert "raise the limit" in str(e.value)
    finally:
        over.set()
        await client.close()
        server.close()


async def test_a_turn_is_kept_for_storing_while_studies_are_retrieved():
    async with serving(Service(STORED), max_connections=3) as target:
        async with target.web._lanes.turn(Claim(Lane.RETRIEVE, "1", brief=False)):
            waiting = asyncio.ensure_future(target.web._lanes.turn(Claim(Lane.RETRIEVE, "2", brief=False)).__aenter__())
            async with asyncio.timeout(5):
                await target.store(STUDY, outgoing(), untouched)
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("code", "warning"),
    [(0xB000, "status B000: it changed attributes"), (0xB006, "left attributes"), (0xB007, "does not match its SOP")],
)
@pytest.mark.parametrize("status", [200, 202])
async def test_what_is_stored_with_a_warning_is_stored_and_the_warning_kept(status, code, warning):
    assert warning in (await stored(Service((status, module(stored=[(UID, code)]))))).warning


@pytest.mark.parametrize(
    ("code", "transient", "told"),
    [
        (0xA700, True, "out of resources"), (0xA7FF, True, "out of resources"), (0x0110, True, "processing failure"),
        (0x0213, True, "0213"), (0xA900, False, "does not match its SOP class"), (0xC000, False, "cannot understand"),
        (0xC122, False, "does not support the transfer syntax"), (0x0122, False, "does not support the SOP class"),
        (0x0124, False, "does not authorize us"), (0x0117, False, "invalid SOP instance"), (0x9999, False, "failure"),
        (0, True, "no reason"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 202, 409])
async def test_a_failure_is_one_whatever_the_status_and_its_reason_says_whether_to_try_again(
    status, code, transient, told
):
    for failure in ({"failed": [(UID, code)]}, {"others": [("1.2.3", code)]}):
        with pytest.raises(OperationFailed, match=told) as e:
            await stored(Service((status, module(**failure)), listed=True))
        assert e.value.transient is transient


@pytest.mark.parametrize(
    ("status", "transient", "fix"),
    [
        (400, False, "its own log"), (401, False, "dicomweb_user"), (403, False, "may they store"),
        (404, False, "such as https://pacs/dicom-web"), (302, False, "https instead of http"), (405, False, "c-store"),
        (406, False, "c-store"), (409, False, "does not say why"), (413, False, "raise the limit"),
        (415, False, "c-store"), (429, True, "its own log"), (500, True, "its own log"), (501, False, "c-store"),
        (502, True, "its own log"), (503, True, "its own log"), (507, True, "no room"),
    ],
)  # fmt: skip
async def test_each_refusal_names_its_fix(status, transient, fix):
    service = Service((status, "<html>Patient^Name</html>"), listed=True)
    with pytest.raises(RequestRefused, match=fix) as e:
        await stored(service)
    assert (e.value.status, e.value.transient) == (status, transient)
    assert "Patient" not in str(e.value)
    assert service.asked == []


@pytest.mark.parametrize("told", ["", "<html>log in</html>", "[" * 50_000, "[]", {}, module(stored=[("1.2.3", 0)])])
async def test_an_answer_that_does_not_name_the_instance_is_believed_only_where_the_pacs_lists_it(told):
    service = Service((200, told), listed=True)
    assert (await stored(service)).transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN
    assert len(service.asked) == 1
    with pytest.raises(ProtocolViolation, match="neither says that it stored the instance nor lists it: is dicomweb_"):
        await stored(Service((200, told)))


async def test_an_endless_answer_is_not_held():
    with pytest.raises(ProtocolViolation, match="more than"):
        await stored(Service((200, " " * 2_000_000), listed=True))


async def test_what_is_not_taken_in_its_own_transfer_syntax_is_sent_once_more_uncompressed():
    asked = []

    async def transcode(syntax):
        asked.append(syntax)
        return MemoryBody(data_set(CAPTURE.content))

    refused = 409, module(failed=[(UID, 0xC122)])
    service = Service(refused, STORED)
    done = await stored(service, transcode, outgoing(syntax=JPEG2000Lossless))
    assert asked == [EXPLICIT_LITTLE_ENDIAN] == [done.transfer_syntax_uid]
    first, second = (dcmread(io.BytesIO(f), stop_before_pixels=True).file_meta.TransferSyntaxUID for f in service.files)
    assert (first, second) == (JPEG2000Lossless, EXPLICIT_LITTLE_ENDIAN)
    service = Service(refused)
    with pytest.raises(OperationFailed, match="C122"):
        await stored(service, transcode, outgoing(syntax=JPEG2000Lossless))
    assert len(service.files) == 2


# -- Orthanc


@pytest.fixture
async def by_stow(orthanc, start):
    """A viewer at a gateway that stores in Orthanc by STOW-RS."""
    await orthanc.add(*(i.content for i in SAMPLE))

    async def begin(**sections):
        gateway = await start(
            orthanc, pacs_options={"dicomweb_url": orthanc.dicomweb_url, "store": "stow-rs"}, **sections
        )
        return Viewer(gateway)

    return begin


async def test_a_capture_reaches_orthanc_and_the_next_access_shows_it(orthanc, by_stow, monkeypatch):
    async def never(*_):
        raise AssertionError("C-STORE")

    monkeypatch.setattr("gateway.pacs.scu.target.store", never)
    viewer = await by_stow()
    await viewer.upload(CAPTURE.content, STUDY)
    job = await viewer.stored()
    said = (await viewer.jobs.history(job.id))[-1].text
    assert f"stored in PACS orthanc (DICOMweb at {orthanc.dicomweb_url})" in said
    held = dcmread(io.BytesIO((await orthanc.instances(STUDY))[UID]))
    assert held.PixelData == dcmread(io.BytesIO(CAPTURE.content)).PixelData
    assert held.PatientID == dcmread(io.BytesIO(SAMPLE[0].content)).PatientID
    answer = await viewer.gateway.ask(STUDY)
    assert len(answer["urls"]) == len(SAMPLE) + 1


async def test_another_instance_of_the_same_uid_that_orthanc_holds_is_never_replaced(orthanc, by_stow):
    other = dcmread(io.BytesIO(CAPTURE.content))
    other.ImageComments = "the one that was there before"
    written = io.BytesIO()
    other.save_as(written)
    await orthanc.add(written.getvalue())
    viewer = await by_stow()
    await viewer.upload(CAPTURE.content, STUDY)
    assert "holds another instance of its SOP Instance UID" in await viewer.held()
    assert (await orthanc.instances(STUDY))[UID] == written.getvalue()


async def test_what_orthanc_refuses_is_not_taken_for_stored(orthanc):
    web_service = DicomWeb(WebPeer("main", orthanc.dicomweb_url), stores=True)
    try:
        target = StowTarget(web_service)
        with pytest.raises((OperationFailed, RequestRefused)):
            await target.store("1.2.3.4.5", outgoing(), untouched)  # of another study
        assert not await target.holds(STUDY, "", UID)
        await target.store(STUDY, outgoing(), untouched)
        assert await target.holds(STUDY, "", UID)
        await target.store(STUDY, outgoing(), untouched)  # again, as after a crash
    finally:
        await web_service.close()


async def test_a_pacs_that_is_away_gets_the_capture_when_it_is_back(orthanc, by_stow, monkeypatch):
    monkeypatch.setattr("gateway.journal.jobs.FIRST_PAUSE", 0.05)
    viewer = await by_stow()
    real, left = DicomWeb.post, [2]

    @asynccontextmanager
    async def failing(self, *arguments, **options):
        if left[0]:
            left[0] -= 1
            raise PacsUnreachable("away")
        async with real(self, *arguments, **options) as answer:
            yield answer

    monkeypatch.setattr(DicomWeb, "post", failing)
    await viewer.upload(CAPTURE.content, STUDY)
    assert (await viewer.stored()).state is JobState.DONE
    assert UID in await orthanc.instances(STUDY)


async def test_a_pacs_without_title_host_and_port_is_opened_stored_in_and_checked(orthanc, start, caplog):
    await orthanc.add(*(i.content for i in SAMPLE[:2]))
    gateway = await start(
        {"name": "web", "retrieve": "wado-rs", "store": "stow-rs", "dicomweb_url": orthanc.dicomweb_url},
        cache={"watch_every": "10ms", "compare_every": "0s"},
    )
    viewer = Viewer(gateway)
    assert len((await gateway.ask(STUDY))["urls"]) == 2
    await gateway.parts.upkeep.round()
    await gateway.parts.verification.round()
    await viewer.upload(CAPTURE.content, STUDY)
    await viewer.stored()
    assert UID in await orthanc.instances(STUDY)
    results = [r async for r in gateway.checked()]
    assert told_by(results, "web").keys() == {"QIDO-RS", "WADO-RS", "STOW-RS"}
    assert all(r.ok for r in told_by(results, "web").values()), results
    letter = for_pacs(gateway.config, gateway.config.pacs[0])
    assert f"(DICOMweb at {orthanc.dicomweb_url})" in letter
    assert "DICOM node" not in letter
    assert not [r for r in caplog.records if r.levelname == "ERROR" or " at :0" in r.getMessage()]
    assert not gateway.parts.senders.names("", "127.0.0.1")


# -- check


def told_by(results, what):
    return {r.name.split(": ")[1]: r for r in results if r.name.startswith(f"PACS {what}: ")}


async def test_check_tries_stow_and_stores_nothing_and_asks_no_echo_of_a_pacs_without_a_dicom_port(orthanc, start):
    await orthanc.add(*(i.content for i in SAMPLE[:2]))
    web_only = describe(orthanc) | {
        "port": 1, "retrieve": "wado-rs", "store": "stow-rs", "dicomweb_url": orthanc.dicomweb_url
    }  # fmt: skip
    before = await orthanc.instances(STUDY)
    results = told_by([r async for r in (await start(web_only)).checked()], "orthanc")
    assert results.keys() == {"QIDO-RS", "WADO-RS", "STOW-RS"}
    assert all(r.ok for r in results.values()), results
    assert await orthanc.instances(STUDY) == before


@pytest.mark.parametrize("status", [200, 202, 204, 400, 409, 422])
async def test_a_service_that_has_read_a_request_without_an_instance_can_be_stored_in(status):
    async with probed(status) as (target, asked):
        assert f"HTTP status {status}" in await target.probe()
    assert asked[0].startswith('multipart/related; type="application/dicom"')


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (401, "may they store"), (403, "may they store"), (404, "the root of its DICOMweb service"),
        (405, "store to c-store"), (415, "store to c-store"), (501, "store to c-store"), (302, "https instead of http"),
        (500, "its own log"), (503, "its own log"),
    ],
)  # fmt: skip
async def test_a_service_that_cannot_be_stored_in_is_told_of_with_the_mend(status, fix):
    async with probed(status) as (target, _):
        with pytest.raises(RequestRefused, match=fix):
            await target.probe()


@asynccontextmanager
async def probed(status):
    asked = []

    async def store(request):
        asked.append(request.headers["Content-Type"])
        await request.read()
        return web.Response(status=status, headers={"Location": "http://10.9.9.9/"} if status == 302 else {})

    app = web.Application()
    app.router.add_post("/dicom-web/studies", store)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    client = DicomWeb(WebPeer("main", f"http://127.0.0.1:{port}/dicom-web"), stores=True)
    try:
        yield StowTarget(client), asked
    finally:
        await client.close()
        await runner.cleanup()
