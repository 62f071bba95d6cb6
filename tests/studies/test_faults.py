"""What is promised when the machine, the store or the process fails in the middle of a fetch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from datetime import datetime

import aiohttp
import pytest

from gateway.demo.sample import sample_study
from gateway.journal import JournalError
from gateway.objects import StoreUnavailable
from gateway.studies import keys
from gateway.studies.outcome import Complete, NotStored
from tests.conftest import AE_TITLE, KEY, describe
from tests.rig.ports import free_port

STUDY, SAMPLE = sample_study()


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


def failing(put, *, times):
    """*put*, which fails so many times for each instance first; and how often it was tried, by key."""
    tried = Counter()

    async def sometimes(key, parts, *, content_type):
        tried[key] += "/instances/" in key
        if tried[key] and tried[key] <= times:
            raise StoreUnavailable("away")
        await put(key, parts, content_type=content_type)

    return sometimes, tried


async def test_what_the_store_did_not_take_at_once_is_put_again_and_the_pacs_is_not_asked_for_it(
    pacs, start, monkeypatch
):
    gateway = await start(pacs)
    put, tried = failing(gateway.parts.store.put, times=2)
    monkeypatch.setattr(gateway.parts.store, "put", put)
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), Complete)
    assert [r for r in pacs.requests if r.startswith("MOVE")] == ["MOVE STUDY"]
    assert set(tried.values()) == {3, 0}


async def test_an_instance_that_did_not_reach_the_store_while_others_did_is_asked_for_again(pacs, start, monkeypatch):
    monkeypatch.setattr("gateway.studies.puts.PUT_AGAIN_AFTER", ())
    gateway = await start(pacs)
    put, failures = gateway.parts.store.put, 5

    async def sometimes(key, parts, *, content_type):
        nonlocal failures
        if "/instances/" in key and failures and (stored := gateway.parts.fetcher.flight(STUDY).stored):
            failures -= 1
            before = len(stored)
            while len(stored) == before:  # however slow the store is, another one comes through
                await asyncio.sleep(0.02)
            raise StoreUnavailable("away")
        await put(key, parts, content_type=content_type)

    monkeypatch.setattr(gateway.parts.store, "put", sometimes)
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), Complete)
    assert [r for r in pacs.requests if r.startswith("MOVE")][:2] == ["MOVE STUDY", "MOVE IMAGE 5"]


async def test_a_store_that_goes_away_is_told_and_the_next_request_succeeds(pacs, start, monkeypatch):
    """And while it is away, the PACS is not asked for the study again and again."""
    monkeypatch.setattr("gateway.studies.puts.PUT_AGAIN_AFTER", (0.1,))
    gateway = await start(pacs)
    with monkeypatch.context() as away:

        async def fail(*args, **kwargs):
            raise StoreUnavailable("the store is away")

        away.setattr(gateway.parts.store, "put", fail)
        away.setattr(gateway.parts.store, "put_stream", fail)
        assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), NotStored)
        assert [r for r in pacs.requests if r.startswith("MOVE")] == ["MOVE STUDY"]
        answer = await gateway.ask(STUDY)
        assert (answer["urls"], answer["error"]) == ([], "the gateway cannot store the study now; ask again later")
    assert len((await gateway.ask(STUDY))["urls"]) == len(SAMPLE)


async def test_an_instance_that_our_own_error_keeps_from_the_store_is_asked_for_again(pacs, start, monkeypatch):
    gateway = await start(pacs)
    put, failed = gateway.parts.store.put, []

    async def once(key, parts, *, content_type):
        if "/instances/" in key and not failed:
            failed.append(key)
            raise ZeroDivisionError
        await put(key, parts, content_type=content_type)

    monkeypatch.setattr(gateway.parts.store, "put", once)
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), Complete)
    assert len(failed) == 1


async def test_a_journal_whose_disk_hangs_keeps_nobody_from_a_cached_study(pacs, start):
    gateway = await start(pacs)
    await gateway.ask(STUDY)
    await gateway.quiet()
    goes_on = threading.Event()
    gateway.parts.journal._commits._thread.submit(goes_on.wait, 60)
    try:
        assert len((await gateway.ask(STUDY))["urls"]) == len(SAMPLE)
    finally:
        goes_on.set()


@pytest.mark.worst_but_for("how much a PACS lists in four seconds decides", ignores_keys=False)
async def test_a_store_that_takes_nothing_slows_what_it_would_take_and_nothing_else(simulator, start, monkeypatch):
    cached, cached_sample = sample_study()
    simulator.add(*(i.content for i in (*SAMPLE, *cached_sample)))
    gateway = await start(simulator, avara={"answer_within": "4s"})
    await gateway.ask(cached)
    await gateway.quiet()
    put, goes_on = gateway.parts.store.put, asyncio.Event()

    async def stalled(key, parts, *, content_type):
        await goes_on.wait()
        await put(key, parts, content_type=content_type)

    monkeypatch.setattr(gateway.parts.store, "put", stalled)
    monkeypatch.setattr(gateway.parts.intake._puts._room, "_size", 10_000)  # a few instances: the association stands
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await gateway.ask(STUDY)  # its instances cannot be stored: the answer leaves in time all the same
    assert loop.time() - began < 8
    assert len(answer["urls"]) == len(SAMPLE), answer
    assert gateway.parts.fetcher.flight(STUDY) is not None
    assert gateway.parts.intake._puts._room._taken.total() <= 30_000
    began = loop.time()
    assert len((await gateway.ask(cached))["urls"]) == len(cached_sample)
    await gateway.parts.echo_self()  # another association
    assert (await gateway.parts.store.head(keys.index(cached))) is not None
    assert loop.time() - began < 5
    goes_on.set()
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), Complete)


async def test_a_store_that_says_nothing_leaves_time_for_an_answer(simulator, start, monkeypatch):
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator, avara={"answer_within": "4s"})

    async def silent(key, **_):
        await asyncio.Event().wait()

    monkeypatch.setattr(gateway.parts.store, "get", silent)
    answer = await gateway.ask(STUDY)
    assert (answer["authorized"], answer["urls"]) == (True, [])
    assert "store is not available" in answer["error"]
    monkeypatch.undo()
    assert len((await gateway.ask(STUDY))["urls"]) == len(SAMPLE)


async def test_after_a_kill_in_mid_fetch_nothing_looks_whole_and_the_study_opens(pacs, tmp_path, weed):
    """kill -9, then a new start on the same state: no half study, and the next request fetches it all."""
    port, dicom_port = free_port(), free_port()
    path = tmp_path / "gateway.yaml"
    document = {
        "http": {"port": port, "public_url": f"http://127.0.0.1:{port}"},
        "avara": {"webhook_keys": [KEY], "answer_within": "20s"},
        "dicom": {"host": "127.0.0.1", "port": dicom_port},
        "pacs": [describe(pacs)],
        "store": {
            "endpoint": weed.endpoint,
            "access_key": weed.credentials.access_key,
            "secret_key": weed.credentials.secret_key,
            "secure": False,
            "bucket": f"killed-{port}",
        },
        "state_dir": str(tmp_path / "state"),
    }
    path.write_text(json.dumps(document))
    pacs.destinations[AE_TITLE] = ("127.0.0.1", dicom_port)
    pacs.behaviour.delay_per_instance = 0.1
    async with weed.store(f"killed-{port}") as store, aiohttp.ClientSession() as http:
        serving = await serve(path, http, port)
        asking = asyncio.create_task(ask(http, port))
        stored = 0
        async with asyncio.timeout(30):
            while stored < 5:
                stored = len([o async for o in store.list(keys.study(STUDY))])
                await asyncio.sleep(0.05)
        os.kill(serving.pid, signal.SIGKILL)
        await serving.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await store.head(keys.index(STUDY)) is None
        pacs.behaviour.delay_per_instance = 0.0
        again = await serve(path, http, port)
        try:
            answer = await ask(http, port)
            assert len(answer["urls"]) == len(SAMPLE)
            assert "error" not in answer
        finally:
            again.terminate()
            assert await again.wait() == 0


async def serve(path, http, port):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "serve", "-c", str(path), stdout=-3, stderr=-3
    )
    async with asyncio.timeout(30):
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{port}/health") as answer:
                    if answer.status == 200:
                        return process
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def ask(http, port):
    from gateway.avara.signature import sign

    data = {"studyId": "stu_1", "studyInstanceUid": STUDY}
    body = json.dumps({"id": "whe_1", "type": "study.access_requested", "data": data}).encode()
    async with http.post(f"http://127.0.0.1:{port}/webhooks/avara", data=body, headers=sign(KEY, "m", body)) as answer:
        return await answer.json()


async def test_a_store_that_is_away_when_asked_is_an_answer_and_not_a_crash(pacs, start, monkeypatch):
    gateway = await start(pacs)

    async def fail(key):
        raise StoreUnavailable("store at 10.1.2.3 is away")

    monkeypatch.setattr(gateway.parts.store, "get", fail)
    answer = await gateway.ask(STUDY)
    assert answer == {
        "authorized": True,
        "urls": [],
        "error": "the gateway's store is not available now; ask again later",
    }


async def test_a_journal_that_fails_does_not_keep_a_study_from_opening(pacs, start, monkeypatch):
    gateway = await start(pacs)

    async def fail(*args, **kwargs):
        raise JournalError("its disk is full")

    monkeypatch.setattr(gateway.parts.journal, "access", fail)
    assert len((await gateway.ask(STUDY))["urls"]) == len(SAMPLE)


async def test_health_tells_what_does_not_work_and_nothing_more(pacs, start, monkeypatch):
    monkeypatch.setattr("gateway.admin.health.FRESH", 0.0)
    gateway = await start(pacs)
    url = f"http://127.0.0.1:{gateway.config.http.port}/health"
    async with gateway.http.get(url) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "ok")
    await gateway.parts.scp.stop(drain_for=0.1)  # the process lives, the listener is dead (field note 25)
    async with gateway.http.get(url) as answer:
        said = await answer.json()
        assert answer.status == 503
        assert {name for name, state in said["checks"].items() if state != "ok"} == {"dicom_listener"}


async def test_a_loop_that_ended_shows_in_health_by_name_since_when_and_why(pacs, start, monkeypatch):
    gateway = await start(pacs)

    async def fail():
        raise OSError("/var/lib/somewhere/private is gone")

    url = f"http://127.0.0.1:{gateway.config.http.port}/health"
    loops = gateway.parts.loops
    before = {state.name for state in loops.states()}
    assert before >= {"inbox", "inbox notifications", "jobs"}
    await loops.remove("inbox")
    loops.add("inbox", fail)
    await asyncio.sleep(0.1)
    async with gateway.http.get(url) as answer:
        said = await answer.json()
        assert (answer.status, said["status"]) == (503, "failing")
        assert {name for name, loop in said["loops"].items() if loop["status"] != "ok"} == {"inbox"}
        assert said["loops"]["inbox"]["reason"].startswith("it ended")
        assert abs(datetime.fromisoformat(said["loops"]["inbox"]["since"]).timestamp() - time.time()) < 30
        assert "private" not in await answer.text()


async def test_every_dicom_socket_sends_at_once_and_acknowledges_at_once(pacs, start, monkeypatch):
    """TCP_NODELAY and TCP_QUICKACK, on what we accept and on what we request; QUICKACK again after each read."""
    from gateway.pacs.upper import link

    set_again = []
    acknowledge = link.Link._acknowledge_at_once

    def watch(self):
        acknowledge(self)
        assert self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        set_again.append(self)

    monkeypatch.setattr(link.Link, "_acknowledge_at_once", watch)
    gateway = await start(pacs)
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), Complete)
    links = set(set_again)
    assert len(links) >= 4  # ours to find, list and move; the PACS's to store
    assert all(set_again.count(one) >= 2 for one in links)
