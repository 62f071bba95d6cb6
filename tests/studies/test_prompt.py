"""The answer leaves once everything is listed, whatever the study's size and the PACS's speed; the rest is deferred."""

from __future__ import annotations

import asyncio
import io
import time

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage as CT
from pydicom.uid import generate_uid

from gateway.demo.sample import sample_study, synthetic_ct
from gateway.pacs.scu.results import InstanceRef
from gateway.studies.access import is_hopeless
from gateway.studies.flight import Flight
from gateway.studies.habits import Habits
from gateway.studies.listed import opening
from gateway.studies.outcome import Complete
from gateway.studies.overtaken import Beside
from gateway.studies.waits import Waits
from tests.conftest import data_set

STUDY, SAMPLE = sample_study()
HELD = sorted(data_set(i.content) for i in SAMPLE)


pytestmark = pytest.mark.worst_but_for("it looks at the order in which listed instances come", coerced_uids=False)

LISTED = {"answer": "listed", "answer_within": "60s"}


def described(answer):
    """The objects of its manifest, by SOP Instance UID."""
    return {sop["sopInstanceUID"]: sop for one in answer["manifest"]["series"] for sop in one["sops"]}


def deferred(answer):
    return [url for url in answer["urls"] if "/deferred/" in url]


def instance_of(url):
    return url.split("?")[0].rsplit("/", 1)[1].removesuffix(".dcm")


async def test_a_slow_pacs_is_not_waited_for_once_it_has_listed_all(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.3  # some ten seconds for all
    gateway = await start(simulator, avara=LISTED)
    began = time.monotonic()
    answer = await gateway.ask(STUDY)
    assert time.monotonic() - began < 0.3 * len(SAMPLE)
    assert "error" not in answer
    assert len(answer["urls"]) == len(SAMPLE)
    assert len(deferred(answer)) > len(SAMPLE) / 2
    assert sorted(await gateway.data_sets(answer)) == HELD


async def test_a_study_that_plainly_takes_longer_than_the_patience_is_answered_before_that_has_passed(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 3.0  # a hundred seconds for all
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "20s"})
    began = time.monotonic()
    answer = await gateway.ask(STUDY)
    assert time.monotonic() - began < 15
    assert len(deferred(answer)) > len(SAMPLE) / 2


@pytest.mark.parametrize(
    ("lacking", "came", "took", "left", "hopeless"),
    [
        (600, 0, 0.025, 0.225, True),  # nothing yet, and far too many, however soon the first one comes
        (599, 1, 0.025, 0.225, True),
        (33, 0, 0.025, 0.225, False),  # too early to say
        (20, 13, 0.05, 0.2, False),
        (33, 0, 0.2, 0.05, True),
        (1, 0, 0.225, 0.025, True),
        (0, 0, 0.2, 0.05, False),  # all has come: its end is a matter of moments
        (10_000, 5, 1.0, float("inf"), False),  # complete answers are wanted
        (1, 0, 0.1, 0.0, True),
    ],
)
def test_what_cannot_end_in_the_patience_is_told_by_how_quickly_it_comes(lacking, came, took, left, hopeless):
    assert is_hopeless(lacking, came, took, left) is hopeless


async def test_a_small_study_simply_ends_and_is_answered_whole(orthanc, start):
    await orthanc.add(*(i.content for i in SAMPLE))
    gateway = await start(orthanc, avara=LISTED | {"answer_patience": "30s"})
    answer = await gateway.ask(STUDY)
    assert deferred(answer) == []
    assert sorted(await gateway.data_sets(answer)) == HELD


@pytest.mark.parametrize("method", ["c-move", "c-get", "wado-rs"])
async def test_stored_and_deferred_urls_are_one_list_in_the_order_in_which_the_study_is_read(orthanc, start, method):
    """Half of the study is there already, every second instance of each series."""
    await orthanc.add(*(i.content for i in SAMPLE[::2]))
    options = {"retrieve": [method], "dicomweb_url": orthanc.dicomweb_url}
    gateway = await start(orthanc, avara=LISTED | {"answer_patience": "0s"}, pacs_options=options)
    await gateway.ask(STUDY)
    await gateway.quiet()
    await orthanc.add(*(i.content for i in SAMPLE[1::2]))
    answer = await gateway.ask(STUDY)
    await gateway.quiet()
    whole = await gateway.ask(STUDY)
    assert 0 < len(deferred(answer)) < len(SAMPLE)
    assert [instance_of(url) for url in answer["urls"]] == [instance_of(url) for url in whole["urls"]]


async def test_the_manifest_names_what_has_no_images_before_it_has_come_where_the_pacs_says_its_class(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.5
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"}, pacs_options={"retrieve": "c-get"})
    answer = await gateway.ask(STUDY)
    coming = {instance_of(url) for url in deferred(answer)}
    early = [sop for s in answer["manifest"]["series"] for sop in s["sops"] if sop["sopInstanceUID"] in coming]
    assert early
    assert all("rows" not in sop and sop["sopClassUID"] for sop in early)
    simulator.behaviour.delay_per_instance = 0.0
    await gateway.quiet()
    whole = [sop for s in (await gateway.ask(STUDY))["manifest"]["series"] for sop in s["sops"]]
    assert all(sop in whole for sop in early)


@pytest.mark.parametrize("service", ["simulator", "orthanc", "wado-rs"])
async def test_the_manifest_has_images_before_they_have_come_where_the_pacs_lists_their_geometry(
    simulator, orthanc, start, service
):
    pacs = simulator if service == "simulator" else orthanc
    options = {"lists_geometry": True}
    if service == "wado-rs":
        options |= {"retrieve": ["wado-rs"], "dicomweb_url": orthanc.dicomweb_url}
    if service == "simulator":
        simulator.add(*(i.content for i in SAMPLE))
        simulator.behaviour.lists_geometry, simulator.behaviour.delay_per_instance = True, 0.5
    else:
        await orthanc.add(*(i.content for i in SAMPLE))
    gateway = await start(pacs, avara=LISTED | {"answer_patience": "0s"}, pacs_options=options)
    answer = await gateway.ask(STUDY)
    early = described(answer)
    assert len(deferred(answer)) > 0
    simulator.behaviour.delay_per_instance = 0.0
    await gateway.quiet()
    whole = described(await gateway.ask(STUDY))
    assert early.keys() == whole.keys(), "nothing of the study is missing in the first manifest"
    for uid, sop in early.items():
        # The file has more to say, such as Rescale Slope; nothing that is said before is said otherwise afterwards.
        assert sop.items() <= whole[uid].items()
        assert ("rows" in sop) == ("rows" in whole[uid])


async def test_a_geometry_that_the_pacs_lists_in_part_or_not_at_all_is_never_guessed(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.5
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"}, pacs_options={"lists_geometry": True})
    answer = await gateway.ask(STUDY)
    coming = {instance_of(url) for url in deferred(answer)}
    assert coming
    assert not [uid for uid, sop in described(answer).items() if uid in coming and "rows" in sop]


async def test_without_a_list_the_fetch_is_awaited(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.no_image_level = "fail"
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"})
    answer = await gateway.ask(STUDY)
    assert deferred(answer) == []
    assert len(answer["urls"]) == len(SAMPLE)


async def test_what_the_pacs_lists_and_never_sends_is_told_by_its_url_and_by_the_next_answer(simulator, start):
    lost = SAMPLE[-1].sop_instance_uid
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance, simulator.behaviour.drop = 0.05, {lost}
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"})
    answer = await gateway.ask(STUDY)
    assert "error" not in answer
    [url] = [u for u in answer["urls"] if lost in u]
    async with gateway.http.get(url) as gone:
        assert gone.status == 404
        assert "did not deliver" in (await gone.json())["error"]
    await gateway.quiet()
    again = await gateway.ask(STUDY)
    assert len(again["urls"]) >= len(SAMPLE) - 1
    assert again["error"].startswith(f"1 of {len(SAMPLE)} instances could not be retrieved from the PACS")


@pytest.mark.parametrize("count", [2, 5])
async def test_everybody_who_asks_meanwhile_is_answered_so(simulator, start, count):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.1
    gateway = await start(simulator, avara=LISTED)
    answers = await asyncio.gather(*(gateway.ask(STUDY) for _ in range(count)))
    assert {len(a["urls"]) for a in answers} == {len(SAMPLE)}
    assert all(deferred(a) for a in answers)


@pytest.mark.parametrize("method", ["c-move", "c-get"])
async def test_what_is_looked_at_comes_before_what_the_pacs_would_send_first(simulator, start, method):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.4
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"}, pacs_options={"retrieve": method})
    last_slices = [i.sop_instance_uid for i in SAMPLE[27:30]]  # of the second series: eleven seconds away
    urls = {instance_of(url): url for url in (await gateway.ask(STUDY))["urls"]}

    async def opened(uid):
        async with gateway.http.get(urls[uid]) as answer:
            return answer.status, await answer.read()

    got = await asyncio.gather(*map(opened, last_slices))
    assert [status for status, _ in got] == [200] * 3
    flight = gateway.parts.fetcher.flight(STUDY)
    assert flight is not None
    assert len(flight.stored) < 27  # and the PACS is far from having sent what is before them
    simulator.behaviour.delay_per_instance = 0.0
    assert sorted(await gateway.data_sets(await gateway.ask(STUDY))) == HELD


async def test_what_comes_in_the_order_in_which_it_is_looked_at_is_asked_for_once(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    simulator.behaviour.delay_per_instance = 0.1
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"})
    answer = await gateway.ask(STUDY)
    assert sorted(await gateway.data_sets(answer)) == HELD
    assert [r for r in simulator.requests if r.startswith("MOVE")] == ["MOVE STUDY"]


async def test_the_first_slices_come_first_out_of_a_pacs_that_begins_with_the_last(orthanc, start):
    """Orthanc sends the last instance of a study first."""
    slices = list(synthetic_ct(generate_uid(None), 450, 128, 128))
    study = dcmread(io.BytesIO(slices[0].content), stop_before_pixels=True).StudyInstanceUID
    await orthanc.add(*(i.content for i in slices))
    order = []
    gateway = await start(orthanc, avara=LISTED | {"answer_patience": "0s"})
    flight = gateway.parts.fetcher.fetch(study)
    came = flight.arrived

    def arrived(instance, *by):
        order.append(instance.sop_instance_uid)
        came(instance, *by)

    flight.arrived = arrived
    await flight.ended(60)
    place = {uid: n for n, uid in enumerate(order)}
    assert len(place) == len(slices)
    # Of the six that a browser opens none waits for the half of the others.
    assert max(place[i.sop_instance_uid] for i in slices[:6]) < len(slices) / 2


async def test_the_first_slices_are_asked_for_as_soon_as_it_is_seen_that_the_pacs_begins_elsewhere():
    refs = [InstanceRef("1", f"1.{n}", CT, modality="CT", series_number=1, instance_number=n) for n in range(1, 100)]
    other = [InstanceRef("2", f"2.{n}", CT, modality="CT", series_number=2, instance_number=n) for n in range(1, 9)]

    async def asked(begins_with, *, somebody_waits=True, habits=None):
        flight, seen = Flight(STUDY), []
        if somebody_waits:
            flight.asked_for.set()

        async def ask(series, uids):
            seen.append((series, uids))

        beside = asyncio.create_task(Beside(flight, ask, habits or Habits(1.0)).bring_first())
        flight.expect([*other, *reversed(refs)])
        flight.listed.set()
        await asyncio.sleep(0.05)
        assert not seen  # it may begin with what is read first
        flight.taken.add(begins_with)
        flight.begun.set()
        async with asyncio.timeout(5):
            await beside
        return seen

    assert await asked("1.99") == [("1", [f"1.{n}" for n in range(1, 7)])]
    assert await asked("2.1") == [("1", [f"1.{n}" for n in range(1, 7)])]
    assert await asked("1.3") == [("1", ["1.1", "1.2", "1.4", "1.5", "1.6"])]
    assert await asked("1.1") == []
    assert await asked("1.99", somebody_waits=False) == []
    assert opening([], 6) == []


@pytest.mark.slow
async def test_a_pacs_that_sends_no_instances_by_themselves_is_soon_not_asked_so_any_more():
    flight, habits, asked = Flight(STUDY), Habits(1.0), []
    flight.expect(InstanceRef("1", f"1.{n}", "", instance_number=n) for n in range(100))

    async def ask(series, uids):
        asked.append(uids)
        flight.wanted(uids[0])

    flight.wanted("1.50")
    for n in range(8):
        flight.waits.came(f"1.{n}")
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        beside = asyncio.create_task(Beside(flight, ask, habits).bring_overtaken())
        while not beside.done():
            await asyncio.sleep(0.05)
            for n in range(4):
                flight.waits.came(f"1.{n}")
    assert asyncio.get_running_loop().time() - began > 0.5
    assert [len(uids) for uids in asked] == [8, 16, 32]
    assert {uids[0] for uids in asked} == {"1.50"}
    assert asked[0] == [f"1.{n}" for n in range(50, 58)]
    assert "by themselves" in habits.told


async def test_who_reads_on_past_what_was_asked_for_does_not_have_to_be_overtaken_again():
    flight, asked = Flight(STUDY), []
    flight.expect(InstanceRef("1", f"1.{n}", CT, instance_number=n) for n in range(100))
    flight.listed.set()
    flight.asked_for.set()
    flight.taken.add("1.99")
    flight.begun.set()

    async def ask(series, uids):
        asked.append(uids)
        flight.taken.update(uids)
        flight.wanted(f"1.{int(uids[-1][2:]) + 1}")  # the reader goes on, and nothing else comes meanwhile

    beside = Beside(flight, ask, Habits(1.0))
    await beside.bring_first()
    overtaken = asyncio.create_task(beside.bring_overtaken())
    async with asyncio.timeout(20):
        while len(asked) < 4:
            await asyncio.sleep(0.05)
    overtaken.cancel()
    assert [int(uid[2:]) for uids in asked[:4] for uid in uids] == list(range(6 + 8 + 16 + 32))


@pytest.mark.own_habits("the worst PACS has answered before it sends, so that there is nothing left to give up")
async def test_a_pacs_that_is_asked_from_both_ends_does_not_go_on_past_the_middle(simulator, start, caplog):
    slices = list(synthetic_ct(generate_uid(None), 40, 16, 16))
    study = dcmread(io.BytesIO(slices[0].content), stop_before_pixels=True).StudyInstanceUID
    simulator.add(*(i.content for i in slices))
    simulator.behaviour.delay_per_instance = 0.15
    gateway = await start(simulator, avara=LISTED | {"answer_patience": "0s"})
    urls = {instance_of(url): url for url in (await gateway.ask(study))["urls"]}
    flight = gateway.parts.fetcher.flight(study)

    async def opened(one):
        async with gateway.http.get(urls[one.sop_instance_uid]) as answer:
            return answer.status

    # The reader has jumped to the second half, which comes beside the first.
    assert await asyncio.gather(*map(opened, slices[20:])) == [200] * 20
    outcome = await flight.ended(60)
    assert isinstance(outcome, Complete)
    assert len(flight.stored) == 40
    assert flight.came_again < 18  # of the twenty that would be sent twice
    # A PACS that sends on all the same is told that they are stored, and nobody is told of strangers' instances.
    await asyncio.sleep(2)
    assert not gateway.parts.fetcher.flight(study)
    assert "nobody asked for it" not in caplog.text


def test_who_waits_longest_is_not_overtaken_by_those_who_wait_since():
    waits = Waits()
    for n in range(6):
        waits.begin(f"1.{n}", now=float(n))
    for n in range(10, 20):
        waits.came(f"1.{n}")
    assert waits.overtaken(now=10.0) == "1.0"
