"""A study that lies in several PACS is one study (``pacs[].complete: false``)."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread

from gateway.demo.sample import sample_study
from gateway.studies.habits import Habits
from gateway.studies.merge import _EachsHabits
from tests.conftest import describe
from tests.rig.simulator import PacsSimulator
from tests.studies.test_truth import EVERY_TIME, changed, in_manifest, shown, status


@pytest.fixture
def archive():
    with PacsSimulator("ARCHIVE") as other:
        yield other


@pytest.fixture
async def split(simulator, archive, start):
    """Five instances: the first three in one PACS, the last three in the other, so the third in both."""
    study, sample = sample_study()
    simulator.add(*(changed(i.content, ImageComments="of the first") for i in sample[:3]))
    archive.add(*(changed(i.content, ImageComments="of the second") for i in sample[2:5]))
    gateway = await start(simulator, describe(archive) | {"complete": False}, cache=EVERY_TIME)
    archive.destinations.update(simulator.destinations)
    return gateway, study, [i.sop_instance_uid for i in sample[:5]]


async def comments(gateway, answer):
    found = {}
    for url in answer["urls"]:
        d = dcmread(io.BytesIO(await gateway.open(url)))
        found[str(d.SOPInstanceUID)] = d.ImageComments
    return found


@pytest.mark.worst_but_for("the manifest has the UIDs that are in the files", coerced_uids=False)
async def test_what_each_has_is_one_answer_and_the_first_ones_copy_counts(split):
    gateway, study, uids = split
    answer = await gateway.ask(study)
    assert "error" not in answer
    assert shown(answer) == in_manifest(answer) == set(uids)
    first, second = "of the first", "of the second"
    assert await comments(gateway, answer) == dict(zip(uids, [first, first, first, second, second], strict=True))


@pytest.mark.own_habits("it counts queries, and a nameless answer costs some more")
async def test_a_merged_study_that_is_warm_costs_each_one_query(split, simulator, archive):
    gateway, study, uids = split
    await gateway.ask(study)
    simulator.requests.clear()
    archive.requests.clear()
    assert shown(await gateway.ask(study)) == set(uids)
    assert (simulator.requests, archive.requests) == (["FIND STUDY"], ["FIND STUDY"])


async def test_one_that_cannot_be_asked_is_named_and_what_is_here_stays(split, archive):
    gateway, study, uids = split
    await gateway.ask(study)
    archive.behaviour.refuse_calling_ae = True
    answer = await gateway.ask(study)
    assert shown(answer) == set(uids)
    assert "archive cannot be asked now" in answer["error"]
    archive.behaviour.refuse_calling_ae = False
    assert "error" not in await gateway.ask(study)


async def test_a_cold_study_opens_with_what_can_be_had_and_says_whom_it_lacks(split, archive):
    gateway, study, uids = split
    archive.behaviour.refuse_calling_ae = True
    answer = await gateway.ask(study)
    assert shown(answer) == set(uids[:3])
    assert "archive cannot be asked now" in answer["error"]
    archive.behaviour.refuse_calling_ae = False
    assert shown(await gateway.ask(study)) == set(uids)


async def test_what_one_has_no_longer_is_gone_unless_the_other_has_it(split, simulator):
    gateway, study, uids = split
    before = await gateway.ask(study)
    simulator.remove(uids[1])
    simulator.remove(uids[2])
    answer = await gateway.ask(study)
    assert shown(answer) == {uids[0], *uids[2:]}
    [gone] = [url for url in before["urls"] if uids[1] in url]
    assert await status(gateway, gone) in (403, 404)


async def test_two_pacs_that_name_two_patients_are_not_merged(simulator, archive, start):
    study, sample = sample_study()
    simulator.add(sample[0].content)
    archive.add(changed(sample[1].content, PatientID="OTHER", PatientName="Other^Name"))
    gateway = await start(simulator, describe(archive) | {"complete": False}, cache=EVERY_TIME)
    archive.destinations.update(simulator.destinations)
    answer = await gateway.ask(study)
    assert answer["urls"] == []
    assert "several patients" in answer["error"]


async def test_what_is_learnt_of_one_while_merging_is_kept_as_its_own(split, archive):
    gateway, study, uids = split
    archive.behaviour.no_image_level = "fail"
    assert set(uids[:3]) <= shown(await gateway.ask(study))
    told = {pacs.name: pacs.habits.told for pacs in gateway.parts.pacs}
    assert "lists no instances" in told["archive"]
    assert told["simulator"] == ""


async def test_of_several_the_one_whose_instances_come_late_is_waited_for_longer():
    each = {name: Habits(1.0) for name in ("first", "second")}
    merged = _EachsHabits(each, {"1.1": "first", "2.1": "second"})
    merged.came_late(4.0, {"2.1"})
    merged.sends_no_instances(["1.1"])
    assert (each["first"].settle, each["second"].settle, merged.settle) == (1.0, 8.0, 8.0)
    assert [h.sends_instances for h in (*each.values(), merged)] == [False, True, False]
