"""Rejection notes (IHE RAD TF-3 4.66) hide what they reference, and are not shown themselves."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from gateway.app.state import kept_secret
from gateway.demo.sample import sample_study
from gateway.dicom.sop_classes import KEY_OBJECT_SELECTION
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies import keys
from gateway.studies.deferred import DeferredUrls
from gateway.studies.rejection import TITLES, read_rejection
from tests.studies.test_truth import EVERY_TIME, in_manifest, shown, status


def note(sample, *rejected, title="113001", scheme="DCM", by="evidence"):
    """A key object selection in the study of *sample*, titled *title*, that references instances *rejected*."""
    [template] = [i for i in sample if dcmread(io.BytesIO(i.content)).SOPClassUID == KEY_OBJECT_SELECTION]
    d = dcmread(io.BytesIO(template.content))
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(None)
    d.SeriesInstanceUID = generate_uid(None)
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = title, scheme, "Rejected"
    d.ConceptNameCodeSequence = [concept]
    references = []
    for instance in rejected:
        ref = Dataset()
        ref.ReferencedSOPClassUID = dcmread(io.BytesIO(instance.content)).SOPClassUID
        ref.ReferencedSOPInstanceUID = instance.sop_instance_uid
        references.append(ref)
    series, study, item = Dataset(), Dataset(), Dataset()
    series.ReferencedSOPSequence, series.SeriesInstanceUID = references, "1.2"
    study.ReferencedSeriesSequence, study.StudyInstanceUID = [series], d.StudyInstanceUID
    item.ReferencedSOPSequence, item.ValueType = references, "IMAGE"
    d.CurrentRequestedProcedureEvidenceSequence = [study] if by == "evidence" else []
    d.ContentSequence = [item] if by == "content" else []
    out = io.BytesIO()
    d.save_as(out)
    return d.SOPInstanceUID, out.getvalue()


@pytest.mark.worst_but_for(
    "the manifest has the UIDs that are in the files; nameless answers cost another query",
    coerced_uids=False,
    study_answer="",
    no_counts=False,
)
@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("by", ["evidence", "content"])
async def test_what_a_note_rejects_is_neither_answered_nor_kept(simulator, start, title, by):
    study, sample = sample_study()
    uid, content = note(sample, sample[0], title=title, by=by)
    simulator.add(*(i.content for i in sample[:3]), content)
    gateway = await start(simulator, cache=EVERY_TIME)
    answer = await gateway.ask(study)
    assert "error" not in answer
    assert shown(answer) == in_manifest(answer) == {i.sop_instance_uid for i in sample[1:3]}
    for hidden in (uid, sample[0].sop_instance_uid):
        assert await gateway.parts.store.head(keys.instance(study, hidden)) is None
    simulator.requests.clear()
    assert shown(await gateway.ask(study)) == shown(answer)
    assert simulator.requests == ["FIND STUDY"]


@pytest.mark.parametrize(("title", "scheme"), [("113000", "DCM"), ("113001", "99LOCAL"), ("", "DCM")])
async def test_a_selection_of_another_kind_hides_nothing(simulator, start, title, scheme):
    study, sample = sample_study()
    uid, content = note(sample, sample[0], title=title, scheme=scheme)
    simulator.add(*(i.content for i in sample[:3]), content)
    gateway = await start(simulator, cache=EVERY_TIME)
    assert shown(await gateway.ask(study)) == {uid, *(i.sop_instance_uid for i in sample[:3])}


async def test_a_note_that_comes_later_hides_what_was_shown_and_its_urls_die(orthanc, start):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:3]))
    gateway = await start(orthanc, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert len(before["urls"]) == 3
    _, content = note(sample, sample[0])
    await orthanc.add(content)
    after = await gateway.ask(study)
    assert shown(after) == in_manifest(after) == {i.sop_instance_uid for i in sample[1:3]}
    [url] = [url for url in before["urls"] if sample[0].sop_instance_uid in url]
    assert await status(gateway, url) in (403, 404)


async def test_what_a_withdrawn_note_had_rejected_is_shown_again(simulator, start):
    study, sample = sample_study()
    uid, content = note(sample, sample[0])
    simulator.add(*(i.content for i in sample[:3]), content)
    gateway = await start(simulator, cache=EVERY_TIME)
    assert len((await gateway.ask(study))["urls"]) == 2
    simulator.remove(uid)
    answer = await gateway.ask(study)
    assert shown(answer) == {i.sop_instance_uid for i in sample[:3]}
    assert {await status(gateway, url) for url in answer["urls"]} == {200}


async def test_a_study_that_is_rejected_as_a_whole_says_so(simulator, start):
    study, sample = sample_study()
    _, content = note(sample, *sample[:3])
    simulator.add(*(i.content for i in sample[:3]), content)
    gateway = await start(simulator, cache=EVERY_TIME)
    answer = await gateway.ask(study)
    assert answer["urls"] == []
    assert "withdrawn every instance" in answer["error"]


async def test_a_deferred_url_of_what_was_rejected_is_refused(simulator, start):
    study, sample = sample_study()
    _, content = note(sample, sample[0])
    simulator.add(*(i.content for i in sample[:3]), content)
    gateway = await start(simulator, cache=EVERY_TIME)
    await gateway.ask(study)
    urls = DeferredUrls(kept_secret(gateway.config.state_dir / "deferred.key"), gateway.config.gateway_url)
    rejected, kept = urls.urls(study, [sample[0].sop_instance_uid, sample[1].sop_instance_uid], expires_in=60)
    assert (await status(gateway, rejected), await status(gateway, kept)) == (404, 200)


@given(st.binary(max_size=300), st.sampled_from(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"]))
def test_no_bytes_whatever_make_a_note_fail(data, syntax):
    incoming = IncomingInstance(KEY_OBJECT_SELECTION, "1.2", syntax, "A", "B", "h", MemoryBody(data))
    assert read_rejection(incoming) is None
