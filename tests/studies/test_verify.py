"""What was replaced under its own UID, and is listed as before, is noticed by its bytes."""

from __future__ import annotations

import io
import logging
from dataclasses import replace

import pytest
from pydicom import dcmread

from gateway.demo.sample import sample_study
from gateway.journal import events
from gateway.pacs.dicomweb.json_model import detail
from gateway.studies.index import Instance, StudyIndex
from gateway.studies.verify import LARGEST
from tests.conftest import data_set, describe
from tests.studies.test_truth import changed, remove, status

ALWAYS = {"watch_every": "10ms", "compare_every": "0s", "verify_sample": 3}


@pytest.fixture(autouse=True)
def only_when_asked(monkeypatch):
    monkeypatch.setattr("gateway.studies.verify.ROUND", 3600.0)


def with_other_pixels(content):
    pixels = bytearray(dcmread(io.BytesIO(content)).PixelData)
    pixels[0] ^= 1
    return changed(content, PixelData=bytes(pixels))


async def opens(gateway, answer):
    """What URLs give: SOP Instance UID → data set."""
    found = {}
    for url in answer["urls"]:
        content = await gateway.open(url)
        found[str(dcmread(io.BytesIO(content)).SOPInstanceUID)] = data_set(content)
    return found


@pytest.mark.parametrize("method", ["c-move", "c-get"])
@pytest.mark.parametrize("what", ["pixels", "an attribute that no list has"])
async def test_what_was_replaced_and_is_listed_as_before_is_fetched_again(simulator, start, method, what):
    study, sample = sample_study()
    files = [i.content for i in sample[:3]]
    simulator.add(*files)
    gateway = await start(simulator, pacs_options={"retrieve": method}, cache=ALWAYS)
    before = await gateway.ask(study)
    old = await opens(gateway, before)
    await gateway.parts.verification.round()
    assert await opens(gateway, await gateway.ask(study)) == old  # nothing has changed
    new = with_other_pixels(files[1]) if what == "pixels" else changed(files[1], ImageComments="the right one")
    simulator.add(new)
    await gateway.parts.verification.round()
    await gateway.quiet()
    after = await gateway.ask(study)
    there = await opens(gateway, after)
    assert {uid for uid in old if there[uid] != old[uid]} == {sample[1].sop_instance_uid}
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}
    await gateway.parts.events.flush()
    told = await gateway.parts.journal.run(lambda c: events.find(c, [f"study:{study}"], 20))
    assert [e.trouble for e in told if "replaced under its own UID" in e.text] == [True]


@pytest.mark.parametrize("by", ["C-MOVE", "WADO-RS"])
async def test_orthanc_has_other_pixels_under_the_same_uid(orthanc, start, by):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:3]))
    web = {"retrieve": "wado-rs", "dicomweb_url": orthanc.dicomweb_url} if by == "WADO-RS" else {}
    gateway = await start(describe(orthanc) | web, cache=ALWAYS)
    await orthanc.register("AVARAGW", gateway.parts.scp.port)
    old = await opens(gateway, await gateway.ask(study))
    await gateway.parts.verification.round()
    assert await opens(gateway, await gateway.ask(study)) == old
    await remove(orthanc, sample[1].sop_instance_uid)
    await orthanc.add(with_other_pixels(sample[1].content))
    await gateway.parts.verification.round()
    await gateway.quiet()
    there = await opens(gateway, await gateway.ask(study))
    assert {uid for uid in old if there[uid] != old[uid]} == {sample[1].sop_instance_uid}


async def test_an_attribute_that_no_list_has_is_noticed_in_every_instance_by_the_metadata(orthanc, start):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:6]))
    web = describe(orthanc) | {"retrieve": "wado-rs", "dicomweb_url": orthanc.dicomweb_url}
    gateway = await start(web, cache=ALWAYS | {"verify_sample": 0, "revalidate_after": "1h"})
    before = await gateway.ask(study)
    old = await opens(gateway, before)
    await gateway.parts.verification.round()
    kept = await gateway.parts.cache.index(study)
    assert all(i.detail for i in kept.instances.values())
    await gateway.parts.verification.round()
    assert await gateway.parts.cache.index(study) == kept
    assert {await status(gateway, url) for url in before["urls"]} == {200}
    await remove(orthanc, sample[4].sop_instance_uid)
    await orthanc.add(changed(sample[4].content, BodyPartExamined="KNEE", ImageLaterality="L"))
    await gateway.parts.verification.round()
    await gateway.quiet()
    there = await opens(gateway, await gateway.ask(study))
    assert {uid for uid in old if there[uid] != old[uid]} == {sample[4].sop_instance_uid}


@pytest.mark.parametrize("bytes_differ", [False, True])
async def test_what_a_pacs_tells_otherwise_is_believed_where_it_says_it_twice_and_its_bytes_differ(
    simulator, start, bytes_differ
):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=ALWAYS | {"verify_sample": 0, "revalidate_after": "1h"})
    uids, told, asked = [i.sop_instance_uid for i in sample[:3]], [], []

    async def details(uid, series):
        asked.append(uid)
        return told.pop(0)

    [pacs] = gateway.parts.pacs
    gateway.parts.verification._pacs = {pacs.name: replace(pacs, details=details)}
    old = await opens(gateway, await gateway.ask(study))
    told.append(dict.fromkeys(uids, "as before"))
    await gateway.parts.verification.round()
    if bytes_differ:
        simulator.add(changed(sample[1].content, ImageComments="the right one"))
    other = dict.fromkeys(uids, "as before") | {uids[1]: "otherwise"}
    told += [other, dict.fromkeys(uids, "as before")]  # once only
    await gateway.parts.verification.round()
    assert await opens(gateway, await gateway.ask(study)) == old
    told += [other, other]
    await gateway.parts.verification.round()
    await gateway.quiet()
    index = await gateway.parts.cache.index(study)
    assert (await opens(gateway, await gateway.ask(study)) != old) is bytes_differ
    assert index.instances[uids[1]].detail == ("" if bytes_differ else "otherwise")
    assert told == []
    assert len(asked) == 5


def test_metadata_differ_by_what_is_of_the_instance_and_not_of_the_service():
    one = {"00080018": {"vr": "UI", "Value": ["1.2"]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}}
    same = {
        "00100010": {"Value": [{"Alphabetic": "A^B"}], "vr": "PN"},
        "00080018": {"vr": "UI", "Value": ["1.2"]},
        "00081190": {"vr": "UR", "Value": ["https://elsewhere"]},
    }
    bulk = {"7FE00010": {"vr": "OW", "BulkDataURI": "https://pacs/bulk/1"}}
    assert detail(one) == detail(same)
    assert detail(one | bulk) == detail(one | {"7FE00010": {"vr": "OW", "BulkDataURI": "https://pacs/bulk/2"}})
    assert detail(one) != detail(one | {"00204000": {"vr": "LT", "Value": ["the right one"]}})
    assert detail(one) != detail(one | {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^C"}]}})


@pytest.mark.worst_but_for("what comes a second time is the same as the first", send_twice=False)
async def test_a_pacs_that_sends_other_bytes_each_time_is_not_believed_and_that_is_told(simulator, start, caplog):
    caplog.set_level(logging.INFO)
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=ALWAYS)
    await gateway.ask(study)
    simulator.behaviour.other_bytes_each_time = True
    simulator.requests.clear()
    await gateway.parts.verification.round()
    assert not [r for r in simulator.requests if r.startswith("MOVE STUDY")]
    assert "other bytes each time" in gateway.parts.pacs[0].habits.told
    simulator.requests.clear()
    await gateway.parts.verification.round()
    assert simulator.requests == []


async def test_a_pacs_that_cannot_be_asked_ends_no_answer(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=ALWAYS)
    before = await gateway.ask(study)
    simulator.behaviour.refuse_calling_ae = True
    await gateway.parts.verification.round()
    assert {await status(gateway, url) for url in before["urls"]} == {200}


async def test_every_instance_has_its_turn_but_what_was_altered_here_or_is_huge(simulator, start):
    gateway = await start(simulator, cache=ALWAYS)
    one = Instance("", "1.1", "1.2", "1.2.840.10008.1.2", 100)
    instances = {f"1.2.{n}": one._replace(sop_instance_uid=f"1.2.{n}") for n in range(10)}
    instances["1.2.3"] = instances["1.2.3"]._replace(note="the UIDs that the PACS lists were put in")
    instances["1.2.4"] = instances["1.2.4"]._replace(size=LARGEST + 1)
    index = StudyIndex("1.2", instances, True, "main")
    chosen = [i.sop_instance_uid for turn in range(3) for i in gateway.parts.verification._chosen(index, turn)]
    assert set(chosen) == instances.keys() - {"1.2.3", "1.2.4"}
    assert len(chosen) == 9
