"""A capture of another patient: held, or made the study's with the former values kept in it."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread

from gateway.demo.sample import sample_capture

from .conftest import STUDY


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"PatientID": "OTHER"}, "Patient ID differ"),
        ({"PatientBirthDate": "19800101"}, "Patient's Birth Date differ"),
        ({"PatientName": "Somebody^Else"}, "Patient's Name differ"),
        ({"PatientID": None}, "Patient ID (the object has none) differ"),
    ],
)
async def test_a_capture_of_another_patient_is_held_and_named_without_values(pacs, viewer, attributes, said, caplog):
    await viewer.upload(sample_capture(STUDY, **attributes).content)
    reason = await viewer.held()
    assert said in reason
    for value in ("OTHER", "DEMO-001", "Somebody", "Müller", "1980"):
        assert value not in reason
        assert value not in caplog.text
    assert pacs.storage.received == []


async def test_a_capture_in_another_spelling_is_the_same_patients(pacs, viewer):
    await viewer.upload(sample_capture(STUDY, PatientName="MUELLER^RENEE").content)
    await viewer.stored()
    (held,) = [d for d in map(read, pacs.instances(STUDY).values()) if d.Modality == "OT"]
    assert held.PatientName == "MUELLER^RENEE"  # nothing that is there is changed


async def test_by_configuration_it_takes_the_pacss_patient_and_says_so(pacs, viewer_of):
    viewer = await viewer_of(pacs, captures={"on_patient_mismatch": "coerce"})
    capture = sample_capture(STUDY, PatientID="OTHER", PatientName="Somebody^Else")
    await viewer.upload(capture.content)
    job = await viewer.stored()
    held = read(pacs.instances(STUDY)[capture.sop_instance_uid])
    assert (held.PatientID, held.PatientName) == ("DEMO-001", "Müller^Renée")
    former = held.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert (former.PatientID, former.PatientName) == ("OTHER", "Somebody^Else")
    assert "set PatientID from the PACS" in (await viewer.jobs.history(job.id))[0].text


async def test_an_operators_retry_after_a_change_of_configuration_stores_it(pacs, viewer_of, start, tmp_path):
    viewer = await viewer_of(pacs)
    capture = sample_capture(STUDY, PatientID="OTHER")
    await viewer.upload(capture.content)
    (job,) = await viewer.ended("capture.check", "quarantined")
    checker = viewer.gateway.parts.worker._kinds["capture.check"].handler
    checker._fitting._coerce_patient = True  # as after a restart with another configuration
    await viewer.jobs.retry(job.id)
    await viewer.stored()
    assert [o async for o in viewer.gateway.parts.store.list("quarantine/")] == []


async def test_a_patient_that_the_pacs_corrects_between_two_captures_is_noticed(pacs, viewer, monkeypatch):
    monkeypatch.setattr("gateway.captures.fitting.STATED_FOR", 1000.0)
    await viewer.upload(sample_capture(STUDY).content)
    await viewer.stored()
    corrected = [with_patient_id(content, "CORRECTED") for content in pacs.instances(STUDY).values()]
    pacs.clear()
    pacs.add(*corrected)
    capture = sample_capture(STUDY, PatientID="CORRECTED")
    await viewer.upload(capture.content)
    await viewer.ended("capture.store", "done", count=2)
    assert capture.sop_instance_uid in pacs.instances(STUDY)
    monkeypatch.setattr("gateway.captures.fitting.STATED_FOR", 0.0)
    await viewer.upload(sample_capture(STUDY).content)
    assert "Patient ID differ" in await viewer.held()


def with_patient_id(content, patient_id):
    d, out = read(content), io.BytesIO()
    d.PatientID = patient_id
    d.save_as(out)
    return out.getvalue()


def read(content):
    return dcmread(io.BytesIO(content))
