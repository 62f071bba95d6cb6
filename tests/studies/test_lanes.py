"""Nobody waits behind somebody else: several PACS, several studies, and what a PACS does not answer."""

from __future__ import annotations

import asyncio
import socket

import pytest
from pydicom.uid import generate_uid

from gateway.demo.sample import sample_study, synthetic_ct
from gateway.pacs.peer import Peer
from gateway.pacs.scu.store import OutgoingInstance, store
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies.outcome import Complete
from tests.conftest import data_set
from tests.rig.simulator import PacsSimulator

STUDY, SAMPLE = sample_study()


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


@pytest.fixture
def silent():
    """A PACS that takes TCP connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        yield {"name": "silent", "ae_title": "SILENT", "host": "127.0.0.1", "port": port}


async def test_a_silent_pacs_before_the_one_that_has_the_study_costs_nothing(pacs, silent, start):
    gateway = await start(silent, pacs)
    async with asyncio.timeout(5):  # its time-out is ten seconds
        answer = await gateway.ask(STUDY)
    assert len(answer["urls"]) == len(SAMPLE)
    assert "error" not in answer


async def test_a_pacs_that_does_not_answer_is_told_and_forgiven(pacs, silent, start):
    gateway = await start(silent, pacs, pacs_options={"respond_timeout": "200ms"})
    breaker = gateway.parts.pacs[0].client.breaker
    gateway.parts.pacs[0].client.peer = Peer("silent", "SILENT", "127.0.0.1", 1, "US")  # refuses at once
    for _ in range(4):
        await gateway.parts.fetcher.fetch(STUDY).ended(30)
    assert breaker.trouble
    async with gateway.http.get(gateway.config.gateway_url + "/health") as answer:
        assert (answer.status, (await answer.json())["pacs"]) == (
            200, {"silent": "not answering", "simulator": "ok"}
        )  # fmt: skip
    told = [r async for r in gateway.checked() if r.name == "PACS silent: answers"]
    assert "times in a row" in told[0].text
    peer = gateway.parts.pacs[1].client.peer
    gateway.parts.pacs[0].client.peer = peer
    await gateway.parts.pacs[0].client.echo()
    assert not breaker.trouble


async def test_of_two_pacs_that_both_have_a_study_the_first_in_the_list_serves_it(pacs, start):
    with PacsSimulator("SECOND") as second:
        second.add(*(i.content for i in SAMPLE))
        gateway = await start(pacs, second)
        assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(30), Complete)
    assert not [r for r in second.requests if r.startswith("MOVE")]


@pytest.mark.own_habits("how much a PACS lists in four seconds decides")
async def test_four_silent_moves_keep_no_fifth_study_from_being_listed_and_no_capture_from_being_stored(
    pacs, start, monkeypatch
):
    others = [sample_study() for _ in range(4)]
    for _, sample in others:
        pacs.add(*(i.content for i in sample))
    gateway = await start(pacs, avara={"answer_within": "4s"})
    pacs.behaviour.silent_moves = True
    flights = [gateway.parts.fetcher.fetch(study) for study, _ in others]
    async with asyncio.timeout(60):
        while sum(r == "MOVE STUDY" for r in pacs.requests) < 2 or any(f.expected is None for f in flights):
            await asyncio.sleep(0.02)
    answer = await gateway.ask(STUDY)
    assert len(answer["urls"]) == len(SAMPLE)  # deferred ones: all is listed
    one = SAMPLE[0]
    body = MemoryBody(data_set(one.content))
    instance = OutgoingInstance("1.2.840.10008.5.1.4.1.1.2", one.sop_instance_uid, "1.2.840.10008.1.2.1", body)
    async with asyncio.timeout(10):
        await store(gateway.parts.pacs[0].client, instance, None)
    assert all(f.outcome is None for f in flights)
    pacs.behaviour.silent_moves = False
    for flight in flights:
        assert isinstance(await flight.ended(60), Complete)


@pytest.mark.own_habits("when its instances are sent decides")
async def test_a_small_study_is_not_behind_what_a_large_one_has_waiting_for_the_store(pacs, start, monkeypatch):
    """Every PUT takes a while, the large study has more of them than there are turns, and the small one comes last."""
    large = generate_uid(None)
    pacs.add(*(i.content for i in synthetic_ct(large, 200, 8, 8)))
    gateway = await start(pacs)
    put, asked = gateway.parts.store.put, asyncio.Event()

    async def slow(key, parts, *, content_type):
        if "/instances/" in key:
            await asked.wait()
            await asyncio.sleep(0.3)
        await put(key, parts, content_type=content_type)

    monkeypatch.setattr(gateway.parts.store, "put", slow)
    first = gateway.parts.fetcher.fetch(large)
    async with asyncio.timeout(90):
        while len(first.puts) < 60:
            await asyncio.sleep(0.02)
    second = gateway.parts.fetcher.fetch(STUDY)
    asked.set()
    assert isinstance(await second.ended(60), Complete)
    assert first.outcome is None
    assert isinstance(await first.ended(60), Complete)


async def test_an_empty_series_does_not_stop_the_listing_of_those_after_it(pacs, start):
    pacs.behaviour.empty_series = 2
    pacs.behaviour.silent_moves = True
    gateway = await start(pacs, avara={"answer_within": "3s"})
    flight = gateway.parts.fetcher.fetch(STUDY)
    async with asyncio.timeout(20):
        while len(flight.expected or ()) < len(SAMPLE):
            await asyncio.sleep(0.02)
    pacs.behaviour.silent_moves = False
    assert isinstance(await flight.ended(30), Complete)


async def test_a_small_study_beside_a_large_one_takes_no_more_than_twice_its_time_alone(simulator, start):
    """The PACS takes as long for each instance, whoever asks: so the one does not wait for the other. A second more is
    left to the machine."""
    large = generate_uid(None)
    small = [generate_uid(None) for _ in range(2)]
    simulator.add(*(i.content for i in synthetic_ct(large, 200, 8, 8)))
    for study in small:
        simulator.add(*(i.content for i in synthetic_ct(study, 10, 8, 8)))
    simulator.behaviour.delay_per_instance = 0.1
    gateway = await start(simulator)
    clock = asyncio.get_running_loop().time

    async def takes(study):
        began = clock()
        assert isinstance(await gateway.parts.fetcher.fetch(study).ended(60), Complete)
        return clock() - began

    alone = await takes(small[0])
    flight = gateway.parts.fetcher.fetch(large)
    while len(flight.stored) < 5:
        await asyncio.sleep(0.02)
    beside = await takes(small[1])
    assert flight.outcome is None
    assert beside <= 2 * alone + 1.0
