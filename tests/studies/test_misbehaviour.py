"""What a PACS does wrong, and what the gateway makes of it; the numbers are those of the field notes.

Against the simulator, which is built on pynetdicom and so shares no code with the gateway's DICOM side. Studies that it
sends unasked are in test_pushes.py.
"""

from __future__ import annotations

import asyncio
import io

import pytest
from pydicom import dcmread

from gateway.demo.sample import sample_study
from gateway.studies import keys
from gateway.studies.outcome import Complete, NotSent, NotStored, Partial, Unreachable

SAMPLE_STUDY, SAMPLE = sample_study()
FILES = [i.content for i in SAMPLE]
UIDS = [i.sop_instance_uid for i in SAMPLE]


@pytest.fixture
def pacs(simulator):
    simulator.add(*FILES)
    return simulator


async def outcome(gateway):
    ended = await gateway.parts.fetcher.fetch(SAMPLE_STUDY).ended(100)  # it takes one or two
    assert ended is not None, "the fetch did not end"
    return ended


async def test_success_with_nothing_sent_is_not_believed(pacs, start):  # 1
    pacs.behaviour.send_nothing = True
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), NotSent)
    answer = await gateway.ask(SAMPLE_STUDY)
    assert answer["urls"] == []
    assert answer["error"]


@pytest.mark.parametrize("counters", ["zero", "absent", "high"])
async def test_counters_of_a_move_prove_nothing(pacs, start, counters):  # 1
    pacs.behaviour.counters = counters
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)


async def test_what_was_silently_dropped_is_asked_for_again_by_instance(pacs, start):  # 2
    pacs.behaviour.drop, pacs.behaviour.drops_left = set(UIDS[3:6]), 1
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)
    assert [r for r in pacs.requests if r.startswith("MOVE")] == ["MOVE STUDY", "MOVE IMAGE 3"]


@pytest.mark.worst_but_for("what never comes is waited for longer, the later the others came", answers_first=None)
async def test_what_is_never_sent_makes_the_study_partial_and_is_named(pacs, start):  # 2
    pacs.behaviour.drop = set(UIDS[3:6])
    gateway = await start(pacs)
    ended = await outcome(gateway)
    assert isinstance(ended, Partial)
    assert set(ended.missing) == set(UIDS[3:6])
    answer = await gateway.ask(SAMPLE_STUDY)
    assert len(answer["urls"]) == len(UIDS) - 3
    assert answer["error"] == f"3 of {len(UIDS)} instances could not be retrieved from the PACS; ask again later"


@pytest.mark.worst_but_for(
    "what never comes is waited for longer, the later the others came; one that gives up is in test_sloppy.py",
    answers_first=None,
    gives_up_at_a_refusal=False,
)
async def test_failed_sub_operations_make_the_study_partial(pacs, start):  # 1
    pacs.behaviour.fail = {UIDS[0]}
    gateway = await start(pacs)
    ended = await outcome(gateway)
    assert isinstance(ended, Partial)
    assert ended.missing == (UIDS[0],)


@pytest.mark.worst_but_for(
    "the PACS's counts are its premise, and without a list nothing tells whose a file with other UIDs is",
    no_counts=False,
    coerced_uids=False,
)
@pytest.mark.parametrize("how", ["fail", "empty"])
async def test_without_image_level_queries_the_pacss_count_is_the_proof(pacs, start, how):  # 3
    pacs.behaviour.no_image_level = how
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)


@pytest.mark.worst_but_for(
    "nameless answers are looked into at the level that fails; without a list nothing tells whose a file with "
    "other UIDs is, nor when all has come",
    study_answer="",
    coerced_uids=False,
    answers_first=None,
)
async def test_without_list_and_count_a_study_is_not_called_complete(pacs, start):  # 3
    pacs.behaviour.no_series_level = pacs.behaviour.no_counts = True
    gateway = await start(pacs)
    ended = await outcome(gateway)
    assert isinstance(ended, Partial)
    assert len(ended.index.instances) == len(UIDS)
    assert "some instances" in (await gateway.ask(SAMPLE_STUDY))["error"]


async def test_missing_counts_alone_do_no_harm(pacs, start):  # 3
    pacs.behaviour.no_counts = True
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)


async def test_an_instance_of_another_study_is_not_taken_in(pacs, start):  # 4
    foreign_study, foreign = sample_study()
    pacs.behaviour.send_foreign_instance = foreign[0].content
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)
    assert [o async for o in gateway.parts.store.list(keys.study(foreign_study))] == []


async def test_two_studies_at_once_from_one_pacs_do_not_mix(pacs, start):  # 4
    other_study, other = sample_study()
    pacs.add(*(i.content for i in other))
    gateway = await start(pacs)
    first, second = await asyncio.gather(gateway.ask(SAMPLE_STUDY), gateway.ask(other_study))
    assert {u.split("/")[-1].split(".dcm")[0] for u in first["urls"]} == set(UIDS)
    assert {u.split("/")[-1].split(".dcm")[0] for u in second["urls"]} == {i.sop_instance_uid for i in other}


async def test_a_slow_move_without_pending_responses_is_not_given_up(pacs, start):  # 5
    pacs.behaviour.delay_per_instance = 0.05
    gateway = await start(pacs, pacs_options={"idle_timeout": "500ms"})  # 33 × 50 ms in all
    assert isinstance(await outcome(gateway), Complete)


async def test_a_silent_pacs_is_given_up(pacs, start):  # 5
    pacs.behaviour.silent = True
    gateway = await start(pacs, pacs_options={"respond_timeout": "300ms"})
    ended = await outcome(gateway)
    assert isinstance(ended, Unreachable)
    assert "silent for 0.3 s" in ended.reason


async def test_a_pacs_that_falls_silent_in_a_move_is_given_up(pacs, start):  # 5
    gateway = await start(pacs, pacs_options={"idle_timeout": "400ms", "respond_timeout": "400ms"})
    client = gateway.parts.pacs[0].client
    find = client.find_study

    async def then_silent(uid, **urgency):
        record = await find(uid, **urgency)
        pacs.behaviour.silent = True
        return record

    client.find_study = then_silent
    assert isinstance(await outcome(gateway), Unreachable)


async def test_an_unknown_destination_names_what_to_register(pacs, start):  # 7
    gateway = await start(pacs, dicom={"advertised_host": "10.1.2.3"})
    pacs.destinations.clear()
    ended = await outcome(gateway)
    assert isinstance(ended, NotSent)
    assert f"register AVARAGW at 10.1.2.3:{gateway.parts.scp.port}" in ended.reason.replace(
        str(gateway.config.dicom.port), str(gateway.parts.scp.port)
    )


async def test_a_move_to_nowhere_is_not_believed(pacs, start):  # 7
    pacs.behaviour.move_elsewhere = True
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), NotSent)


async def test_a_pacs_that_finds_no_way_to_us_is_asked_by_no_further_move(pacs, start):  # 7
    pacs.behaviour.silent_moves = True
    gateway = await start(pacs, pacs_options={"idle_timeout": "400ms"})
    ended = await outcome(gateway)
    assert isinstance(ended, Unreachable)
    assert "can it open a connection to AVARAGW" in ended.reason
    assert "or does a firewall drop it?" in ended.reason
    assert [r for r in pacs.requests if r.startswith("MOVE")] == ["MOVE STUDY"]


async def test_a_pacs_that_finds_no_way_to_us_is_asked_by_its_next_method(pacs, start):  # 7
    pacs.behaviour.silent_moves = True
    gateway = await start(pacs, pacs_options={"idle_timeout": "400ms", "retrieve": ["c-move", "c-get"]})
    assert isinstance(await outcome(gateway), Complete)
    assert [r for r in pacs.requests if r.startswith("MOVE")] == ["MOVE STUDY"]


async def test_too_many_associations_are_waited_for(pacs, start, monkeypatch):  # 8
    monkeypatch.setattr("gateway.pacs.scu.client.BUSY_RETRIES", 8)  # a minute, however slow the machine is
    pacs.behaviour.max_associations = 1
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)


async def test_a_refused_calling_ae_says_what_to_register(pacs, start):
    pacs.behaviour.refuse_calling_ae = True
    gateway = await start(pacs)
    ended = await outcome(gateway)
    assert isinstance(ended, Unreachable)
    assert "register AE title AVARAGW" in ended.reason


async def test_an_abort_in_the_middle_is_made_good(pacs, start):
    pacs.behaviour.abort_after = 10
    gateway = await start(pacs)
    fetching = asyncio.create_task(outcome(gateway))
    while not any(r.startswith(("MOVE IMAGE", "MOVE SERIES")) for r in pacs.requests):
        await asyncio.sleep(0.01)
    pacs.behaviour.abort_after = None
    assert isinstance(await fetching, Complete)


@pytest.mark.own_habits("it counts queries, and a nameless answer costs some more")
@pytest.mark.parametrize("level", ["STUDY", "SERIES", "IMAGE"])
async def test_a_query_that_ends_among_its_answers_is_asked_once_more(pacs, start, level):
    pacs.behaviour.hang_ups = {level: 1}
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)
    assert gateway.parts.pacs[0].habits.told == ""
    assert pacs.requests.count("FIND STUDY") == 1 + (level == "STUDY")
    assert pacs.requests.count("FIND SERIES") == 1 + (level != "STUDY")


async def test_an_instance_sent_twice_is_one_instance(pacs, start):  # 12
    pacs.behaviour.send_twice = True
    gateway = await start(pacs)
    ended = await outcome(gateway)
    assert isinstance(ended, Complete)
    assert len(ended.index.instances) == len(UIDS)


async def test_of_an_instance_sent_twice_the_first_one_counts(pacs, start):  # 12
    """A second body is taken only where it was asked for again: else anybody could change what is stored."""
    pacs.behaviour.send_twice = pacs.behaviour.other_bytes_second_time = True
    gateway = await start(pacs)
    answer = await gateway.ask(SAMPLE_STUDY)
    for url in answer["urls"]:
        assert "InstitutionName" not in dcmread(io.BytesIO(await gateway.open(url)))


async def test_an_odd_character_set_never_keeps_a_study_from_opening(pacs, start):  # 13
    pacs.behaviour.character_set = "Прочее"
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), Complete)


async def test_sending_under_an_unknown_ae_title_is_refused_until_it_is_configured(pacs, start):
    pacs.behaviour.calling_ae_title = "ELSEWHERE"
    gateway = await start(pacs)
    assert isinstance(await outcome(gateway), NotSent)
    second = await start(pacs, pacs_options={"sending_ae_titles": ["ELSEWHERE"]})
    assert isinstance(await outcome(second), Complete)


async def test_a_store_that_is_full_is_a_clear_refusal_and_no_half_study(pacs, start):
    gateway = await start(pacs, cache={"max_size": "50kB"})
    ended = await outcome(gateway)
    assert isinstance(ended, Partial | NotStored)
    answer = await gateway.ask(SAMPLE_STUDY)
    assert answer["error"]
    for url in answer["urls"]:
        await gateway.open(url)
