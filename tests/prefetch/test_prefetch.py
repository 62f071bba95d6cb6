"""Studies that are warm before anybody asks, with real stores and a PACS: what is fetched, when, and what goes before.

What rules, windows and the cursor decide is in ``test_pure.py``; the list and its survival in ``test_queue.py``.
"""

from __future__ import annotations

import asyncio
import datetime

import pytest

from gateway.app.figures import figures_of
from gateway.pacs.scu import PacsClient
from gateway.prefetch import work
from gateway.studies import retrieval
from gateway.studies.cache import StudyCache
from tests.prefetch.conftest import ON, made, moves, on_the_wall, row, stands, until


async def test_a_new_study_is_warm_before_it_is_opened(simulator, start):
    simulator.add(*made("1.2.840.1.1"), *made("1.2.840.1.2", ago=3 * 86400))
    gateway = await start(simulator, prefetch=ON)
    done = await stands(gateway, "1.2.840.1.1", "done")
    assert (done.rule, done.cause.value, done.size > 0) == ("every study", "poll", True)
    asked = len(moves(simulator))
    answer = await gateway.ask("1.2.840.1.1")
    assert len(answer["urls"]) == 3
    assert all("/deferred/" not in url for url in answer["urls"])
    assert len(moves(simulator)) == asked == 1, "it was warm"
    assert await row(gateway, "1.2.840.1.2") is None, "it is older than prefetch.look_back"
    counted = await gateway.parts.prefetch.prefetcher.counts()
    assert counted["opened"] == 1
    figures = figures_of(gateway.parts)
    queries, studies, size = figures.prefetch_spent()["simulator"]
    assert (await figures.prefetches(), studies, size) == (counted, 1, done.size)
    assert queries >= 1


async def test_nothing_is_prefetched_unless_it_is_wanted(simulator, start):
    simulator.add(*made("1.2.840.1.1"))
    gateway = await start(simulator)
    assert gateway.parts.prefetch is None
    await asyncio.sleep(0.5)
    assert simulator.requests == []


async def test_orthanc_is_polled_and_its_new_studies_are_fetched(orthanc, start):
    for content in made("1.2.840.1.3", InstitutionName="Klinikum Mitte", StationName="CT1"):
        await orthanc.add(content)
    rules = [
        {"name": "elsewhere", "institution": "Nord*"},
        {"name": "ours", "modality": "CT", "institution": "*mitte", "station": ["CT?"], "max_age": "1d"},
    ]
    gateway = await start(orthanc, prefetch=ON | {"rules": rules})
    assert (await stands(gateway, "1.2.840.1.3", "done")).rule == "ours"


async def test_what_no_rule_wants_is_left_in_the_pacs_and_not_judged_again(simulator, start):
    simulator.add(*made("1.2.840.1.1"))
    gateway = await start(simulator, prefetch=ON | {"rules": [{"name": "er", "station": "ER*"}]})
    poller = next(iter(gateway.parts.prefetch.pollers.values()))
    await until(lambda: asyncio.sleep(0, "FIND SERIES" in simulator.requests))
    asked = simulator.requests.count("FIND SERIES")
    await poller.look()
    assert simulator.requests.count("FIND SERIES") == asked
    assert moves(simulator) == []


async def test_a_study_that_grew_in_the_pacs_is_fetched_again_ahead(simulator, start):
    files = made("1.2.840.1.1", 5)
    simulator.add(*files[:3])
    gateway = await start(simulator, prefetch=ON)
    await stands(gateway, "1.2.840.1.1", "done")
    simulator.add(*files[3:])
    await next(iter(gateway.parts.prefetch.pollers.values())).look()
    await until(lambda: _has(gateway, "1.2.840.1.1", 5))


async def _has(gateway, uid, count):
    index = await gateway.parts.cache.index(uid)
    return index is not None and index.complete and len(index.instances) == count


async def test_a_pacs_that_ignores_the_time_is_noticed(simulator, start):
    simulator.behaviour.ignores_time = True
    # The cursor stands at the newer one; the other is more than the overlap before it, on the same day.
    simulator.add(*made("1.2.840.1.1", ago=60), *made("1.2.840.1.2", ago=5 * 3600.0))
    gateway = await start(simulator, prefetch=ON)
    poller = next(iter(gateway.parts.prefetch.pollers.values()))
    await stands(gateway, "1.2.840.1.1", "done")
    await poller.look()
    habits = gateway.parts.pacs[0].habits
    assert habits.ignores_time
    assert "Study Time" in habits.told


async def test_nothing_begins_while_somebody_waits_and_what_has_begun_gives_way(simulator, start):
    simulator.add(*made("1.2.840.1.1", 40, ago=900), *made("1.2.840.1.9", 10, ago=3 * 86400))
    simulator.behaviour.delay_per_instance = 0.05
    gateway = await start(simulator, prefetch=ON)
    await until(lambda: asyncio.sleep(0, [f for f in gateway.parts.fetcher.flights() if len(f.stored) > 3]))
    answer = await gateway.ask("1.2.840.1.9")
    assert len(answer["urls"]) == 10
    order = moves(simulator)
    assert order[:2] == ["MOVE STUDY", "MOVE STUDY"], "the one that was opened came by one request, at once"
    flight = gateway.parts.fetcher.flight("1.2.840.1.1")
    assert flight is None or not flight.gave_way
    done = await stands(gateway, "1.2.840.1.1", "done")
    assert done.attempts == 1, "to give way is no failure"
    assert all(asked.startswith("MOVE IMAGE") for asked in moves(simulator)[2:]), "what had come did not come again"
    assert await _has(gateway, "1.2.840.1.1", 40)


async def test_what_is_opened_while_it_is_prefetched_is_somebodys_from_then_on(simulator, start):
    simulator.add(*made("1.2.840.1.1", 20))
    simulator.behaviour.delay_per_instance = 0.05
    gateway = await start(simulator, prefetch=ON)
    await until(lambda: asyncio.sleep(0, [f for f in gateway.parts.fetcher.flights() if f.stored]))
    assert len((await gateway.ask("1.2.840.1.1"))["urls"]) == 20
    assert moves(simulator) == ["MOVE STUDY"], "one fetch, whoever asks"
    await stands(gateway, "1.2.840.1.1", "overtaken")


async def test_a_study_that_gave_way_goes_on_at_once_where_somebody_opens_it(simulator, start):
    simulator.add(*made("1.2.840.1.1", 40))
    simulator.behaviour.delay_per_instance = 0.05
    gateway = await start(simulator, prefetch=ON)
    [flight] = await until(lambda: asyncio.sleep(0, [f for f in gateway.parts.fetcher.flights() if len(f.stored) > 3]))
    flight.give_way("a test says so")
    assert len((await gateway.ask("1.2.840.1.1"))["urls"]) == 40


async def test_windows_leave_a_pacs_alone_but_for_what_an_operator_asks_for(simulator, start):
    simulator.add(*made("1.2.840.1.1"), *made("1.2.840.1.2"))
    later = on_the_wall() + datetime.timedelta(hours=6)
    closed = f"{later:%H:%M}-{later + datetime.timedelta(minutes=1):%H:%M}"
    gateway = await start(simulator, prefetch=ON, pacs_options={"prefetch": {"windows": closed}})
    await asyncio.sleep(0.5)
    assert simulator.requests == []
    await gateway.parts.prefetch.prefetcher.announce("1.2.840.1.2")
    await asyncio.sleep(0.5)
    assert simulator.requests == [], "an order does not open it"
    assert "windows" in gateway.parts.prefetch.prefetcher.waits_for["simulator"]
    await gateway.parts.prefetch.prefetcher.now("1.2.840.1.1")
    await stands(gateway, "1.2.840.1.1", "done")


async def test_no_more_studies_an_hour_than_the_pacs_is_to_give(simulator, start):
    simulator.add(*(f for n in range(4) for f in made(f"1.2.840.1.{n + 1}", ago=600 + n)))
    gateway = await start(simulator, prefetch=ON, pacs_options={"prefetch": {"studies_per_hour": 2}})
    await until(lambda: asyncio.sleep(0, len(moves(simulator)) >= 2))
    await until(lambda: asyncio.sleep(0, "hour" in gateway.parts.prefetch.prefetcher.waits_for["simulator"]))
    await asyncio.sleep(0.5)
    assert len(moves(simulator)) == 2
    assert (await row(gateway, "1.2.840.1.1")).state.value == "done", "the latest first"


async def test_no_more_bytes_a_day_than_the_budget(simulator, start):
    simulator.add(*(f for n in range(3) for f in made(f"1.2.840.1.{n + 1}", ago=600 + n)))
    gateway = await start(simulator, prefetch=ON | {"max_bytes": 100})
    await until(
        lambda: asyncio.sleep(0, "max_bytes" in gateway.parts.prefetch.prefetcher.waits_for.get("simulator", ""))
    )
    assert len(moves(simulator)) == 1


async def test_what_nobody_opened_makes_room_and_what_was_opened_lately_does_not(simulator, start, monkeypatch):
    monkeypatch.setattr(work, "NO_ROOM_FOR", 0.2)
    rows = 128  # 33 KB a slice
    simulator.add(*made("1.2.840.1.9", 8, ago=3 * 86400, rows=rows))
    gateway = await start(
        simulator, prefetch=ON | {"cache_share": 0.5}, cache={"max_size": "600KB", "url_expiry": "60s"}
    )
    assert len((await gateway.ask("1.2.840.1.9"))["urls"]) == 8
    for n in range(4):
        simulator.add(*made(f"1.2.840.1.{n + 1}", 4, ago=600 - n, rows=rows))
        await next(iter(gateway.parts.prefetch.pollers.values())).look()
        await stands(gateway, f"1.2.840.1.{n + 1}", "done")
    cache: StudyCache = gateway.parts.cache
    held = {s.study_instance_uid for s in await gateway.parts.journal.cached_studies()}
    assert "1.2.840.1.9" in held
    assert "1.2.840.1.4" in held
    assert "1.2.840.1.1" not in held
    await cache.check()  # a cache that had no room for what nobody asked for is not full


async def test_priors_of_what_is_opened_and_of_what_is_prefetched_are_fetched(simulator, start):
    year = 365 * 86400.0
    simulator.add(*made("1.2.840.1.1", PatientID="7"))
    for n, age in enumerate((1.0, 2.0, 3.0, 9.0), 2):
        simulator.add(*made(f"1.2.840.1.{n}", ago=age * year, PatientID="7"))
    simulator.add(*made("1.2.840.1.8", ago=year, PatientID="8"))
    gateway = await start(simulator, prefetch=ON | {"priors": 2, "poll": False})
    await gateway.ask("1.2.840.1.1")
    await stands(gateway, "1.2.840.1.2", "done")
    await stands(gateway, "1.2.840.1.3", "done")
    await asyncio.sleep(0.5)
    for n in (4, 5, 8):
        assert await row(gateway, f"1.2.840.1.{n}") is None
    events = await _events(gateway, "1.2.840.1.2")
    assert any("prefetched by rule prior of 1.2.840.1.1" in text for text in events), events


async def _events(gateway, uid):
    from gateway.journal import events

    await gateway.parts.events.flush()
    found = await gateway.parts.journal.run(lambda c: events.find(c, [f"study:{uid}"], 20))
    return [event.text for event in found]


async def test_a_prior_may_be_of_the_same_body_part_instead(simulator, start):
    year = 365 * 86400.0
    chest = {"PatientID": "7", "BodyPartExamined": "CHEST"}
    simulator.add(*made("1.2.840.1.1", **chest))
    simulator.add(*made("1.2.840.1.2", ago=year, Modality="CR", **chest))
    simulator.add(*made("1.2.840.1.3", ago=year, Modality="CR", PatientID="7", BodyPartExamined="HAND"))
    gateway = await start(simulator, prefetch=ON | {"priors": 2})
    await stands(gateway, "1.2.840.1.2", "done")
    assert await row(gateway, "1.2.840.1.3") is None


async def test_a_pushed_study_that_is_not_whole_is_compared_again_once_the_pacs_has_it(simulator, start):
    files = made("1.2.840.1.1", 4, ago=3 * 86400)
    gateway = await start(simulator, prefetch=ON | {"poll": False}, dicom={"accept_pushes": True})
    assert await asyncio.to_thread(simulator.push, gateway.parts.scp.port, files[:3]) == {0x0000}
    await until(lambda: row(gateway, "1.2.840.1.1"))
    simulator.add(*files)
    await until(lambda: _has(gateway, "1.2.840.1.1", 4))
    assert (await stands(gateway, "1.2.840.1.1", "done")).cause.value == "push"


async def test_off_line_studies_are_not_asked_for_and_that_is_told(simulator, start):
    simulator.add(*made("1.2.840.1.1"))
    simulator.behaviour.availability["1.2.840.1.1"] = "OFFLINE"
    gateway = await start(simulator, prefetch=ON)
    await until(lambda: _events(gateway, "1.2.840.1.1"))
    assert await _events(gateway, "1.2.840.1.1") == ["not prefetched: PACS simulator has it off-line"]
    assert moves(simulator) == []


async def test_what_the_access_policy_forbids_is_not_fetched(simulator, start):
    simulator.add(*made("1.2.840.1.1"))
    gateway = await start(simulator, prefetch=ON | {"poll": False})
    asked = []

    async def allows(uid):
        asked.append(uid)
        return False

    gateway.parts.prefetch.prefetcher._work._allows = allows
    await gateway.parts.prefetch.prefetcher.announce("1.2.840.1.1")
    assert "policy" in (await stands(gateway, "1.2.840.1.1", "given up")).reason
    assert asked == ["1.2.840.1.1"]
    assert moves(simulator) == []


async def test_a_pacs_that_does_not_answer_is_asked_again_and_nothing_is_lost(simulator, start):
    simulator.add(*made("1.2.840.1.1"))
    simulator.behaviour.send_nothing = True
    gateway = await start(simulator, prefetch=ON)

    async def tried():
        found = await row(gateway, "1.2.840.1.1")
        return found is not None and found.attempts > 1

    await until(tried)
    simulator.behaviour.send_nothing = False
    await stands(gateway, "1.2.840.1.1", "done")


async def test_a_cursor_is_asked_from_and_not_the_whole_day(simulator, start, monkeypatch):
    asked = []
    association = PacsClient.association
    monkeypatch.setattr(PacsClient, "association", lambda self, *a, **k: asked.append(1) or association(self, *a, **k))
    simulator.add(*made("1.2.840.1.1"))
    gateway = await start(simulator, prefetch=ON)
    await stands(gateway, "1.2.840.1.1", "done")
    poller, spans = next(iter(gateway.parts.prefetch.pollers.values())), []
    ask = poller._ask
    monkeypatch.setattr(poller, "_ask", lambda span, parted=0: spans.append(span) or ask(span, parted))
    await poller.look()
    now = on_the_wall()
    assert spans[0].time.endswith("-235959")
    assert len(spans) <= 2
    assert not any(span.covers(now - datetime.timedelta(hours=5)) for span in spans)


@pytest.mark.parametrize("silently", [True, False])
@pytest.mark.parametrize("opened", [True, False])
async def test_a_near_line_study_is_waited_for(simulator, start, monkeypatch, silently, opened):
    monkeypatch.setattr(retrieval, "NEARLINE_AGAIN_IN", 0.3)
    simulator.add(*made("1.2.840.1.1"))
    simulator.behaviour.availability["1.2.840.1.1"] = "NEARLINE"
    simulator.behaviour.stages_for, simulator.behaviour.stages_silently = 4.0, silently
    patient = {"idle_timeout": "1s", "prefetch": {"enabled": not opened}}
    gateway = await start(simulator, prefetch=ON, avara={"answer": "listed"}, pacs_options=patient)
    if opened:
        answer = await gateway.ask("1.2.840.1.1")  # which does not wait for it
        assert len([url for url in answer["urls"] if "/deferred/" in url]) == 3
        assert all([await gateway.open(url) for url in answer["urls"]])
    else:
        assert (await stands(gateway, "1.2.840.1.1", "done")).attempts == 1
