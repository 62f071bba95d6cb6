"""The deadline always holds: the answer leaves in time with every URL, and those of instances that are still on
their way wait for them and give the same bytes.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.sample import sample_study
from gateway.studies.deferred import DeferredUrls
from tests.conftest import KEY, data_set
from tests.objects.test_faces import CASES, own

STUDY, SAMPLE = sample_study()
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}


@pytest.fixture
async def slow(simulator, start):
    """A gateway that answers once everything is listed, before a PACS that takes over three seconds to send it."""
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.1
    return await start(simulator, avara=AT_ONCE | {"allowed_origins": ["https://viewer.example"]})


AT_ONCE = {"answer": "listed", "answer_patience": "0s"}


def deferred(answer):
    return [url for url in answer["urls"] if "/deferred/" in url]


async def test_the_answer_leaves_in_time_and_lists_every_instance(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.5
    gateway = await start(simulator, avara={"answer": "complete", "answer_within": "4s"})
    began = time.monotonic()
    answer = await gateway.ask(STUDY)
    assert time.monotonic() - began < 4.0  # the promise itself, not a measure of speed
    assert answer["authorized"] is True
    assert "error" not in answer
    assert len(answer["urls"]) == len(SAMPLE)
    assert 0 < len(deferred(answer)) < len(SAMPLE)


async def test_deferred_urls_wait_and_give_the_same_bytes(slow):
    answer = await slow.ask(STUDY)
    opened = await asyncio.gather(*map(slow.open, answer["urls"]))
    assert sorted(map(data_set, opened)) == sorted(HELD.values())
    again = await slow.ask(STUDY)
    assert deferred(again) == []
    stored = dict(
        zip((u.split("?")[0].rsplit("/", 1)[1].removesuffix(".dcm") for u in again["urls"]), again["urls"], strict=True)
    )
    for url in deferred(answer)[:3]:
        uid = url.split("?")[0].rsplit("/", 1)[1]
        assert await slow.open(url) == await slow.open(stored[uid])


@pytest.mark.worst_but_for("it compares with the bytes of the files that the PACS holds", coerced_uids=False)
async def test_ranges_head_and_cors_are_those_of_the_store(slow):
    answer = await slow.ask(STUDY)
    url = deferred(answer)[0]
    whole = await slow.open(url)
    async with slow.http.get(url, headers={"Range": "bytes=128-131", "Origin": "https://viewer.example"}) as part:
        assert (part.status, await part.read()) == (206, b"DICM")
        assert part.headers["Content-Range"] == f"bytes 128-131/{len(whole)}"
        assert part.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
    async with slow.http.get(url, headers={"Range": f"bytes={len(whole)}-"}) as outside:
        assert outside.status == 416
    async with slow.http.head(url) as head:
        assert (head.status, int(head.headers["Content-Length"])) == (200, len(whole))
    preflight = {"Origin": "https://viewer.example", "Access-Control-Request-Headers": "range"}
    async with slow.http.options(url, headers=preflight) as allowed:
        assert (allowed.status, allowed.headers["Access-Control-Allow-Headers"]) == (204, "range")
    async with slow.http.put(url, data=b"x") as put:
        assert put.status == 405


@pytest.mark.worst_but_for("it compares with the bytes of the files that the PACS holds", coerced_uids=False)
async def test_the_finer_points_of_http_are_those_of_the_face(slow):
    """What is right, section by section, and what the stores themselves make of it: tests/objects/test_faces.py."""
    url = deferred(await slow.ask(STUDY))[0]
    whole = await slow.open(url)
    async with slow.http.head(url) as head:
        known = own(head.headers["ETag"], head.headers["Last-Modified"])
    for case in CASES:
        headers = {name: value.format(**known) for name, value in case.headers.items()}
        if case.status == 416:
            headers["Range"] = headers["Range"].replace("=10-", f"={len(whole)}-")
        async with slow.http.request(case.method, url, headers=headers) as answer:
            assert answer.status == case.status, case
            if case.method == "GET" and case.status == 200:
                assert await answer.read() == whole
            if case.status == 206:
                first, last = map(int, answer.headers["Content-Range"].split()[1].split("/")[0].split("-"))
                assert await answer.read() == whole[first : last + 1]


async def test_an_altered_or_expired_url_is_refused(slow):
    url = deferred(await slow.ask(STUDY))[0]
    uid = url.split("?")[0].rsplit("/", 1)[1]
    for wrong in (
        url.replace(uid, SAMPLE[0].sop_instance_uid if uid != SAMPLE[0].sop_instance_uid else "1.2"),
        url.replace("expires=", "expires=9"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.split("&")[0],
        url.split("?")[0],
    ):
        async with slow.http.get(wrong) as answer:
            assert answer.status == 403, wrong


@pytest.mark.worst_but_for("what never comes is waited for longer, the later the others came", answers_first=None)
async def test_an_instance_that_the_pacs_never_sends_is_a_clear_404(slow, simulator):
    simulator.behaviour.drop = {SAMPLE[-1].sop_instance_uid}
    answer = await slow.ask(STUDY)
    [url] = [u for u in answer["urls"] if SAMPLE[-1].sop_instance_uid in u]
    async with slow.http.get(url) as gone:
        assert gone.status == 404
        assert "did not deliver" in (await gone.json())["error"]


async def test_an_instance_that_does_not_come_in_time_is_a_504(slow, monkeypatch):
    monkeypatch.setattr("gateway.studies.deferred.WAIT", 0.05)
    answer = await slow.ask(STUDY)
    async with slow.http.get(deferred(answer)[-1]) as late:
        assert (late.status, late.headers["Retry-After"]) == (504, "5")


@pytest.mark.worst_but_for("it compares with the bytes of the files that the PACS holds", coerced_uids=False)
async def test_deferred_urls_work_across_a_restart(simulator, tmp_path, weed):
    import json

    import aiohttp

    from gateway import app
    from gateway.config import load
    from tests.conftest import RunningGateway, describe
    from tests.rig.ports import free_port

    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.1
    port, dicom_port = free_port(), free_port()
    path = tmp_path / "gateway.yaml"
    path.write_text(
        json.dumps(
            {
                "http": {"port": port, "public_url": f"http://127.0.0.1:{port}"},
                "avara": {"webhook_keys": [KEY], "answer": "listed", "answer_patience": "0s"},
                "dicom": {"host": "127.0.0.1", "port": dicom_port},
                "pacs": [describe(simulator)],
                "store": {
                    "endpoint": weed.endpoint,
                    "access_key": weed.credentials.access_key,
                    "secret_key": weed.credentials.secret_key,
                    "secure": False,
                    "bucket": f"restart-{port}",
                },
                "state_dir": str(tmp_path / "state"),
            }
        )
    )
    simulator.destinations["AVARAGW"] = ("127.0.0.1", dicom_port)
    config = load(path, {})
    async with aiohttp.ClientSession() as http:
        async with app.serving(config) as parts:
            answer = await RunningGateway(config, parts, http).ask(STUDY)
        simulator.behaviour.delay_per_instance = 0.0
        async with app.serving(config) as parts:
            gateway = RunningGateway(config, parts, http)
            urls = deferred(answer)
            opened = await asyncio.gather(*map(gateway.open, urls))
            for url, content in zip(urls, opened, strict=True):
                assert data_set(content) == HELD[url.split("?")[0].rsplit("/", 1)[1]]


@given(st.binary(min_size=1, max_size=40), st.integers(1, 1000))
def test_a_url_is_allowed_as_it_was_made_and_by_nobody_elses_secret(secret, seconds):
    urls = DeferredUrls(secret, "https://gateway.example")
    [url] = urls.urls("1.2", ["1.2.3"], expires_in=seconds)
    assert url.startswith("https://gateway.example/deferred/1.2/1.2.3?expires=")
    query = dict(part.split("=") for part in url.split("?")[1].split("&"))
    assert urls.allows("1.2", "1.2.3", query["expires"], query["signature"])
    assert not DeferredUrls(secret + b"x", "https://g").allows("1.2", "1.2.3", query["expires"], query["signature"])
    assert not urls.allows("1.2", "1.2.3", str(int(query["expires"]) + 1), query["signature"])


@given(st.text(max_size=20), st.text(max_size=80))
def test_no_query_makes_the_check_crash(expires, signature):
    assert not DeferredUrls(b"secret", "https://g").allows("1.2", "1.2.3", expires, signature)


def test_an_expired_url_is_refused_though_its_signature_is_right():
    urls = DeferredUrls(b"secret", "https://g")
    [url] = urls.urls("1.2", ["1.2.3"], expires_in=-1)
    query = dict(part.split("=") for part in url.split("?")[1].split("&"))
    assert not urls.allows("1.2", "1.2.3", query["expires"], query["signature"])
