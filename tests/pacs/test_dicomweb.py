"""DICOMweb as a client: queries, multipart answers, and services that are wrong, slow, partial or cut off.

Against a service that is scripted answer by answer; Orthanc has its turn in tests/studies/test_retrieve.py.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.demo.sample import sample_study
from gateway.dicom.elements import MalformedDataSet
from gateway.dicom.part10 import file_header, read_file_meta
from gateway.pacs.dicomweb.json_model import _number, first_value, study_record
from gateway.pacs.dicomweb.multipart import MalformedMultipart, Mark, MultipartReader
from gateway.pacs.dicomweb.qido import QidoFinder
from gateway.pacs.dicomweb.service import DicomWeb, WebPeer, basic, bearer
from gateway.pacs.dicomweb.wado import WadoRetriever, _boundary
from gateway.pacs.errors import PacsError, PacsUnreachable, ProtocolViolation, RequestRefused
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.peer import Timeouts
from gateway.pacs.receiver import Sender
from gateway.pacs.scu.retrieve import Selection
from gateway.runtime.spools import Spools
from tests.conftest import data_set
from tests.pacs.test_get import Taken

STUDY, SAMPLE = sample_study()
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}
BOUNDARY = "b0undary"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def multipart(*parts, header=b"Content-Type: application/dicom\r\n", end=b"--\r\n"):
    delimiter = b"\r\n--" + BOUNDARY.encode()
    return b"".join(delimiter + b"\r\n" + header + b"\r\n" + part for part in parts) + delimiter + end


def read(body, cuts=()):
    """The parts of a body that comes in pieces, and whether it was whole."""
    reader, parts = MultipartReader(BOUNDARY), []
    edges = [0, *sorted(min(c, len(body)) for c in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        for event in reader.feed(body[start:end]):
            if event is Mark.BEGIN:
                parts.append(b"")
            elif event is not Mark.END:
                parts[-1] += bytes(event)
    return parts, reader.finished


# Bytes that look like delimiters are the ones that matter.
pieces = st.lists(st.sampled_from([b"\r\n", b"--", b"\r", b"\n", b"-", b"b0undar", b"x" * 50, b"\r\n--b0undar", b"\0"]))
contents = pieces.map(b"".join).filter(lambda c: b"\r\n--" + BOUNDARY.encode() not in c + b"\r\n-")


@given(st.lists(contents, max_size=4), st.lists(st.integers(0, 400), max_size=30), st.sampled_from([b"", b"A: b\r\n"]))
@example([b""], [], b"")
@example([b"\r\n"], list(range(100)), b"A: b\r\n")
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(parts, cuts, header):
    assert read(multipart(*parts, header=header), cuts) == (parts, True)


@given(st.lists(contents, min_size=1, max_size=3), st.data())
def test_a_body_that_was_cut_off_is_never_taken_for_a_whole_one(parts, data):
    body = multipart(*parts, end=b"--")
    assert not read(body[: data.draw(st.integers(0, len(body) - 1))])[1]


@pytest.mark.parametrize(
    "body",
    [b"x" * 100_000, b"\r\n--b0undaryX\r\n\r\n", multipart(header=b"")[:-4] + b"\r\nA: " + b"x" * 20_000],
    ids=["no part", "junk after the delimiter", "endless header"],
)
def test_what_is_no_multipart_body_is_an_error_and_not_held(body):
    with pytest.raises(MalformedMultipart):
        read(body)


def test_an_empty_line_may_be_shared_and_a_preamble_has_no_meaning():
    assert read(b"preamble\r\n--b0undary \t\r\nA: b\r\n\r\n--b0undary--epilogue") == ([b""], True)
    assert read(b"--b0undary\r\n\r\nfirst\r\n--b0undary--") == ([b"first"], True)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (RELATED, BOUNDARY), ('multipart/related; boundary="a b:c"', "a b:c"), ("multipart/related", ""),
        ("application/dicom", ""), ("", ""), ("multipart/related; boundary=" + "x" * 300, ""),
        ("multipart/mixed; boundary=x", ""), ("multipart/related; boundary=é", ""),
    ],
)  # fmt: skip
def test_boundaries_are_read_from_the_content_type(content_type, boundary):
    assert _boundary(content_type) == boundary


@given(st.integers(0, 2000))
def test_file_meta_is_read_as_soon_as_it_is_there(cut):
    header = file_header("1.2.3", "1.2.3.4", "1.2.840.10008.1.2.5")
    found = read_file_meta(memoryview((header + b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + b"\0" * 2000)[:cut]))
    if cut < len(header) + 12:
        assert found is None
    else:
        assert (found.sop_class_uid, found.sop_instance_uid) == ("1.2.3", "1.2.3.4")
        assert (found.transfer_syntax_uid, found.data_offset) == ("1.2.840.10008.1.2.5", len(header))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_file_meta_never_crash_its_reader(data):
    for head in (data, b"\0" * 128 + b"DICM" + data, b"\0" * 128 + b"DICM\2\0" + data):
        with suppress(MalformedDataSet):
            read_file_meta(memoryview(head))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["Value", "Alphabetic", "vr", "x"]), v),
)


@given(st.dictionaries(st.sampled_from(["0020000D", "00100010", "00201208"]), json_values))
def test_no_answer_in_json_crashes_a_query(answer):
    study_record(answer)


def test_values_of_the_json_model_are_read_as_their_vr_has_them():
    answer = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
        "00201208": {"vr": "IS", "Value": [12]},
        "00201206": {"vr": "IS", "Value": ["3"]},
        "00081030": {"vr": "LO"},
    }
    record = study_record(answer)
    assert (record.patient_name, record.instances, record.series) == ("Yamada^Tarou=山田^太郎", 12, 3)
    assert first_value(answer, 0x00081030) == ""
    assert _number({"00201208": {"Value": [0]}}, 0x00201208) is None  # unknown, not zero (field note 3)


@asynccontextmanager
async def service(handler, *, tls=None, scheme="http", tmp_path=None, spools=None, **peer):
    """A DICOMweb service that is *handler*; gives what finds in it, and a retriever."""
    app = web.Application()
    app.router.add_get("/dicom-web/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    timeouts = Timeouts(**{"idle": 5.0, "respond": 5.0, **peer.pop("timeouts", {})})
    client = DicomWeb(WebPeer("main", f"{scheme}://127.0.0.1:{port}/dicom-web", timeouts=timeouts, **peer))
    try:
        spools = Spools(tmp_path, **(spools or {}))
        yield QidoFinder(client), WadoRetriever(client, sender=Sender("PACS", "US", "127.0.0.1"), spools=spools)
    finally:
        await client.close()
        await runner.cleanup()


async def get(retriever, taken, *selected, total_limit=10.0):
    await retriever.retrieve(
        Selection(STUDY, *selected),
        turn=Claim(Lane.RETRIEVE),
        deliver=taken,
        last_arrival=lambda: 0.0,
        total_limit=total_limit,
    )


def answers(*uids, series="1.2.9"):
    return [
        {"0020000E": {"Value": [series]}, "00080018": {"Value": [u]}, "00080016": {"Value": ["1.2.5"]}} for u in uids
    ]


def pages(respond):
    async def handler(request):
        limit, offset = int(request.query["limit"]), int(request.query["offset"])
        found, headers = respond(limit, offset)
        return web.json_response(found, headers=headers, content_type="application/dicom+json")

    return handler


ALL = [f"1.2.9.{n}" for n in range(1, 1201)]


async def test_a_list_is_asked_for_page_by_page_until_it_ends():
    asked, told = [], []

    def respond(limit, offset):
        asked.append(offset)
        return answers(*ALL[offset : offset + limit]), {}

    async with service(pages(respond)) as (finder, _):
        listing = await finder.list_instances(STUDY, told.extend)
    assert listing.complete
    assert [i.sop_instance_uid for i in listing.instances] == ALL == [i.sop_instance_uid for i in told]
    assert asked == [0, 100, 600, 1100, 1200]
    assert {i.sop_class_uid for i in listing.instances} == {"1.2.5"}


async def test_a_warning_that_there_is_more_is_followed_and_never_taken_for_the_end():
    """A service with a limit of its own, lower than ours: ``Warning: 299`` (PS3.18 §8.3.4.4)."""
    warning = {"Warning": '299 PACS: "There are additional results that can be requested"'}

    def respond(limit, offset):
        page = ALL[offset : offset + 100]
        return answers(*page), warning if offset + 100 < len(ALL) else {}

    async with service(pages(respond)) as (finder, _):
        listing = await finder.list_instances(STUDY)
    assert listing.complete
    assert len(listing.instances) == len(ALL)

    async with service(pages(lambda limit, offset: (answers(*ALL[offset:80]), warning))) as (finder, _):
        listing = await finder.list_instances(STUDY)
    assert not listing.complete
    assert "says that there are more than it lists" in listing.reason
    assert len(listing.instances) == 80


async def test_a_service_that_caps_its_pages_without_a_word_is_asked_on():
    async with service(pages(lambda limit, offset: (answers(*ALL[offset : offset + 50]), {}))) as (finder, _):
        listing = await finder.list_instances(STUDY)
    assert (listing.complete, len(listing.instances)) == (True, len(ALL))


async def test_a_service_that_knows_no_paging_is_understood_or_known_to_be_partial():
    async with service(pages(lambda limit, offset: (answers(*ALL), {}))) as (finder, _):
        listing = await finder.list_instances(STUDY)
    assert (listing.complete, len(listing.instances)) == (True, len(ALL))
    async with service(pages(lambda limit, offset: (answers(*ALL[:33]), {}))) as (finder, _):
        assert (await finder.list_instances(STUDY)).complete
    async with service(pages(lambda limit, offset: (answers(*ALL[:limit]), {}))) as (finder, _):
        listing = await finder.list_instances(STUDY)
    assert (listing.complete, len(listing.instances)) == (False, 500)
    assert "same instances on every page" in listing.reason


async def test_instances_of_other_studies_and_what_is_no_uid_are_left_out():
    foreign = {"0020000D": {"Value": ["1.9"]}} | answers("1.2.3")[0]
    async with service(pages(lambda limit, offset: ([foreign, *answers("1.2.*", "..", "1.2.4")], {}))) as (finder, _):
        listing = await finder.list_instances(STUDY)
    assert [i.sop_instance_uid for i in listing.instances] == ["1.2.4"]


@pytest.mark.parametrize(
    ("studies", "instances", "patient"),
    [
        ([{"00100020": {"Value": ["42"]}}], ["1.2.4"], "42"),
        ([{"00100020": {"Value": ["42"]}}, {"00100020": {"Value": ["43"]}}], ["1.2.4"], ""),
        ([{"00100020": {"Value": ["42"]}}, {"0020000D": {"Value": ["1.9"]}}], ["1.2.4"], ""),
        ([{"00100020": {"Value": ["42"]}}], [], None),
        ([{"0020000D": {"Value": ["1.9"]}, "00100020": {"Value": ["42"]}}], ["1.2.4"], None),
    ],
    ids=["one answer", "several", "one of another study", "no instances", "another study's alone"],
)
async def test_a_study_whose_answer_does_not_name_it_is_there_where_it_has_instances(studies, instances, patient):
    async def handler(request):
        found = answers(*instances) if request.path.endswith("/instances") else studies
        return web.json_response(found, content_type="application/dicom+json")

    async with service(handler) as (finder, _):
        record = await finder.find_study(STUDY)
    assert (record and record.patient_id) == patient
    assert record is None or record.study_instance_uid == STUDY


@pytest.mark.parametrize("status", [200, 204])
async def test_no_match_is_no_study(status):
    async def handler(request):
        return web.Response(status=status, text="[]" if status == 200 else None)

    async with service(handler) as (finder, _):
        assert await finder.find_study(STUDY) is None
        assert not (await finder.list_instances(STUDY)).complete


@pytest.mark.parametrize(
    ("status", "transient", "fix"),
    [
        (401, False, "dicomweb_user"), (403, False, "may they read studies"), (404, False, "such as https://pacs/dicom-web"),
        (302, False, "https instead of http"), (406, False, "choose another method"), (500, True, "its own log"),
        (503, True, "its own log"),
    ],
)  # fmt: skip
async def test_each_refusal_names_its_fix(tmp_path, status, transient, fix):
    async def handler(request):
        return web.Response(status=status, headers={"Location": "http://10.9.9.9/"} if status == 302 else {})

    async with service(handler, tmp_path=tmp_path) as (finder, retriever):
        for request in (finder.find_study(STUDY), get(retriever, Taken())):
            with pytest.raises(RequestRefused, match=fix) as e:
                await request
            assert (e.value.status, e.value.transient) == (status, transient)


@pytest.mark.parametrize(("authorization", "sent"), [(basic("us", "pä:ss"), "Basic "), (bearer("t0ken"), "Bearer ")])
async def test_credentials_are_sent_and_never_shown(authorization, sent):
    seen = []

    async def handler(request):
        seen.append(request.headers["Authorization"])
        return web.Response(status=401)

    async with service(handler, authorization=authorization) as (finder, _):
        with pytest.raises(RequestRefused) as e:
            await finder.find_study(STUDY)
        secret = authorization.split()[1]
        assert secret not in f"{e.value} {finder.web.peer} {finder.web.peer!r}"
    assert seen == [authorization]
    assert authorization.startswith(sent)


@pytest.mark.parametrize("body", ["<html>", '{"a": 1}', "[" * 100_000])
async def test_what_is_no_list_in_json_is_told(body):
    async def handler(request):
        return web.Response(text=body)

    async with service(handler) as (finder, _):
        with pytest.raises(ProtocolViolation, match=r"something other than"):
            await finder.find_study(STUDY)


async def test_an_endless_answer_is_not_held(monkeypatch):
    monkeypatch.setattr("gateway.pacs.dicomweb.qido.MAX_PAGE", 100_000)

    async def handler(request):
        return web.Response(text=" " * 200_000)

    async with service(handler) as (finder, _):
        with pytest.raises(ProtocolViolation, match="more than 100000 bytes"):
            await finder.find_study(STUDY)


async def test_parts_are_delivered_as_they_are_held_and_a_large_one_goes_through_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.pacs.dicomweb.wado.SPOOL_ABOVE", 20_000)
    accepts = []

    async def handler(request):
        accepts.append(request.headers["Accept"])
        body = multipart(*(i.content for i in SAMPLE))
        answer = web.StreamResponse(headers={"Content-Type": RELATED})
        await answer.prepare(request)
        for at in range(0, len(body), 7001):
            await answer.write(body[at : at + 7001])
        return answer

    taken = Taken()
    async with service(handler, tmp_path=tmp_path) as (_, retriever):
        await get(retriever, taken)
    assert taken.data == HELD
    assert taken.spooled == {uid for uid, d in HELD.items() if len(d) >= 20_000} != set()
    assert accepts == ['multipart/related; type="application/dicom"; transfer-syntax=*']
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spool_above", [20_000, 10_000_000])
async def test_a_part_that_is_larger_than_what_is_taken_is_refused_and_costs_no_other(
    tmp_path, monkeypatch, caplog, spool_above
):
    monkeypatch.setattr("gateway.pacs.dicomweb.wado.SPOOL_ABOVE", spool_above)

    async def handler(request):
        return web.Response(body=multipart(*(i.content for i in SAMPLE)), headers={"Content-Type": RELATED})

    taken, largest = Taken(), max(map(len, HELD.values())) - 1
    async with service(handler, tmp_path=tmp_path, spools={"largest": largest}) as (_, retriever):
        await get(retriever, taken)
    assert taken.data == {uid: content for uid, content in HELD.items() if len(content) <= largest} != HELD
    assert any("raise dicom.max_instance_size" in r.getMessage() for r in caplog.records)


async def test_a_part_without_an_end_ends_the_answer(tmp_path):
    async def handler(request):
        return web.Response(body=multipart(*(i.content for i in SAMPLE)), headers={"Content-Type": RELATED})

    async with service(handler, tmp_path=tmp_path, spools={"largest": 1_000}) as (_, retriever):
        with pytest.raises(ProtocolViolation, match="without an end"):
            await get(retriever, Taken())


async def test_where_there_is_no_room_for_a_part_the_mend_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.pacs.dicomweb.wado.SPOOL_ABOVE", 100)

    async def handler(request):
        return web.Response(body=multipart(*(i.content for i in SAMPLE)), headers={"Content-Type": RELATED})

    async with service(handler, tmp_path=tmp_path, spools={"keeps_free": 1 << 60}) as (_, retriever):
        with pytest.raises(PacsError, match=r"half of cache\.min_free"):
            await get(retriever, Taken())


@pytest.mark.parametrize("cut", [0.5, 0.999])
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_that_was_cut_off_is_told_and_what_was_whole_is_kept(tmp_path, cut, chunked):
    body = multipart(*(i.content for i in SAMPLE))
    body = body[: int(len(body) * cut)]

    async def handler(request):
        if not chunked:
            return web.Response(body=body, headers={"Content-Type": RELATED})
        answer = web.StreamResponse(headers={"Content-Type": RELATED})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(body)
        request.transport.abort() if cut == 0.5 else None
        return answer

    taken = Taken()
    async with service(handler, tmp_path=tmp_path) as (_, retriever):
        with pytest.raises(PacsUnreachable, match=r"ended its answer before it was whole|broke off"):
            await get(retriever, taken)
    assert len(taken.data) < len(SAMPLE)
    assert all(HELD[uid] == data for uid, data in taken.data.items())


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("text/html", b"<html>", "instead of multipart/related"),
        (RELATED, b"x" * 100_000, "no multipart body"),
        (RELATED, multipart(b"no DICOM file" * 100), "1 parts that are no DICOM files"),
    ],
)
async def test_what_is_no_retrieve_answer_is_told(tmp_path, content_type, body, said):
    async def handler(request):
        return web.Response(body=body, headers={"Content-Type": content_type})

    async with service(handler, tmp_path=tmp_path) as (_, retriever):
        with pytest.raises(ProtocolViolation, match=said):
            await get(retriever, Taken())


async def test_one_unreadable_part_costs_no_other(tmp_path):
    async def handler(request):
        return web.Response(
            body=multipart(SAMPLE[0].content, b"junk" * 99, SAMPLE[1].content), headers={"Content-Type": RELATED}
        )

    taken = Taken()
    async with service(handler, tmp_path=tmp_path) as (_, retriever):
        with pytest.raises(ProtocolViolation):
            await get(retriever, taken)
    assert set(taken.data) == {SAMPLE[0].sop_instance_uid, SAMPLE[1].sop_instance_uid}


@pytest.mark.slow
async def test_silence_and_endless_transfers_are_given_up(tmp_path):
    async def handler(request):
        if request.path.endswith("studies"):
            await asyncio.sleep(5)
        answer = web.StreamResponse(headers={"Content-Type": RELATED})
        await answer.prepare(request)
        await answer.write(multipart(SAMPLE[0].content)[:-20])
        await asyncio.sleep(5)
        return answer

    async with service(handler, tmp_path=tmp_path, timeouts={"idle": 0.3, "respond": 0.3}) as (finder, retriever):
        with pytest.raises(PacsUnreachable, match=r"did not answer within 0\.3 s"):
            await finder.find_study(STUDY)
        with pytest.raises(PacsUnreachable, match=r"silent for 0\.3 s in the middle"):
            await get(retriever, Taken())
    async with service(handler, tmp_path=tmp_path) as (finder, retriever):
        with pytest.raises(PacsUnreachable, match=r"took over 0\.3 s"):
            await get(retriever, Taken(), total_limit=0.3)


@pytest.mark.slow
async def test_a_taker_that_waits_stops_the_sender_and_this_is_no_silence(tmp_path):
    """Back-pressure: what lies between the two is bounded, whatever the study's size."""
    written, go_on = 0, asyncio.Event()
    one = file_header("1.2.3", "1.2.3.4", "1.2.840.10008.1.2") + b"\x08\0\x05\0\0\0\0\0" + bytes(1_000_000)

    async def handler(request):
        nonlocal written
        answer = web.StreamResponse(headers={"Content-Type": RELATED})
        await answer.prepare(request)
        for _ in range(60):
            await answer.write(multipart(one).removesuffix(multipart()))
            written += len(one)
        await answer.write(multipart())
        return answer

    async def taken(instance):
        instance.body.close()
        await go_on.wait()
        return 0

    async with service(handler, tmp_path=tmp_path, timeouts={"idle": 0.5}) as (_, retriever):
        getting = asyncio.create_task(get(retriever, taken))
        await asyncio.sleep(1.0)
        assert not getting.done()
        assert 0 < written < 30_000_000
        go_on.set()
        await asyncio.wait_for(getting, 10)
    assert written == 60 * len(one)


async def test_one_instance_that_is_gone_costs_no_other(tmp_path):
    chosen = [i.sop_instance_uid for i in SAMPLE[:5]]
    by_uid = {i.sop_instance_uid: i.content for i in SAMPLE}

    async def handler(request):
        uid = request.path.rsplit("/", 1)[1]
        if uid == chosen[2]:
            return web.Response(status=404)
        return web.Response(body=multipart(by_uid[uid]), headers={"Content-Type": RELATED})

    taken = Taken()
    async with service(handler, tmp_path=tmp_path) as (_, retriever):
        with pytest.raises(RequestRefused, match="404"):
            await get(retriever, taken, "1.2.9", tuple(chosen))
    assert set(taken.data) == set(chosen) - {chosen[2]}


async def test_no_more_requests_run_at_once_than_may(tmp_path):
    """One of the three is kept for a query."""
    running = most = 0

    async def handler(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return web.Response(body=multipart(SAMPLE[0].content), headers={"Content-Type": RELATED})

    async with service(handler, tmp_path=tmp_path, max_connections=3) as (_, retriever):
        await get(retriever, Taken(), "1.2.9", tuple(f"1.2.9.{n}" for n in range(1, 11)))
    assert most == 2


async def test_nobody_there_is_told():
    client = DicomWeb(WebPeer("main", "http://127.0.0.1:1/dicom-web"))
    with pytest.raises(PacsUnreachable, match=r"cannot be reached .* is dicomweb_url right"):
        await QidoFinder(client).find_study(STUDY)
    await client.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, its own authority, and the server's context with it."""
    assert shutil.which("openssl"), "apt-get install openssl"
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=pacs", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return cert, server


async def test_a_certificate_counts_exactly_when_its_authority_is_given(certificate):
    cert, server = certificate

    async def handler(request):
        return web.Response(text=json.dumps([{"0020000D": {"Value": [STUDY]}}]))

    trusted = ssl.create_default_context(cafile=str(cert))
    async with service(handler, tls=server, scheme="https") as (finder, _):
        with pytest.raises(PacsUnreachable, match="is its authority in dicomweb_ca_file"):
            await finder.find_study(STUDY)
        known = DicomWeb(WebPeer("main", finder.web.peer.url, tls=trusted))
        found = await QidoFinder(known).find_study(STUDY)
        await known.close()
    assert found.study_instance_uid == STUDY
