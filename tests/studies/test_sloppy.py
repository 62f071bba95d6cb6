"""PACS that list short, refuse, answer before they send, or answer what nobody asked: the study opens, whole, all the
same; and where it cannot be whole, the answer says so."""

from __future__ import annotations

import asyncio

import pytest
from pydicom.uid import generate_uid

from gateway.demo.sample import sample_study, synthetic_ct
from gateway.journal import marks
from gateway.studies.habits import Habits, KeptHabits
from gateway.studies.outcome import Complete, NotFound, NotSent, Partial
from tests.conftest import data_set
from tests.rig.simulator import worst

STUDY, SAMPLE = sample_study()
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}
UIDS = list(HELD)


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


async def fetched(gateway, study=STUDY):
    ended = await gateway.parts.fetcher.fetch(study).ended(60)
    assert ended is not None, "the fetch did not end"
    return ended


async def opens(gateway, study=STUDY, held=HELD):
    ended = await fetched(gateway, study)
    assert isinstance(ended, Complete), ended
    answer = await gateway.ask(study)
    assert "error" not in answer
    assert dict(zip(ended.index.instances, await gateway.data_sets(answer), strict=True)) == held


WAYS = {"c-move": {}, "c-move by series": {"parallel_series": 1}, "c-get": {"retrieve": "c-get"}}


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("counts", ["study", "study and series"])
async def test_a_list_that_is_cut_with_success_hides_no_instance(pacs, start, way, counts):
    """pynetdicom#467: the answers to one query end at a limit, with status success."""
    pacs.behaviour.list_limit, pacs.behaviour.series_counts = 12, counts != "study"
    gateway = await start(pacs, pacs_options=WAYS[way])
    await opens(gateway)
    assert "lists 12 instances to a query at most" in await habits(gateway)


async def habits(gateway):
    return {r.name: r.text async for r in gateway.checked()}["PACS simulator: habits"]


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
@pytest.mark.parametrize("way", ["c-move", "c-move by series"])  # C-GET proposes what is listed (field note 9)
async def test_a_list_that_is_cut_and_cannot_be_asked_for_by_number_hides_no_instance(pacs, start, way):
    pacs.behaviour.list_limit, pacs.behaviour.ignores_keys, pacs.behaviour.series_counts = 12, True, True
    gateway = await start(pacs, pacs_options=WAYS[way])
    await opens(gateway)
    assert "lists fewer instances than it counts" in await habits(gateway)


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
@pytest.mark.parametrize("ignores_keys", [False, True])
async def test_where_nothing_is_counted_a_list_as_long_as_a_limit_hides_no_instance(simulator, start, ignores_keys):
    study = generate_uid(None)
    instances = list(synthetic_ct(study, 130, 8, 8))
    simulator.add(*(i.content for i in instances))
    simulator.behaviour.list_limit, simulator.behaviour.no_counts = 100, True
    simulator.behaviour.ignores_keys = ignores_keys
    gateway = await start(simulator)
    ended = await fetched(gateway, study)
    assert set(ended.index.instances) == {i.sop_instance_uid for i in instances}
    assert isinstance(ended, Partial if ignores_keys else Complete)
    if ignores_keys:
        assert "where its answers may end" in ended.reason


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
@pytest.mark.parametrize("counted", ["instances", "series", "nothing"])
async def test_a_list_of_series_that_is_cut_hides_no_instance(pacs, start, monkeypatch, counted):
    """What is proven by no count is brought all the same, and the answer says that there may be more."""
    monkeypatch.setattr("gateway.pacs.scu.instances.ROUND", 2)
    pacs.behaviour.series_limit = 2
    pacs.behaviour.counts_series_alone, pacs.behaviour.no_counts = counted == "series", counted == "nothing"
    gateway = await start(pacs, pacs_options={"parallel_series": 1})
    ended = await fetched(gateway)
    assert set(ended.index.instances) == set(UIDS)
    assert isinstance(ended, Complete if counted == "instances" else Partial)
    if counted != "instances":
        assert f"lists 2 {'of the 5 ' if counted == 'series' else ''}series" in ended.reason
        assert "some instances" in (await gateway.ask(STUDY))["error"]


@pytest.mark.own_habits("which UIDs its answers have is the premise")
async def test_what_does_not_say_whose_it_is_counts_for_nothing_where_a_pacs_answers_everything(pacs, start):
    """Else another patient's instances would be listed as this one's."""
    _, sample = sample_study()
    pacs.behaviour.nameless_parts = True
    gateway = await start(pacs)
    finder = gateway.parts.pacs[0].finder
    assert {ref.sop_instance_uid for ref in (await finder.list_instances(STUDY)).instances} == set(UIDS)
    pacs.add(*(i.content for i in sample))
    assert {ref.sop_instance_uid for ref in (await finder.list_instances(STUDY)).instances} == set(UIDS)
    pacs.behaviour.ignores_keys = True
    listed = await finder.list_instances(STUDY)
    assert (listed.instances, listed.complete) == ((), False)
    ended = await fetched(gateway)  # by the count
    assert set(ended.index.instances) == set(UIDS)
    assert not {i.sop_instance_uid for i in sample} & set(ended.index.instances)


@pytest.mark.own_habits("which UIDs its answers have is the premise")
async def test_of_a_pacs_that_ignores_all_keys_and_sends_everything_no_other_patients_instance_is_given(
    pacs, start, monkeypatch
):
    _, sample = sample_study()
    pacs.add(*(i.content for i in sample))
    pacs.behaviour.nameless_parts = pacs.behaviour.ignores_keys = True
    matching = pacs._matching
    monkeypatch.setattr(pacs, "_matching", lambda query, finding=False: matching(query, finding=True))
    gateway = await start(pacs)
    answer = await gateway.ask(STUDY)
    given = {url.split("?")[0].rsplit("/", 1)[1].removesuffix(".dcm") for url in answer["urls"]}
    assert not {i.sop_instance_uid for i in sample} & given
    assert given == set(UIDS)


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
async def test_what_was_learnt_is_kept_over_a_restart(pacs, start):
    """In the journal; another PACS under the same name is learnt anew."""
    pacs.behaviour.list_limit = 12
    gateway = await start(pacs)
    await opens(gateway)
    async with asyncio.timeout(10):
        while await gateway.parts.journal.run(lambda c: marks.get(c, "habits of PACS simulator")) is None:
            await asyncio.sleep(0.05)
    peer = gateway.parts.pacs[0].client.peer
    again, other = Habits(0.2, pacs=str(peer)), Habits(0.2, pacs="another one")
    for one in (again, other):
        await KeptHabits(gateway.parts.journal, {"simulator": one}).load()
    assert (again.cuts_at, other.cuts_at) == (12, None)
    assert again.told == await habits(gateway)
    assert other.told == ""


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
async def test_a_study_that_grew_past_the_limit_of_the_list_is_whole(simulator, start):
    study = generate_uid(None)
    instances = list(synthetic_ct(study, 60, 8, 8))
    simulator.behaviour.list_limit = 50
    simulator.add(*(i.content for i in instances[:40]))
    gateway = await start(simulator)
    assert len((await fetched(gateway, study)).index.instances) == 40
    simulator.add(*(i.content for i in instances[40:]))
    await opens(gateway, study, {i.sop_instance_uid: data_set(i.content) for i in instances})


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
async def test_what_stays_short_of_the_count_is_told(pacs, start):
    pacs.behaviour.list_limit, pacs.behaviour.drop = 12, set(UIDS[15:18])
    gateway = await start(pacs)
    assert isinstance(await fetched(gateway), Partial)
    answer = await gateway.ask(STUDY)
    assert len(answer["urls"]) == len(UIDS) - 3
    assert answer["error"] == f"3 of {len(UIDS)} instances could not be retrieved from the PACS; ask again later"


@pytest.mark.worst_but_for("what never comes is waited for longer, the later the others came", answers_first=None)
@pytest.mark.parametrize("odd", [0, 10, 19], ids=["first", "middle", "last"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_instance_that_a_pacs_cannot_send_costs_only_itself(pacs, start, odd, way):
    """Stock Orthanc ends a C-MOVE with C000 at the first C-STORE that fails."""
    pacs.behaviour.fail, pacs.behaviour.gives_up_at_a_refusal = {UIDS[odd]}, True
    gateway = await start(pacs, pacs_options=WAYS[way])
    ended = await fetched(gateway)
    assert isinstance(ended, Partial)
    assert ended.missing == (UIDS[odd],)
    assert "C000" in ended.reason
    assert set(ended.index.instances) == set(UIDS) - {UIDS[odd]}


async def test_a_pacs_that_refuses_everything_is_not_asked_for_ever_and_is_not_said_to_be_away(pacs, start):
    pacs.behaviour.fail, pacs.behaviour.gives_up_at_a_refusal = set(UIDS), True
    gateway = await start(pacs)
    ended = await fetched(gateway)
    assert isinstance(ended, NotSent)
    assert "C000" in ended.reason
    assert sum(r.startswith("MOVE") for r in pacs.requests) < 100


@pytest.mark.parametrize("how", ["nameless", "empty"])
async def test_a_study_answer_that_does_not_name_its_study_is_looked_into(pacs, start, how):
    pacs.behaviour.study_answer = how
    gateway = await start(pacs)
    await opens(gateway)
    pacs.behaviour.ignores_keys = True  # it answers for every study, so also for this one
    assert isinstance(await fetched(gateway, "1.2.3.4"), NotFound)


async def test_only_a_single_nameless_answer_tells_whose_the_study_is(pacs, start):
    """What it says of the patient is how a correction is noticed; of several answers it may be somebody else's."""
    pacs.behaviour.study_answer, pacs.behaviour.ignores_keys = "nameless", True
    gateway = await start(pacs)
    finder = gateway.parts.pacs[0].finder
    one = await finder.find_study(STUDY)
    assert (one.study_instance_uid, one.patient_id) == (STUDY, "DEMO-001")
    pacs.add(*(i.content for i in synthetic_ct(generate_uid(None), 2, 8, 8)))
    one = await finder.find_study(STUDY)
    assert (one.study_instance_uid, one.patient_id, one.instances) == (STUDY, "", None)


@pytest.mark.parametrize("way", WAYS)
async def test_an_empty_series_of_a_pacs_without_counts_is_no_error(pacs, start, way):
    pacs.behaviour.empty_series, pacs.behaviour.no_counts = 2, True
    gateway = await start(pacs, pacs_options=WAYS[way])
    await opens(gateway)
    asked = len([r for r in pacs.requests if not r.startswith("FIND")])
    await opens(gateway)
    assert len([r for r in pacs.requests if not r.startswith("FIND")]) == asked, "it was moved again"


async def test_a_pacs_that_answers_everything_mixes_no_studies(pacs, start):
    other, sample = sample_study()
    pacs.add(*(i.content for i in sample))
    pacs.behaviour.ignores_keys = True
    gateway = await start(pacs)
    await opens(gateway)
    await opens(gateway, other, {i.sop_instance_uid: data_set(i.content) for i in sample})


async def test_a_move_that_is_answered_before_its_instances_come_is_waited_for_and_learnt(pacs, start):
    pacs.behaviour.answers_first = 0.5
    gateway = await start(pacs, pacs_options={"settle": "4s"})
    await opens(gateway)
    assert [r for r in pacs.requests if r.startswith("MOVE")] == ["MOVE STUDY"]
    assert "answers a C-MOVE before its instances have come" in await habits(gateway)


@pytest.mark.own_habits("how it counts and cuts its lists is the premise")
async def test_what_comes_late_from_a_pacs_that_neither_lists_nor_counts_is_waited_for(pacs, start):
    pacs.behaviour.answers_first, pacs.behaviour.no_counts, pacs.behaviour.no_image_level = 0.5, True, "fail"
    gateway = await start(pacs, pacs_options={"settle": "4s"})
    ended = await fetched(gateway)
    assert isinstance(ended, Partial)  # nothing proves that it is all
    assert set(ended.index.instances) == set(UIDS)


@pytest.mark.own_habits("it is the worst PACS's own test")
@pytest.mark.parametrize("way", WAYS)
async def test_a_study_of_the_worst_pacs_in_town_opens_whole(pacs, start, way):
    pacs.behaviour = worst()
    other, sample = sample_study()
    pacs.add(*(i.content for i in sample))
    gateway = await start(pacs, pacs_options={"settle": "3s"} | WAYS[way])
    first, second = await asyncio.gather(fetched(gateway), fetched(gateway, other))
    assert (set(first.index.instances), set(second.index.instances)) == (
        set(UIDS), {i.sop_instance_uid for i in sample}
    )  # fmt: skip
    await opens(gateway)
