"""The cache follows the PACS: what was withdrawn, corrected or replaced there is what people see here.

Against Orthanc where it can do it, else against the simulator; test_rejection.py has the rejection notes
and test_compare.py the comparison itself.
"""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

import pytest
from pydicom import dcmread
from sqlalchemy import update

from gateway.demo.sample import sample_study
from gateway.journal import Journal, StudyState
from gateway.journal.tables import cached_studies
from gateway.studies import keys
from gateway.studies.cache import Budget, StudyCache
from gateway.studies.index import Instance, StudyIndex
from tests.conftest import describe
from tests.rig.journal import with_journal


def changed(content, **attributes):
    """A Part 10 file with other values of some attributes."""
    dataset = dcmread(io.BytesIO(content))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    written = io.BytesIO()
    dataset.save_as(written)
    return written.getvalue()


def shown(answer):
    """SOP Instance UIDs of an answer's URLs."""
    return {url.split("?")[0].rsplit("/", 1)[1].removesuffix(".dcm") for url in answer["urls"]}


def in_manifest(answer):
    return {sop["sopInstanceUID"] for series in answer["manifest"]["series"] for sop in series["sops"]}


async def patients(gateway, answer):
    return {str(dcmread(io.BytesIO(await gateway.open(url))).PatientID) for url in answer["urls"]}


async def status(gateway, url):
    async with gateway.http.get(url) as answer:
        return answer.status


async def remove(orthanc, *uids):
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": "\\".join(uids)}}
    for name in json.loads(await orthanc._ok("POST", "/tools/find", json=query)):
        await orthanc._ok("DELETE", f"/instances/{name}")


EVERY_TIME = {"revalidate_after": "0s"}


async def test_an_instance_that_was_deleted_in_the_pacs_leaves_answer_manifest_and_store(orthanc, start):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:3]))
    gateway = await start(orthanc, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert len(before["urls"]) == 3
    gone = sample[1].sop_instance_uid
    await remove(orthanc, gone)
    after = await gateway.ask(study)
    assert "error" not in after
    assert shown(after) == in_manifest(after) == {sample[0].sop_instance_uid, sample[2].sop_instance_uid}
    [url] = [url for url in before["urls"] if gone in url]
    assert await status(gateway, url) in (403, 404)
    assert {await status(gateway, url) for url in after["urls"]} == {200}


async def test_a_study_that_is_another_patients_now_is_fetched_anew_and_the_old_images_go(orthanc, start):
    study, sample = sample_study()
    old = [changed(i.content, PatientID="OLD", PatientName="Old^Patient") for i in sample[:3]]
    await orthanc.add(*old)
    gateway = await start(orthanc, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert await patients(gateway, before) == {"OLD"}
    await orthanc.clear()
    await orthanc.add(*(changed(content, PatientID="NEW", PatientName="New^Patient") for content in old))
    after = await gateway.ask(study)
    assert "error" not in after
    assert shown(after) == shown(before)
    assert await patients(gateway, after) == {"NEW"}
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}


@pytest.mark.parametrize(
    "corrected",
    [
        {"PatientID": "OTHER"}, {"IssuerOfPatientID": "ELSEWHERE"}, {"PatientName": "Other^Name"},
        {"PatientBirthDate": "19010101"}, {"PatientSex": "O"}, {"AccessionNumber": "OTHER"}, {"StudyDate": "20010101"},
        {"StudyDescription": "Other"},
    ],
)  # fmt: skip
async def test_what_was_corrected_in_the_pacs_is_what_is_given(simulator, start, corrected, monkeypatch):
    monkeypatch.setattr("gateway.studies.access.REVALIDATION_PATIENCE", 60.0)  # however busy this machine is
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=EVERY_TIME)
    before = await gateway.ask(study)
    simulator.add(*(changed(i.content, **corrected) for i in sample[:3]))
    after = await gateway.ask(study)
    [keyword] = corrected
    for url in after["urls"]:
        assert str(dcmread(io.BytesIO(await gateway.open(url)))[keyword].value) == corrected[keyword]
    assert len(after["urls"]) == 3
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}


async def test_what_is_known_to_be_wrong_is_not_given_where_the_right_one_cannot_be_had(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=EVERY_TIME)
    before = await gateway.ask(study)
    simulator.add(*(changed(i.content, PatientID="OTHER") for i in sample[:3]))
    simulator.behaviour.send_nothing = True
    answer = await gateway.ask(study)
    assert answer["urls"] == []
    assert "corrected this study (patient ID)" in answer["error"]
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}
    simulator.behaviour.refuse_calling_ae = True  # nor later, where nothing is known any more
    assert (await gateway.ask(study))["urls"] == []
    simulator.behaviour.refuse_calling_ae = simulator.behaviour.send_nothing = False
    assert await patients(gateway, await gateway.ask(study)) == {"OTHER"}


@pytest.mark.own_habits("it counts queries, and a nameless answer costs some more")
async def test_a_warm_study_costs_one_query(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    gateway = await start(simulator, cache=EVERY_TIME)
    await gateway.ask(study)
    simulator.requests.clear()
    await gateway.ask(study)
    assert simulator.requests == ["FIND STUDY"]


async def test_an_instance_that_was_replaced_under_its_uid_is_fetched_again(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=EVERY_TIME | {"compare_every": "0s"})
    before = await gateway.ask(study)
    new = changed(sample[1].content, InstanceCreationTime="235959", ImageComments="the right one")
    simulator.add(new)
    after = await gateway.ask(study)
    assert await gateway.open(next(u for u in after["urls"] if sample[1].sop_instance_uid in u)) != sample[1].content
    comments = [dcmread(io.BytesIO(await gateway.open(url))).get("ImageComments") for url in after["urls"]]
    assert comments.count("the right one") == 1
    same = {u.split("?")[0] for u in before["urls"]} & {u.split("?")[0] for u in after["urls"]}
    assert len(same) == 2  # the others were not fetched again
    [old] = [u for u in before["urls"] if u.split("?")[0] not in same]
    assert await status(gateway, old) in (403, 404)


@pytest.mark.parametrize("how", ["fail", "empty", "cut", "no series"])
async def test_a_list_that_is_empty_failed_or_cut_removes_nothing(simulator, start, how):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    gateway = await start(simulator, cache=EVERY_TIME | {"compare_every": "0s"})
    before = await gateway.ask(study)
    if how == "cut":
        simulator.behaviour.no_counts, simulator.behaviour.list_limit = True, 10
    elif how == "no series":
        simulator.behaviour.no_series_level = True
    else:
        simulator.behaviour.no_image_level = how
    assert shown(await gateway.ask(study)) == shown(before)
    assert {await status(gateway, url) for url in before["urls"]} == {200}


@pytest.mark.worst_but_for(
    "the PACS's counts are its premise, and without a list nothing tells whose a file with other UIDs is",
    no_counts=False,
    coerced_uids=False,
    study_answer="",
)
async def test_where_a_pacs_lists_nothing_its_count_and_what_it_sends_tell_what_is_gone(simulator, start):
    study, sample = sample_study()
    simulator.behaviour.no_image_level = "fail"
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=EVERY_TIME)
    await gateway.ask(study)
    simulator.remove(sample[1].sop_instance_uid)
    assert shown(await gateway.ask(study)) == {sample[0].sop_instance_uid, sample[2].sop_instance_uid}


async def test_a_store_that_does_not_delete_is_asked_again_and_nothing_old_is_answered(simulator, start, monkeypatch):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=EVERY_TIME)
    store, cache = gateway.parts.store, gateway.parts.cache
    await gateway.ask(study)
    simulator.remove(sample[1].sop_instance_uid)

    async def fails(_):
        from gateway.objects import StoreError

        raise StoreError("no")

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", fails)
        assert len((await gateway.ask(study))["urls"]) == 2
    old = keys.instance(study, sample[1].sop_instance_uid)
    assert await store.head(old) is not None
    await cache.settle()
    assert await store.head(old) is None
    assert len((await gateway.ask(study))["urls"]) == 2


async def test_a_study_that_the_pacs_has_under_two_patients_is_not_shown(orthanc, start):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:3]))
    gateway = await start(orthanc, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert len(before["urls"]) == 3
    await orthanc.add(*(changed(i.content, PatientID="OTHER", PatientName="Other^Name") for i in sample[:3]))
    answer = await gateway.ask(study)
    assert answer["urls"] == []
    assert "several patients" in answer["error"]
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}


async def test_a_study_that_no_pacs_has_any_more_is_removed_once_that_is_certain(orthanc, start, monkeypatch):
    monkeypatch.setattr("gateway.studies.absence.ABSENT_FOR", 0.5)
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:3]))
    gateway = await start(orthanc, cache=EVERY_TIME)
    before = await gateway.ask(study)
    await orthanc.clear()
    answer = await gateway.ask(study)
    assert (answer["authorized"], answer["urls"]) == (False, [])
    assert {await status(gateway, url) for url in before["urls"]} == {200}  # once is not enough
    await asyncio.sleep(0.6)
    await gateway.parts.upkeep.round()
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}
    assert [o async for o in gateway.parts.store.list(keys.study(study))] == []


@pytest.mark.worst_but_for("the watch goes by what a study's own answer says", no_counts=False, study_answer="")
async def test_urls_of_what_was_withdrawn_die_though_nobody_asks(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache={"watch_every": "10ms"})
    before = await gateway.ask(study)
    simulator.remove(sample[1].sop_instance_uid)
    await gateway.parts.upkeep.round()
    [old] = [url for url in before["urls"] if sample[1].sop_instance_uid in url]
    assert await status(gateway, old) in (403, 404)
    simulator.add(*(changed(i.content, PatientID="OTHER") for i in (sample[0], sample[2])))
    await gateway.parts.upkeep.round()
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}


@pytest.mark.worst_but_for("the watch goes by what a study's own answer says", no_counts=False, study_answer="")
@pytest.mark.parametrize("gone", ["study", "instance", "patient"])
async def test_what_the_watch_has_found_is_not_answered_from_a_fresh_comparison(simulator, start, gone):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache={"watch_every": "10ms", "revalidate_after": "1h"})
    assert len((await gateway.ask(study))["urls"]) == 3
    if gone == "study":
        simulator.clear()
    elif gone == "instance":
        simulator.remove(sample[0].sop_instance_uid)
    else:
        simulator.add(*(changed(i.content, PatientID="OTHER") for i in sample[:3]))
        simulator.behaviour.send_nothing = True
    await gateway.parts.upkeep.round()
    assert len((await gateway.ask(study))["urls"]) == (2 if gone == "instance" else 0)


@pytest.mark.own_habits("it counts queries, and a nameless answer costs some more")
async def test_what_is_unchanged_is_watched_by_one_query(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache={"watch_every": "10ms"})
    await gateway.ask(study)
    simulator.requests.clear()
    await gateway.parts.upkeep.round()
    assert set(simulator.requests) == {"FIND STUDY"}


async def test_nothing_is_kept_longer_than_max_age(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache={"max_age": "1h", "watch_every": "0s", "url_expiry": "60s"})
    await gateway.ask(study)
    cache, journal, upkeep = gateway.parts.cache, gateway.parts.journal, gateway.parts.upkeep
    held = await cache.index(study)
    cache.remember(replace(held, fetched=held.fetched - 3601))
    await upkeep.drop_old()
    assert await cache.index(study) is not None  # somebody has its URLs
    await journal.run(lambda c: c.execute(update(cached_studies).values(urls_valid_until=0.0)))
    await upkeep.drop_old()
    assert [o async for o in gateway.parts.store.list(keys.study(study))] == []
    assert await journal.cached_study(study) is None


async def test_instances_that_moved_to_another_study_leave_this_one(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator, cache=EVERY_TIME)
    await gateway.ask(study)
    other = "1.2.3.4.5.6"
    simulator.add(changed(sample[1].content, StudyInstanceUID=other))
    assert shown(await gateway.ask(study)) == {sample[0].sop_instance_uid, sample[2].sop_instance_uid}
    assert shown(await gateway.ask(other)) == {sample[1].sop_instance_uid}


async def test_by_dicomweb_too_what_was_deleted_replaced_or_corrected_is_noticed(orthanc, start):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:3]))
    web = describe(orthanc) | {"retrieve": "wado-rs", "dicomweb_url": f"{orthanc.url}/dicom-web"}
    gateway = await start(web, cache=EVERY_TIME | {"compare_every": "0s"})
    before = await gateway.ask(study)
    assert len(before["urls"]) == 3
    await remove(orthanc, sample[1].sop_instance_uid)
    assert shown(await gateway.ask(study)) == {sample[0].sop_instance_uid, sample[2].sop_instance_uid}
    await remove(orthanc, sample[0].sop_instance_uid)
    await orthanc.add(changed(sample[0].content, InstanceNumber=99))
    answer = await gateway.ask(study)
    contents = [dcmread(io.BytesIO(await gateway.open(url))) for url in answer["urls"]]
    assert 99 in {c.InstanceNumber for c in contents}
    await orthanc.clear()
    await orthanc.add(*(changed(i.content, PatientID="NEW", PatientName="New^Patient") for i in sample[:3]))
    answer = await gateway.ask(study)
    assert await patients(gateway, answer) == {"NEW"}
    assert len(answer["urls"]) == 3
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}


async def test_an_attempt_that_was_cut_off_leaves_nothing_behind(store, tmp_path):
    """Objects that no index names go at the next start, and what the index names stays."""
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}")
    try:
        cache = StudyCache(store, journal, Budget(10**9))
        await cache.open()
        kept = Instance("1.1", "1", "1.2", "1.2.840.10008.1.2", 4)
        index = StudyIndex("1.2.3", {"1.1": kept}, True, "main")
        for key in (keys.instance("1.2.3", "1.1"), keys.instance("1.2.3", "1.2"), keys.instance("1.2.3", "1.1", "r1")):
            await store.put(key, b"data", content_type="application/dicom")
        await cache.filled(index)
        await cache.filling("1.2.3")  # as before something is changed, and then the power failed
        after_restart = StudyCache(store, journal, Budget(10**9))
        await after_restart.open()
        await after_restart.sweep()
        there = {o.key async for o in store.list(keys.study("1.2.3"))}
        assert there == {keys.index("1.2.3"), keys.instance("1.2.3", "1.1")}
        assert (await journal.cached_study("1.2.3")).state is StudyState.READY
    finally:
        await journal.close()
