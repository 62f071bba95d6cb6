"""Who refused what is said: in the answer, by ``fetch`` and ``check``, and once a study in the log.

That a PACS "cannot be reached" is said only where nothing answered (test_access.py).
"""

from __future__ import annotations

import logging

import pytest
from pydicom.uid import generate_uid

from gateway.admin.control import fetch_progress
from gateway.demo.sample import sample_study, synthetic_ct
from gateway.studies.outcome import Complete, NotSent, Partial
from gateway.studies.refusals import summary
from tests.conftest import data_set, describe

STUDY = generate_uid(None)
SMALL, LARGE = list(synthetic_ct(STUDY, 3, 8, 8)), list(synthetic_ct(STUDY, 6, 800, 800))[3:]
LIMIT = {"dicom": {"max_instance_size": "1MB"}}
REMEDY = "raise dicom.max_instance_size where it is to be taken"


async def ended_and_told(gateway, study=STUDY):
    """How a fetch ended, and what the command ``fetch`` says of it."""
    *_, last = [line async for line in fetch_progress(gateway.parts.fetcher, study)]
    ended = await gateway.parts.fetcher.fetch(study).ended(30)
    return ended, last["text"]


@pytest.mark.parametrize("way", ["c-move", "c-get"])
async def test_what_is_too_large_costs_only_itself_and_is_told_with_reason_and_uid(simulator, start, caplog, way):
    simulator.add(*(i.content for i in SMALL + LARGE))
    gateway = await start(simulator, pacs_options={"retrieve": way}, **LIMIT)
    caplog.set_level(logging.WARNING)
    ended = await gateway.parts.fetcher.fetch(STUDY).ended(60)
    lines = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
    assert isinstance(ended, Partial)
    assert set(ended.missing) == {i.sop_instance_uid for i in LARGE}
    assert len(lines) == 1, "one line a study"
    assert REMEDY in lines[0]
    answer = await gateway.ask(STUDY)
    assert sorted(await gateway.data_sets(answer)) == sorted(data_set(i.content) for i in SMALL)
    assert answer["error"].startswith("3 of 6 instances could not be retrieved from the PACS: the gateway refused ")
    assert REMEDY in answer["error"]
    assert any(uid in answer["error"] for uid in ended.missing)
    assert REMEDY in (await ended_and_told(gateway))[1]
    [told] = [r.text async for r in gateway.checked() if r.name == "refused instances"]
    assert "of AE SIMULATOR since the start, the latest at" in told
    assert any(uid in told for uid in ended.missing)
    assert REMEDY in told


async def test_a_study_of_which_everything_is_refused_is_not_said_to_be_the_pacss_doing(simulator, start):
    simulator.add(*(i.content for i in LARGE))
    gateway = await start(simulator, **LIMIT)
    ended, told = await ended_and_told(gateway)
    assert isinstance(ended, NotSent)
    assert REMEDY in told
    answer = await gateway.ask(STUDY)
    assert (answer["authorized"], answer["urls"]) == (True, [])
    assert answer["error"].startswith("no instance of the study could be taken in: the gateway refused ")
    assert REMEDY in answer["error"]


@pytest.mark.worst_but_for("the line has the UIDs of the files, once", coerced_uids=False, send_twice=False)
async def test_an_instance_of_another_study_is_refused_in_a_line_and_spoils_nothing(simulator, start, caplog):
    simulator.add(*(i.content for i in SMALL))
    other, foreign = sample_study()
    simulator.behaviour.send_foreign_instance = foreign[0].content
    gateway = await start(simulator)
    caplog.set_level(logging.WARNING)
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(60), Complete)
    [line] = [r.getMessage() for r in caplog.records if "refused" in r.getMessage()]
    assert f"the gateway refused {foreign[0].sop_instance_uid}: it is of study {other}" in line
    assert "error" not in await gateway.ask(STUDY)


async def test_what_was_refused_and_came_after_all_is_not_told(simulator, start):
    simulator.add(*(i.content for i in SMALL))
    gateway = await start(simulator)
    flight = gateway.parts.fetcher.fetch(STUDY)
    flight.refusals[SMALL[0].sop_instance_uid] = "it could not be written"
    await flight.ended(60)
    assert flight.refusals == {}


async def test_a_study_without_instances_is_that(simulator, start):
    simulator.add(*(i.content for i in SMALL))
    simulator.behaviour.no_image_level, simulator.behaviour.no_counts = "empty", True
    simulator.behaviour.send_nothing = True
    gateway = await start(simulator)
    ended, _ = await ended_and_told(gateway)
    assert isinstance(ended, NotSent)
    assert ended.empty
    assert (await gateway.ask(STUDY))["error"] == "the study has no instances in the hospital's PACS"


async def test_a_pacs_that_lists_instances_and_sends_none_is_told_so(simulator, start):
    simulator.add(*(i.content for i in SMALL))
    simulator.behaviour.send_nothing = True
    gateway = await start(simulator)
    answer = await gateway.ask(STUDY)
    assert answer["error"] == "the hospital's PACS has the study and sends no instance of it; ask again later"


async def test_a_pacs_that_answers_by_a_refusal_was_reached(simulator, start):
    simulator.behaviour.refuse_calling_ae = True
    gateway = await start(simulator)
    answer = await gateway.ask(STUDY)
    assert answer["error"] == "the hospital's PACS does not take the gateway's query now; ask again later"


def nobody_listens(simulator):
    return describe(simulator) | {"port": 1}


def refuses_us(simulator):
    simulator.behaviour.refuse_calling_ae = True
    return simulator


def has_no_instance(simulator):
    simulator.behaviour.no_image_level, simulator.behaviour.no_counts = "empty", True
    simulator.behaviour.send_nothing = True
    return simulator


def keeps_one_back(simulator):
    simulator.behaviour.drop = {SMALL[0].sop_instance_uid}
    return simulator


@pytest.mark.parametrize(
    ("pacs", "told"),
    [
        (
            nobody_listens,
            "reached (Connect call failed ('127.0.0.1', 1)): is it up, are host and port right?",
        ),
        (refuses_us, "rejects AE AVARAGW: calling AE title not recognized; register AE title AVARAGW in it"),
        (has_no_instance, "PACS simulator has the study without any instance"),
        (keeps_one_back, f"the PACS did not send all that it lists (missing: {SMALL[0].sop_instance_uid})"),
    ],
    ids=["nobody listens", "refuses us", "has no instance", "keeps one back"],  # the same in each process
)
async def test_the_log_and_fetch_tell_the_same_and_what_it_was(simulator, start, caplog, pacs, told):
    simulator.add(*(i.content for i in SMALL))
    gateway = await start(pacs(simulator))
    caplog.set_level(logging.INFO)
    _, said = await ended_and_told(gateway)
    assert said.endswith(told)
    lines = [r.getMessage() for r in caplog.records]
    assert any(line.startswith(f"study {STUDY} ") and line.endswith(told) for line in lines)
    assert not any("DOE" in line or "SAMPLE^" in line for line in lines)


async def test_the_log_tells_the_rule_that_forbids_a_study(simulator, start, caplog):
    simulator.add(*(i.content for i in SMALL))
    gateway = await start(simulator, access={"deny_modalities": ["CT"]})
    caplog.set_level(logging.INFO)
    assert (await gateway.ask(STUDY))["authorized"] is False
    assert f"study {STUDY} is not given: access.deny_modalities forbids it" in [r.getMessage() for r in caplog.records]


def test_what_was_refused_is_told_by_reason():
    assert summary({}) == ""
    assert summary({"1.2": "too large", "1.3": "no room", "1.4": "too large", "": "no room"}) == (
        "the gateway refused 1.2 and 1 more: too large; the gateway refused 1.3 and 1 more: no room"
    )
