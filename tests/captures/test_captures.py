"""From an upload URL to the PACS, surely and once: against the simulator, which fails on command, and Orthanc."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import subprocess
import time

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from gateway.captures import check
from gateway.captures.check import UploadChecker
from gateway.captures.jobs import CheckUpload
from gateway.demo.sample import sample_capture, sample_study
from gateway.journal import JobState, slots
from gateway.objects import UPLOADS, ObjectStore
from tests.rig.simulator import PacsSimulator

from .conftest import SAMPLE, STUDY


def read(content):
    return dcmread(io.BytesIO(content))


async def keys(viewer, prefix):
    return [info.key async for info in viewer.gateway.parts.store.list(prefix)]


# -- granting


async def test_a_slot_is_one_put_url_that_is_kept_before_it_leaves(viewer):
    answer = await viewer.ask()
    assert answer["authorized"] is True
    assert len(answer["uploadUrls"]) == 1
    assert set(answer) == {"authorized", "uploadUrls"}
    opened = await viewer.gateway.parts.journal.run(slots.open_slots)
    assert [s.key in answer["uploadUrls"][0] for s in opened] == [True]


async def test_what_is_done_about_an_upload_is_told_as_the_webhook_s_that_its_url_was_given_to(viewer):
    answer = await viewer.ask(webhook_id="msg_asked_for_a_slot")
    assert await viewer.put(answer["uploadUrls"][0], sample_capture(STUDY).content) == 200
    stored = await viewer.stored()
    [checked] = await viewer.ended("capture.check", "done")
    assert checked.log_ids == stored.log_ids == {"webhook": "msg_asked_for_a_slot"}


async def test_the_same_webhook_gives_the_same_slot(viewer):
    first = await viewer.ask(webhook_id="msg_1")
    again = await viewer.ask(webhook_id="msg_1")
    other = await viewer.ask(webhook_id="msg_2")
    place = [a["uploadUrls"][0].split("?")[0] for a in (first, again, other)]
    assert place[0] == place[1] != place[2]


async def test_a_study_that_no_pacs_has_gets_no_url(viewer):
    answer = await viewer.ask("1.2.3.4")
    assert answer == {
        "authorized": False, "uploadUrls": [], "error": "the study is not in any PACS of this hospital",
    }  # fmt: skip


async def test_a_pacs_that_is_down_is_a_reason_and_a_cached_study_needs_none(pacs, viewer):
    await viewer.gateway.ask(STUDY)
    pacs.stop()
    assert (await viewer.ask())["authorized"] is True
    answer = await viewer.ask("1.2.3.4")
    assert answer["authorized"] is False
    assert "cannot be reached" in answer["error"]


async def test_captures_can_be_switched_off(pacs, viewer_of):
    viewer = await viewer_of(pacs, captures={"enabled": False})
    answer = await viewer.ask()
    assert answer["authorized"] is False
    assert "takes no secondary captures" in answer["error"]


async def test_a_silent_pacs_is_answered_about_in_time(pacs, viewer_of):
    viewer = await viewer_of(pacs, avara={"answer_within": "2s"})
    pacs.behaviour.silent = True
    began = time.monotonic()
    answer = await viewer.ask()
    assert answer["authorized"] is False
    assert time.monotonic() - began < 2.0
    pacs.behaviour.silent = False


# -- the way into the PACS


async def test_what_is_uploaded_is_in_the_pacs_with_its_studys_attributes(pacs, viewer):
    capture = sample_capture(STUDY)
    began = time.monotonic()
    await viewer.upload(capture.content)
    job = await viewer.stored()
    assert time.monotonic() - began < 5
    held = read(pacs.instances(STUDY)[capture.sop_instance_uid])
    sent = read(capture.content)
    assert held.PixelData == sent.PixelData
    assert (held.AccessionNumber, held.StudyID) == ("DEMO-1", "DEMO")
    assert held.ReferringPhysicianName == "Grünwald^Zoë"
    # Nothing else was changed but what says that we did it.
    added = {"AccessionNumber", "StudyID", "ReferringPhysicianName", "ContributingEquipmentSequence"}
    assert {e.keyword for e in held} - {e.keyword for e in sent} == added
    assert all(held[e.tag].value == e.value for e in sent if e.keyword != "SpecificCharacterSet")
    equipment = held.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109103"
    assert "AccessionNumber" in equipment.ContributionDescription
    history = [e.text for e in await viewer.jobs.history(job.id)]
    assert history[0].startswith("checked; set AccessionNumber from the PACS")
    assert history[-1].startswith("done: stored in PACS simulator")
    assert await keys(viewer, "inbox/") == []


async def test_bytes_of_an_object_that_lacks_nothing_are_not_touched(pacs, viewer):
    sent = sample_capture(STUDY, AccessionNumber="X", StudyID="Y", ReferringPhysicianName="Z")
    await viewer.upload(sent.content)
    job = await viewer.stored()
    assert (await viewer.jobs.history(job.id))[0].text == "checked"
    ours = await viewer.gateway.parts.store.get((await keys(viewer, "outbox/"))[0])
    assert (
        ours[144 + int.from_bytes(ours[140:144], "little") :]
        == sent.content[144 + int.from_bytes(sent.content[140:144], "little") :]
    )


async def test_a_slip_of_the_writer_is_mended_and_told_in_the_object(pacs, viewer):
    sent = sample_capture(STUDY)
    await viewer.upload(sent.content[128:] + b"\r\n")
    await viewer.stored()
    held = read(pacs.instances(STUDY)[sent.sop_instance_uid])
    assert held.PixelData == read(sent.content).PixelData
    told = held.ContributingEquipmentSequence[0].ContributionDescription
    assert told.startswith("the preamble added; 2 bytes behind the data set left out; set AccessionNumber")


async def test_a_deflated_upload_is_stored_inflated_and_one_that_is_not_to_be_is_held_with_its_reason(pacs, viewer):
    def deflated(content):
        d = read(content)
        d.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        out = io.BytesIO()
        d.save_as(out)
        return out.getvalue()

    sent, other = sample_capture(STUDY), sample_capture("1.2.3.4")
    await viewer.upload(deflated(sent.content))
    await viewer.stored()
    assert read(pacs.instances(STUDY)[sent.sop_instance_uid]).PixelData == read(sent.content).PixelData
    await viewer.upload(deflated(other.content))
    assert "Study Instance UID is not that of the study" in await viewer.held()


async def test_the_next_access_shows_the_capture_without_a_new_fetch(pacs, viewer):
    await viewer.gateway.ask(STUDY)
    capture = sample_capture(STUDY)
    await viewer.upload(capture.content)
    await viewer.stored()
    pacs.requests.clear()
    answer = await viewer.gateway.ask(STUDY)
    url = next(u for u in answer["urls"] if capture.sop_instance_uid in u)
    assert read(await viewer.gateway.open(url)).PixelData == read(capture.content).PixelData
    assert len(answer["urls"]) == len(SAMPLE) + 1
    assert not [r for r in pacs.requests if r.startswith("MOVE")]


async def test_the_same_object_sent_to_several_urls_and_twice_is_stored_once(pacs, viewer):
    capture = sample_capture(STUDY)
    first = await viewer.upload(capture.content)
    await viewer.upload(capture.content)
    await viewer.stored()
    assert await viewer.put(first["uploadUrls"][0], capture.content) == 200
    await viewer.ended("capture.check", "done", count=2)
    async with asyncio.timeout(10):
        while await keys(viewer, "inbox/"):
            await asyncio.sleep(0.05)
    assert [uid for uid, _ in pacs.storage.received] == [capture.sop_instance_uid]


async def test_other_bytes_under_one_sop_instance_uid_are_a_conflict_for_an_operator(pacs, viewer):
    capture = sample_capture(STUDY)
    await viewer.upload(capture.content)
    await viewer.stored()
    other = sample_capture(STUDY, SOPInstanceUID=capture.sop_instance_uid, SeriesDescription="Other bytes")
    await viewer.upload(other.content)
    assert "other bytes were stored under its SOP Instance UID" in await viewer.held()
    assert [uid for uid, _ in pacs.storage.received] == [capture.sop_instance_uid]
    assert len(await keys(viewer, "quarantine/")) == 1


async def test_an_instance_that_the_pacs_has_from_elsewhere_is_never_overwritten(pacs, viewer):
    known = SAMPLE[0].sop_instance_uid
    before = pacs.instances(STUDY)[known]
    series = str(read(before).SeriesInstanceUID)
    await viewer.upload(sample_capture(STUDY, SOPInstanceUID=known, SeriesInstanceUID=series).content)
    assert "holds another instance of its SOP Instance UID" in await viewer.held()
    assert pacs.storage.received == []
    assert pacs.instances(STUDY)[known] == before


async def test_the_first_valid_upload_of_a_slot_wins(pacs, viewer):
    answer = await viewer.ask()
    url = answer["uploadUrls"][0]
    assert await viewer.put(url, b"not DICOM, and longer than a header would be" * 10) == 200
    await viewer.held()
    capture = sample_capture(STUDY)
    assert await viewer.put(url, capture.content) == 200
    await viewer.stored()
    assert await viewer.put(url, sample_capture(STUDY).content) == 200
    held = await viewer.ended("capture.check", "quarantined", count=2)
    assert "another object was uploaded to the same URL before" in held[0].last_error
    assert [uid for uid, _ in pacs.storage.received] == [capture.sop_instance_uid]


async def test_of_two_uploads_of_a_slot_that_are_checked_at_once_one_is_stored_and_the_other_held_with_its_bytes(
    pacs, viewer, monkeypatch
):
    begun, go_on = [], asyncio.Event()
    holders, fetch = UploadChecker._holders, check.fetch_to_file

    async def slowly(self, upload):
        await go_on.wait()
        return await holders(self, upload)

    async def fetched(*args):
        begun.append(await fetch(*args))
        return begun[-1]

    async def fetches(count):
        async with asyncio.timeout(20):
            while len(begun) < count:
                await asyncio.sleep(0.02)

    monkeypatch.setattr(UploadChecker, "_holders", slowly)
    monkeypatch.setattr(check, "fetch_to_file", fetched)
    url = (await viewer.ask())["uploadUrls"][0]
    first, other = sample_capture(STUDY), sample_capture(STUDY)
    assert await viewer.put(url, first.content) == 200
    await fetches(1)
    assert await viewer.put(url, other.content) == 200
    await fetches(2)
    await asyncio.sleep(0.2)  # so that the later one could have come as far as the first
    go_on.set()
    await viewer.stored()
    [held] = await viewer.ended("capture.check", "quarantined")
    assert "another object was uploaded to the same URL" in held.last_error
    kept = await viewer.gateway.parts.store.get(held.read(CheckUpload).key)
    assert [uid for uid, _ in pacs.storage.received] == [first.sop_instance_uid]
    assert kept == other.content


@pytest.mark.parametrize("removals", [1, 2], ids=["after it was checked", "after it was sent again"])
async def test_an_upload_that_comes_in_the_moment_of_a_removal_is_not_removed(viewer, monkeypatch, removals):
    url, capture = (await viewer.ask())["uploadUrls"][0], sample_capture(STUDY)
    tried, came = itertools.count(1), []

    async def another_comes(keys):
        """Whatever was looked at before, here is the last moment before the request leaves."""
        if any(key.startswith("inbox/") for key in keys) and next(tried) == removals:
            came.append(await viewer.put(url, b"not DICOM, and longer than a header would be" * 10))

    delete, delete_if = ObjectStore.delete, ObjectStore._delete_if

    async def deleted(self, keys):
        keys = list(keys)
        await another_comes(keys)
        await delete(self, keys)

    async def deleted_if(self, key, etag):
        await another_comes([key])
        return await delete_if(self, key, etag)

    monkeypatch.setattr(ObjectStore, "delete", deleted)
    monkeypatch.setattr(ObjectStore, "_delete_if", deleted_if)
    assert await viewer.put(url, capture.content) == 200
    await viewer.stored(within=60)
    if removals == 2:
        async with asyncio.timeout(30):
            while await keys(viewer, "inbox/"):
                await asyncio.sleep(0.05)
        assert await viewer.put(url, capture.content) == 200
    assert "DICOM" in await viewer.held(within=60)
    assert came == [200]


async def test_every_target_gets_it(pacs, viewer_of, start):
    with PacsSimulator("SECOND") as second:
        viewer = await viewer_of(pacs, second, captures={"targets": ["simulator", "second"]})
        capture = sample_capture(STUDY)
        await viewer.upload(capture.content)
        await viewer.ended("capture.store", "done", count=2)
        assert [uid for uid, _ in second.storage.received] == [capture.sop_instance_uid]
        assert [uid for uid, _ in pacs.storage.received] == [capture.sop_instance_uid]


@pytest.fixture
async def silent():
    """A PACS that takes connections and says nothing, as a configuration describes it."""

    async def say_nothing(reader, writer):
        try:
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield {
            "name": "silent", "ae_title": "SILENT", "host": "127.0.0.1", "port": port, "respond_timeout": "10s",
            "connect_timeout": "10s",
        }  # fmt: skip


@pytest.mark.parametrize("targets", [["simulator", "silent"], ["silent", "simulator"]])
async def test_a_target_that_says_nothing_slows_no_other(pacs, viewer_of, silent, targets):
    viewer = await viewer_of(pacs, silent, captures={"targets": targets})
    await viewer.gateway.ask(STUDY)  # cached, so that an URL is given without asking any PACS
    captures = [sample_capture(STUDY) for _ in range(20)]
    for capture in captures:
        await viewer.upload(capture.content)
    # One after the other behind each time-out of the silent one they would take minutes.
    await viewer.ended("capture.store", "done", count=20, within=30)
    assert {c.sop_instance_uid for c in captures} <= set(pacs.instances(STUDY))
    async with asyncio.timeout(40):
        while not (paused := await viewer.jobs.paused_lanes()):
            await asyncio.sleep(0.2)
    assert [(lane.kind, lane.lane) for lane in paused] == [("capture.store", "silent")]


async def test_what_a_target_could_not_be_asked_before_it_is_asked_before_it_is_stored_there(
    pacs, viewer_of, monkeypatch
):
    known = SAMPLE[0].sop_instance_uid
    before = pacs.instances(STUDY)[known]
    viewer = await viewer_of(pacs)
    monkeypatch.setattr("gateway.captures.check.HEARD_WITHIN", 0.0)  # as if it were slow
    series = str(read(before).SeriesInstanceUID)
    await viewer.upload(sample_capture(STUDY, SOPInstanceUID=known, SeriesInstanceUID=series).content)
    assert "holds another instance of its SOP Instance UID" in await viewer.held("capture.store")
    assert pacs.instances(STUDY)[known] == before
    other = sample_capture(STUDY)
    await viewer.upload(other.content)
    await viewer.stored()
    assert [uid for uid, _ in pacs.storage.received] == [other.sop_instance_uid]


async def test_a_study_that_is_evicted_just_before_a_capture_joins_it_gets_no_index_of_what_is_gone(
    pacs, viewer, monkeypatch
):
    fetcher = viewer.gateway.parts.fetcher
    await viewer.gateway.ask(STUDY)
    adopt = fetcher._adopt

    async def evicted_before(held, incoming):
        await fetcher._cache.drop(STUDY)
        return await adopt(held, incoming)

    monkeypatch.setattr(fetcher, "_adopt", evicted_before)
    await viewer.upload(sample_capture(STUDY).content)
    await viewer.stored()
    assert await fetcher._cache.index(STUDY) is None


async def test_our_copy_goes_once_it_was_kept_long_enough(pacs, viewer_of):
    viewer = await viewer_of(pacs, captures={"keep_after_stored": "1s"})
    await viewer.upload(sample_capture(STUDY).content)
    await viewer.ended("object.clean", "done")
    assert await keys(viewer, "outbox/") == []


async def test_what_was_uploaded_while_the_gateway_was_down_is_found(pacs, start, weed, viewer_of):
    viewer = await viewer_of(pacs)
    parts = viewer.gateway.parts
    for loop in ("inbox", "inbox notifications"):
        await parts.loops.remove(loop)  # the gateway sees nothing any more
    capture = sample_capture(STUDY)
    await viewer.upload(capture.content)
    await asyncio.sleep(1.5)
    assert await viewer.jobs.list() == []
    parts.loops.add("inbox", parts.inbox.watch)  # as at the next start
    await viewer.stored()


async def test_what_is_one_too_many_through_a_url_of_an_outside_s3_is_removed_told_and_audited(viewer, caplog):
    url = (await viewer.ask())["uploadUrls"][0]
    for n in range(UPLOADS):
        assert await viewer.put(url, b"no DICOM %d" % n) == 200
        await viewer.ended("capture.check", "quarantined", count=n + 1)
    jobs, kept = len(await viewer.jobs.list()), await keys(viewer, "quarantine/")
    for n in range(4):
        assert await viewer.put(url, b"one too many %d" % n) == 200  # the store is not ours
        async with asyncio.timeout(20):
            while await keys(viewer, "inbox/"):
                await viewer.gateway.parts.inbox.look()
    assert len(await viewer.jobs.list()) == jobs
    assert await keys(viewer, "quarantine/") == kept
    assert "others came through its URL before" in caplog.text
    trail = viewer.gateway.parts.trail
    await trail.flush()
    text = "".join(p.read_text() for p in (viewer.gateway.config.state_dir / "audit").glob("*.jsonl"))
    refused = [json.loads(line) for line in text.splitlines() if '"upload_refused"' in line]
    assert refused
    assert all((one["study"], one["bytes"]) == (STUDY, 14) for one in refused)


async def test_an_upload_that_no_slot_explains_is_held_and_not_dropped(viewer):
    await viewer.gateway.parts.store.put("inbox/unknown", b"something", content_type="application/dicom")
    await viewer.gateway.parts.inbox.look()
    assert "nobody was given this upload URL" in await viewer.held()
    assert await keys(viewer, "inbox/") == ["inbox/unknown"]


# -- PACS that fail


async def test_a_pacs_that_is_down_for_a_while_gets_it_when_it_is_back(pacs, viewer):
    capture = sample_capture(STUDY)
    pacs.storage.behaviour.statuses = [0xA700, 0xA701]
    await viewer.upload(capture.content)
    job = await viewer.stored(within=20)
    said = [e.text for e in await viewer.jobs.history(job.id)]
    assert "status A700: it is out of resources" in said[1]
    assert len(pacs.storage.received) == 3
    assert capture.sop_instance_uid in pacs.instances(STUDY)


async def test_a_pacs_that_cannot_be_reached_is_tried_again(pacs, viewer):
    pacs.behaviour.refuse_calling_ae = False
    await viewer.gateway.ask(STUDY)
    capture = sample_capture(STUDY)
    answer = await viewer.ask()
    pacs.behaviour.refuse_calling_ae = True
    assert await viewer.put(answer["uploadUrls"][0], capture.content) == 200
    async with asyncio.timeout(60):
        while not any(j.attempts for j in await viewer.jobs.list(kinds=["capture.check"])):
            await asyncio.sleep(0.05)
    pacs.behaviour.refuse_calling_ae = False
    await viewer.stored(within=60)


@pytest.mark.parametrize("how", ["aborts", "keeps_then_aborts"])
async def test_a_pacs_that_dies_in_mid_c_store_gets_it_again(pacs, viewer, how):
    setattr(pacs.storage.behaviour, how, 1)
    capture = sample_capture(STUDY)
    await viewer.upload(capture.content)
    await viewer.stored()
    assert [uid for uid, _ in pacs.storage.received] == [capture.sop_instance_uid] * 2
    assert capture.sop_instance_uid in pacs.instances(STUDY)


async def test_a_warning_is_success_and_is_kept_in_the_record(pacs, viewer):
    pacs.storage.behaviour.statuses = [0xB000]
    await viewer.upload(sample_capture(STUDY).content)
    job = await viewer.stored()
    assert "with a warning: status B000: it changed attributes" in (await viewer.jobs.history(job.id))[-1].text
    assert len(pacs.storage.received) == 1


@pytest.mark.parametrize(
    ("status", "said"), [(0xA900, "does not match its SOP class"), (0xC001, "cannot understand the instance")]
)
async def test_a_permanent_failure_is_not_tried_again(pacs, viewer, status, said):
    pacs.storage.behaviour.statuses = [status]
    await viewer.upload(sample_capture(STUDY).content)
    assert said in await viewer.held("capture.store")
    await asyncio.sleep(2)
    assert len(pacs.storage.received) == 1


async def test_no_context_accepted_is_permanent_and_can_be_retried_by_an_operator(pacs, viewer):
    pacs.storage.behaviour.refuses = {"1.2.840.10008.5.1.4.1.1.7"}
    capture = sample_capture(STUDY)
    await viewer.upload(capture.content)
    assert (
        "accepts none of what we proposed: enable for us there the services 1.2.840.10008.5.1.4.1.1.7"
        in await viewer.held("capture.store")
    )
    pacs.storage.behaviour.refuses = set()
    (job,) = await viewer.ended("capture.store", "quarantined")
    await viewer.jobs.retry(job.id)
    await viewer.stored()


async def test_a_slow_answer_is_a_time_out_and_the_effect_is_once(pacs, viewer_of):
    viewer = await viewer_of(pacs, pacs_options={"respond_timeout": "2s"})
    capture = sample_capture(STUDY)
    answer = await viewer.ask()
    pacs.storage.behaviour.delay = 4.0
    assert await viewer.put(answer["uploadUrls"][0], capture.content) == 200
    async with asyncio.timeout(60):
        while not pacs.storage.received:
            await asyncio.sleep(0.05)
    pacs.storage.behaviour.delay = 0
    await viewer.stored()
    assert len([u for u in pacs.instances(STUDY) if u == capture.sop_instance_uid]) == 1


async def test_a_compressed_capture_goes_as_it_is_or_is_decoded_where_the_pacs_takes_none(pacs, viewer):
    compressed = sample_capture(STUDY, syntax=RLELossless)
    await viewer.upload(compressed.content)
    await viewer.stored()
    assert pacs.storage.received == [(compressed.sop_instance_uid, RLELossless)]
    pacs.storage.behaviour.syntaxes = {ImplicitVRLittleEndian}
    other = sample_capture(STUDY, syntax=RLELossless)
    await viewer.upload(other.content)
    jobs = await viewer.ended("capture.store", "done", count=2)
    assert pacs.storage.received[1] == (other.sop_instance_uid, ImplicitVRLittleEndian)
    held = read(pacs.instances(STUDY)[other.sop_instance_uid])
    assert held.PixelData == read(sample_capture(STUDY).content).PixelData  # lossless: the same pixels
    assert "as Implicit VR Little Endian" in (await viewer.jobs.history(jobs[0].id))[-1].text


# -- storage commitment


@pytest.mark.parametrize("how", ["new", "same"])
async def test_with_storage_commitment_it_is_done_only_once_committed(pacs, viewer_of, how):
    viewer = await viewer_of(pacs, captures={"storage_commitment": True})
    pacs.storage.behaviour.commitment = how
    pacs.storage.reports_to = ("AVARAGW", "127.0.0.1", viewer.gateway.parts.scp.port)
    await viewer.upload(sample_capture(STUDY).content)
    job = await viewer.stored()
    assert (await viewer.jobs.history(job.id))[-1].text.startswith("done: stored and committed by")
    assert len(pacs.storage.transactions) == 1
    assert len(pacs.storage.received) == 1


async def test_what_is_not_committed_is_stored_again(pacs, viewer_of, monkeypatch):
    monkeypatch.setattr("gateway.journal.jobs.FIRST_PAUSE", 0.05)
    viewer = await viewer_of(pacs, captures={"storage_commitment": True})
    pacs.storage.behaviour.commitment = "fail"
    pacs.storage.reports_to = ("AVARAGW", "127.0.0.1", viewer.gateway.parts.scp.port)
    await viewer.upload(sample_capture(STUDY).content)
    async with asyncio.timeout(15):
        while len(pacs.storage.received) < 2:
            await asyncio.sleep(0.05)
    pacs.storage.behaviour.commitment = "new"
    job = await viewer.stored()
    assert any("not committed: no such object instance (0112)" in e.text for e in await viewer.jobs.history(job.id))


async def test_a_report_on_what_nobody_asked_for_is_refused(pacs, viewer_of):
    viewer = await viewer_of(pacs, captures={"storage_commitment": True})
    report = Dataset()
    report.TransactionUID = "2.25.1"
    report.ReferencedSOPSequence = [Dataset()]
    report.ReferencedSOPSequence[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"

    def send():
        ae = AE("SIMULATOR")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        out = ae.associate("127.0.0.1", viewer.gateway.parts.scp.port, ae_title="AVARAGW", ext_neg=[role])
        status, _ = out.send_n_event_report(report, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        out.release()
        return status.Status

    assert await asyncio.to_thread(send) == 0x0115


async def test_a_commitment_that_never_comes_leaves_the_job_waiting(pacs, viewer_of):
    viewer = await viewer_of(pacs, captures={"storage_commitment": True})
    pacs.storage.behaviour.commitment = "never"
    await viewer.upload(sample_capture(STUDY).content)
    async with asyncio.timeout(15):
        while not pacs.storage.transactions:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)
    (job,) = await viewer.jobs.list(kinds=["capture.store"])
    assert job.state is JobState.WAITING
    assert (await viewer.jobs.history(job.id))[-1].text == "asked for storage commitment"


# -- Orthanc


async def test_orthanc_takes_it_and_commits_itself(orthanc, viewer_of):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    viewer = await viewer_of(orthanc, captures={"storage_commitment": True})
    capture = sample_capture(study)
    await viewer.upload(capture.content, study)
    job = await viewer.stored()
    assert "committed by PACS orthanc" in (await viewer.jobs.history(job.id))[-1].text
    held = read((await orthanc.instances(study))[capture.sop_instance_uid])
    assert held.PixelData == read(capture.content).PixelData
    assert held.AccessionNumber == "DEMO-1"


async def test_a_multi_frame_object_and_a_pdf_reach_orthanc(orthanc, viewer_of):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    viewer = await viewer_of(orthanc)
    frames = sample_capture(
        study, SOPClassUID="1.2.840.10008.5.1.4.1.1.7.4", NumberOfFrames=3, PixelData=bytes(48 * 64 * 3 * 3)
    )
    pdf = next(i.content for i in sample if b"%PDF" in i.content)
    copy = read(pdf)
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID + ".1"
    out = io.BytesIO()
    copy.save_as(out)
    for content in (frames.content, out.getvalue()):
        await viewer.upload(content, study)
    await viewer.ended("capture.store", "done", count=2)
    held = await orthanc.instances(study)
    assert read(held[frames.sop_instance_uid]).NumberOfFrames == 3
    assert read(held[copy.SOPInstanceUID]).EncapsulatedDocument == copy.EncapsulatedDocument


# -- slots that end, and PACS of other makers


async def test_a_slot_that_nobody_used_expires_and_leaves_nothing_behind(pacs, viewer_of, monkeypatch):
    viewer = await viewer_of(pacs)
    monkeypatch.setattr("gateway.journal.slots.GRACE", -3600.0)  # as if an hour had passed
    answer = await viewer.ask(webhook_id="msg_1")
    async with asyncio.timeout(10):
        while await viewer.gateway.parts.journal.run(slots.open_slots):
            await asyncio.sleep(0.05)
    assert await keys(viewer, "") == []
    assert await viewer.jobs.list() == []
    monkeypatch.undo()
    # An upload that comes all the same is not lost: the inbox is looked at now and then without a slot, too.
    assert await viewer.put(answer["uploadUrls"][0], sample_capture(STUDY).content) == 200
    await viewer.gateway.parts.inbox.look()
    await viewer.stored()


async def test_dcmqrscp_takes_it(dcmqrscp, viewer_of):
    study, sample = sample_study()
    directory, described = dcmqrscp
    for n, instance in enumerate(i for i in sample if b"CT" in i.content[:2000]):
        (directory / f"in-{n}").write_bytes(instance.content)
    files = sorted(map(str, directory.glob("in-*")))
    subprocess.run(["dcmqridx", str(directory), *files], check=True, capture_output=True)
    viewer = await viewer_of(described)
    capture = sample_capture(study)
    await viewer.upload(capture.content, study)
    job = await viewer.stored()
    assert "stored in PACS dcmtk" in (await viewer.jobs.history(job.id))[-1].text
    held = [dcmread(path) for path in directory.iterdir() if path.name not in ("index.dat",) and path.is_file()]
    (found,) = [d for d in held if d.SOPInstanceUID == capture.sop_instance_uid]
    assert found.PixelData == read(capture.content).PixelData
    assert found.AccessionNumber == "DEMO-1"
