"""The acceptance tests of every way of retrieving: the same promises, whichever method a PACS is configured with.

Against a real Orthanc, and against the simulator where a PACS has to misbehave. What each method does on the wire is
in tests/pacs: test_client.py (C-MOVE), test_get.py, test_dicomweb.py. Real images are in test_real_images.py.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.demo.orthanc import Orthanc
from gateway.demo.sample import sample_study
from gateway.pacs.scu.results import InstanceRef
from gateway.studies.deferred import DeferredUrls
from gateway.studies.flight import Flight
from gateway.studies.outcome import Complete, NotSent, Partial, Unreachable
from gateway.studies.queue import SeriesQueue
from tests.conftest import AE_TITLE, data_set

STUDY, SAMPLE = sample_study()
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}
UIDS = list(HELD)

METHODS = {
    "c-move": {},
    "c-move by series": {"parallel_series": 2},
    "c-get": {"retrieve": "c-get"},
    "wado-rs": {"retrieve": "wado-rs"},
}


def options(method, orthanc):
    chosen = dict(METHODS[method])
    return chosen | ({"dicomweb_url": orthanc.dicomweb_url} if method == "wado-rs" else {})


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


async def fetched(gateway, study=STUDY):
    ended = await gateway.parts.fetcher.fetch(study).ended(300)  # it takes one or two
    assert ended is not None, "the fetch did not end"
    return ended


async def stored(gateway, study=STUDY):
    """What the cache has of a study: SOP Instance UID → data set."""
    index = await gateway.parts.cache.index(study)
    answer = await gateway.ask(study)
    return dict(zip(index.instances, await gateway.data_sets(answer), strict=True))


async def test_a_whole_study_arrives_as_the_pacs_holds_it(orthanc, start, method):
    """Five SOP classes, three transfer syntaxes, one of them compressed."""
    await orthanc.add(*(i.content for i in SAMPLE))
    gateway = await start(orthanc, pacs_options=options(method, orthanc))
    assert isinstance(await fetched(gateway), Complete)
    assert await stored(gateway) == HELD
    assert counted(gateway, "instances_fetched") == {method.split()[0].upper(): len(HELD)}
    assert counted(gateway, "retrieve_retries") == {}


def counted(gateway, what):
    """A counter of the gateway's figures, by method."""
    (family,) = [f for f in gateway.parts.measures.registry.collect() if f.name == f"avara_gateway_{what}"]
    return {sample.labels["method"]: sample.value for sample in family.samples}


async def test_a_study_that_has_grown_is_completed(orthanc, start, method):
    await orthanc.add(*(i.content for i in SAMPLE[:20]))
    gateway = await start(orthanc, pacs_options=options(method, orthanc))
    assert len((await fetched(gateway)).index.instances) == 20
    await orthanc.add(*(i.content for i in SAMPLE[20:]))
    assert isinstance(await fetched(gateway), Complete)
    assert await stored(gateway) == HELD


async def test_a_study_that_qido_does_not_find_is_not_found(orthanc, start):
    gateway = await start(orthanc, pacs_options=options("wado-rs", orthanc))
    answer = await gateway.ask("1.2.3")
    assert (answer["authorized"], answer["urls"]) == (False, [])


@pytest.mark.parametrize("method", ["c-get", "wado-rs"])
async def test_nothing_has_to_reach_us(orthanc, start, method):
    """The first thing that a hospital's firewall refuses: a port of ours that the PACS connects to."""
    await orthanc.add(*(i.content for i in SAMPLE))
    gateway = await start(orthanc, pacs_options=options(method, orthanc))
    await gateway.parts.scp.stop(drain_for=0.1)
    assert isinstance(await fetched(gateway), Complete)
    assert await stored(gateway) == HELD


async def test_a_pacs_that_dies_in_the_middle_leaves_what_had_come_and_is_said_to_be_away(start, method, monkeypatch):
    async with Orthanc(dicomweb=True) as mortal:
        await mortal.add(*(i.content for i in SAMPLE))
        gateway = await start(mortal, pacs_options=options(method, mortal))
        put, count = gateway.parts.store.put, 0

        async def put_then_kill(key, parts, *, content_type):
            nonlocal count
            count += 1
            if count == 3:
                mortal._process.kill()
                await mortal._process.wait()
            await put(key, parts, content_type=content_type)

        with monkeypatch.context() as killing:
            killing.setattr(gateway.parts.store, "put", put_then_kill)
            ended = await fetched(gateway)
        # Where all was on its way already, the list was, too; else what there is, is said to be partial.
        assert isinstance(ended, Complete | Partial)
        assert await gateway.parts.cache.index(STUDY) == ended.index
    assert isinstance(await fetched(gateway), Unreachable)
    assert await stored(gateway) == {uid: HELD[uid] for uid in ended.index.instances}


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


def asked(pacs, what):
    return [r for r in pacs.requests if r.startswith(what)]


@pytest.mark.parametrize("first", ["c-move", "c-get"])
async def test_what_one_method_leaves_missing_the_next_one_brings(pacs, start, first):
    pacs.behaviour.drop = set(UIDS[3:6])
    pacs.behaviour.drops_only_in = {"c-move": "MOVE", "c-get": "GET"}[first]
    second = {"c-move": "c-get", "c-get": "c-move"}[first]
    gateway = await start(pacs, pacs_options={"retrieve": [first, second]})
    assert isinstance(await fetched(gateway), Complete)
    other = {"c-move": "MOVE", "c-get": "GET"}[second]
    assert asked(pacs, other) == [f"{other} IMAGE 3"]
    assert await stored(gateway) == HELD
    assert counted(gateway, "instances_fetched") == {first.upper(): len(HELD) - 3, second.upper(): 3}
    assert counted(gateway, "retrieve_retries")[second.upper()] == 1


async def test_what_a_c_get_silently_dropped_is_asked_for_again_by_instance(pacs, start):
    pacs.behaviour.drop, pacs.behaviour.drops_left = set(UIDS[3:6]), 1
    gateway = await start(pacs, pacs_options={"retrieve": "c-get"})
    assert isinstance(await fetched(gateway), Complete)
    assert asked(pacs, "GET") == [*["GET SERIES"] * 5, "GET IMAGE 3"]


@pytest.mark.parametrize("counters", ["zero", "absent"])
async def test_counters_of_a_get_prove_nothing(pacs, start, counters):
    pacs.behaviour.counters = counters
    gateway = await start(pacs, pacs_options={"retrieve": "c-get"})
    assert isinstance(await fetched(gateway), Complete)
    assert await stored(gateway) == HELD


async def test_a_move_that_cannot_reach_us_is_not_repeated_where_another_method_brings_the_study(pacs, start):
    gateway = await start(pacs, pacs_options={"retrieve": ["c-move", "c-get"]})
    pacs.behaviour.no_move = True
    assert isinstance(await fetched(gateway), Complete)
    assert asked(pacs, "MOVE") == ["MOVE STUDY"]
    assert await stored(gateway) == HELD


async def test_with_a_dicomweb_url_what_c_move_cannot_bring_comes_by_wado(orthanc, start):
    await orthanc.add(*(i.content for i in SAMPLE))
    gateway = await start(orthanc, pacs_options={"dicomweb_url": orthanc.dicomweb_url})
    await orthanc.register(AE_TITLE, 1)  # nobody listens there
    assert isinstance(await fetched(gateway), Complete)
    assert await stored(gateway) == HELD


@pytest.mark.parametrize("image_level", ["fail", "empty"])
async def test_a_pacs_that_lists_no_instances_is_asked_for_the_study_by_c_get(pacs, start, image_level):
    pacs.behaviour.no_image_level = image_level
    gateway = await start(pacs, pacs_options={"retrieve": "c-get"})
    ended = await fetched(gateway)
    assert isinstance(ended, Complete | Partial)
    assert asked(pacs, "GET") == ["GET STUDY"]
    # RLE finds no room beside the common classes: what the PACS cannot send so is known to be missing by its count.
    assert len(ended.index.instances) == 33 - 10 * isinstance(ended, Partial)


async def test_a_pacs_without_the_scp_role_is_named_with_the_fix(pacs, start):
    pacs.behaviour.refuse_scp_role = True
    gateway = await start(pacs, pacs_options={"retrieve": "c-get"})
    ended = await fetched(gateway)
    assert isinstance(ended, NotSent)
    assert "allow our AE title to retrieve by C-GET in it" in ended.reason


@pytest.mark.parametrize("options", [{"retrieve": "c-get"}, {"parallel_series": 1}], ids=["c-get", "c-move by series"])
async def test_an_instance_that_a_browser_waits_for_brings_its_series_forward(pacs, start, options):
    """Of a PACS that takes seven seconds, the last series is there long before the others, and nothing comes twice."""
    pacs.behaviour.delay_per_instance = 0.2
    gateway = await start(pacs, pacs_options=options)
    flight = gateway.parts.fetcher.fetch(STUDY)
    secret = (gateway.config.state_dir / "deferred.key").read_bytes()
    [last] = DeferredUrls(secret, gateway.config.gateway_url).urls(STUDY, UIDS[-1:], expires_in=60)
    assert data_set(await gateway.open(last)) == HELD[UIDS[-1]]
    assert flight.outcome is None
    assert len(flight.stored) < 30  # it would have been the 33rd
    pacs.behaviour.delay_per_instance = 0.0
    assert isinstance(await flight.ended(30), Complete)
    retrieves = [r for r in pacs.requests if not r.startswith("FIND")]
    assert len(retrieves) == len(set(flight.sop_classes)) == 5


async def test_a_wanted_instance_is_remembered_until_it_is_listed():
    flight = Flight(STUDY)
    flight.wanted("1.2.3")
    flight.expect([InstanceRef("1", "1.1", ""), InstanceRef("2", "2.1", ""), InstanceRef("3", "1.2.3", "")])
    flight.series.end()
    assert [await flight.series.take() for _ in range(4)] == ["3", "1", "2", None]
    flight.wanted("2.1")  # under way by now
    assert await flight.series.take(preferred_only=True) is None


async def test_who_serves_the_wanted_only_leaves_the_others_in_their_order():
    queue = SeriesQueue()
    wanted = asyncio.create_task(queue.take(preferred_only=True))
    for series in ("1", "2", "3", "2"):
        queue.add(series)
    await asyncio.sleep(0)
    assert not wanted.done()
    queue.prefer("3")
    queue.prefer("unknown")
    assert await wanted == "3"
    assert [await queue.take(), await queue.take()] == ["1", "2"]
    waiting = [asyncio.create_task(queue.take(preferred_only=only)) for only in (False, True)]
    queue.give_up()
    queue.add("4")
    assert await asyncio.gather(*waiting) == [None, None]


async def test_check_proves_every_configured_method_by_traffic(orthanc, start):
    await orthanc.add(SAMPLE[0].content)
    everything = {"retrieve": ["c-get", "c-move"], "dicomweb_url": orthanc.dicomweb_url}
    gateway = await start(orthanc, pacs_options=everything)
    results = {r.name: (r.ok, r.text) async for r in gateway.checked()}
    for method in ("C-GET", "C-MOVE", "WADO-RS"):
        ok, text = results[f"PACS orthanc: {method}"]
        assert ok
        assert text.startswith("sends to us, an instance in ")
    assert "PACS orthanc: C-FIND" in results


async def test_check_says_what_is_wrong_with_a_dicomweb_service(orthanc, start):
    await orthanc.add(SAMPLE[0].content)
    wrong = {"retrieve": "wado-rs", "dicomweb_url": f"{orthanc.url}/wrong"}
    gateway = await start(orthanc, pacs_options=wrong)
    results = {r.name: (r.ok, r.text) async for r in gateway.checked()}
    ok, text = results["PACS orthanc: QIDO-RS"]
    assert not ok
    assert "is dicomweb_url the root of its DICOMweb service, such as https://pacs/dicom-web?" in text


async def test_a_full_cache_ends_the_transfer_and_is_told(orthanc, start, method):
    await orthanc.add(*(i.content for i in SAMPLE))
    gateway = await start(orthanc, pacs_options=options(method, orthanc), cache={"max_size": 60_000})
    ended = await fetched(gateway)
    assert isinstance(ended, Partial)
    assert "the cache holds" in ended.reason
    assert 0 < len(ended.index.instances) < len(SAMPLE)
    await asyncio.wait_for(gateway.quiet(), 10)
