"""What was withdrawn dies within a minute however many studies are open: the watch asks for many at once, believes a
list only where it answers, and tells of what it could not ask."""

from __future__ import annotations

import asyncio
import io
import logging
import time

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from gateway.demo.sample import sample_study
from gateway.studies.index import Instance, StudyIndex
from gateway.studies.watch import IN_A_LIST
from tests.conftest import describe
from tests.studies.test_truth import remove


def studies(count):
    """Part 10 files of studies that have one instance each: Study Instance UID → file."""
    dataset = dcmread(io.BytesIO(sample_study()[1][0].content))
    found = {}
    for _ in range(count):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        written = io.BytesIO()
        dataset.save_as(written)
        found[str(dataset.StudyInstanceUID)] = written.getvalue()
    return found


async def opened(gateway, files):
    """Has studies in the cache, with URLs that work, as if each had been opened just now."""
    cache, journal = gateway.parts.cache, gateway.parts.journal
    now = journal.clock.now()
    for uid, content in files.items():
        d = dcmread(io.BytesIO(content), stop_before_pixels=True)
        instance = Instance(
            d.SOPInstanceUID, d.SeriesInstanceUID, d.SOPClassUID, d.file_meta.TransferSyntaxUID, len(content)
        )
        index = StudyIndex(
            uid, {d.SOPInstanceUID: instance}, True, gateway.config.pacs[0].name, fetched=now, compared=now
        )
        await cache.filling(uid)
        await cache.filled(index)
        await journal.access(f"stu_{uid[-20:]}", uid, urls_valid_until=now + 3600)


def withdrawn(gateway, files):
    """Those that the watch found to be in no PACS."""
    return {uid for uid in files if gateway.parts.fetcher.absences.in_doubt(uid)}


WATCHED = {"watch_every": "10ms"}


async def a_round(gateway):
    """A round in which the watch looks, too: the one before may have taken less than ``watch_every``."""
    await asyncio.sleep(0.02)
    await gateway.parts.upkeep.round()


@pytest.mark.own_habits("it counts queries, and a nameless answer costs some more")
async def test_many_open_studies_cost_a_query_for_fifty(simulator, start):
    files = studies(IN_A_LIST + 10)
    simulator.add(*files.values())
    gateway = await start(simulator, cache=WATCHED)
    await opened(gateway, files)
    gone = [list(files)[3], list(files)[-1]]
    simulator.requests.clear()
    await a_round(gateway)
    assert simulator.requests == ["FIND STUDY"] * 2
    for uid in gone:
        simulator.remove(str(dcmread(io.BytesIO(files[uid])).SOPInstanceUID))
    await a_round(gateway)
    assert withdrawn(gateway, files) == set(gone)


@pytest.mark.own_habits("each of its cases is a habit of answering lists")
@pytest.mark.parametrize("how", ["takes_no_uid_lists", "ignores_keys", "list_limit"])
async def test_a_list_proves_nothing_of_what_its_answer_leaves_out(simulator, start, how):
    files = studies(12)
    simulator.add(*files.values())
    gateway = await start(simulator, cache=WATCHED)
    await opened(gateway, files)
    setattr(simulator.behaviour, how, 3 if how == "list_limit" else True)
    await a_round(gateway)
    assert not withdrawn(gateway, files)
    assert gateway.parts.pacs[0].habits.takes_uid_lists is (how != "takes_no_uid_lists")
    simulator.requests.clear()
    await a_round(gateway)
    if how == "takes_no_uid_lists":
        assert simulator.requests == ["FIND STUDY"] * 12
        assert "several studies at once" in gateway.parts.pacs[0].habits.told


async def test_studies_that_could_not_be_asked_for_are_told_once_and_that_they_can_be_again(simulator, start, caplog):
    caplog.set_level(logging.INFO)
    files = studies(3)
    simulator.add(*files.values())
    gateway = await start(simulator, cache=WATCHED)
    await opened(gateway, files)
    simulator.behaviour.refuse_calling_ae = True
    for _ in range(2):
        await a_round(gateway)
    assert gateway.parts.watch.unasked.keys() == files.keys()
    simulator.behaviour.refuse_calling_ae = False
    await a_round(gateway)
    told = [r.getMessage() for r in caplog.records if "whose URLs work" in r.getMessage()]
    assert [text.split(" studies")[0] for text in told[:1]] == ["3"]
    assert len(told) == 2
    assert gateway.parts.watch.unasked == {}


@pytest.mark.parametrize("by", ["C-FIND", "QIDO-RS"])
async def test_of_two_hundred_open_studies_in_orthanc_what_was_withdrawn_dies_within_a_minute(orthanc, start, by):
    files = studies(200)
    await orthanc.add(*files.values())
    web = {"retrieve": "wado-rs", "dicomweb_url": orthanc.dicomweb_url} if by == "QIDO-RS" else {}
    gateway = await start(describe(orthanc) | web, cache=WATCHED)
    await orthanc.register("AVARAGW", gateway.parts.scp.port)
    await opened(gateway, files)
    gone = list(files)[7]
    await remove(orthanc, str(dcmread(io.BytesIO(files[gone])).SOPInstanceUID))
    began = time.monotonic()
    await a_round(gateway)
    print(f"a round of 200 studies by {by}: {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < 25  # it has 30 s
    assert withdrawn(gateway, files) == {gone}
    assert gateway.parts.pacs[0].habits.takes_uid_lists
