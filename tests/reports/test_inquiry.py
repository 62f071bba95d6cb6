"""What Avara's API tells of a report, and what becomes of it without: who signed, of which study it is, what it adds
to, whose it is. The API is a stand-in of the contract's shape."""

from __future__ import annotations

import asyncio
import dataclasses
import io

import pytest
from pydicom import dcmread

from gateway.avara.api import ApiRefused, ApiUnavailable, AvaraApi
from gateway.demo.sample import sample_study
from gateway.reports import fetch
from gateway.reports.dicom.basic_text_sr import basic_text_sr
from gateway.reports.identity import Snapshot, differences
from gateway.reports.release import assign
from gateway.reports.report import Signer, Signing

from .conftest import SAMPLE, STUDY, a_report, a_study
from .test_addenda import read, ris

__all__ = ["ris"]

SAMPLE_UIDS = {i.sop_instance_uid for i in SAMPLE}
SR = {"structured_report": True}


def stored(pacs, sop_class):
    held = (dcmread(io.BytesIO(c)) for uid, c in pacs.instances(STUDY).items() if uid not in SAMPLE_UIDS)
    return [d for d in held if d.SOPClassUID == sop_class]


TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"


# -- who signed it


async def test_who_signed_it_and_when_is_in_the_message_and_the_structured_report(pacs, hospital_of, ris, api):
    taken, receiver = ris
    api.sign(patient={"facilityName": "St. Elsewhere"})
    hospital = await hospital_of(pacs, hl7=[receiver], pacs=SR, sections=api.section)
    await hospital.deliver()
    await hospital.ended("report.store", "done", count=2)
    await hospital.ended("report.hl7", "done")
    order, _ = read(taken[0])
    assert order.OBR.obr_22.value == "20261124000000+0000"
    assert order.OBR.obr_32.value == "1234567890&O'Hara&Joan&&MD&&&&NPI"
    (d,) = stored(pacs, TEXT_SR)
    (observer,) = d.VerifyingObserverSequence
    assert d.VerificationFlag == "VERIFIED"
    assert (observer.VerifyingObserverName, observer.VerifyingOrganization) == ("O'Hara^Joan^^^MD", "St. Elsewhere")
    assert [a for a in api.asked if a != "studies"] == ["reports", "users/usr_1"]  # the list is asked for anyway


async def test_a_report_is_asked_about_once_whatever_fails_afterwards(pacs, hospital_of, api):
    api.sign()
    pacs.storage.behaviour.statuses = [0xA700, 0xA700]
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    await hospital.ended("report.store", "done")
    assert [a for a in api.asked if a != "studies"] == ["reports", "users/usr_1"]  # the list is asked for anyway


def test_an_observer_without_an_organization_is_named_and_not_made_up():
    signed = Signing(1_795_500_000.0, Signer("Doe", "Joan"), "")
    d = dcmread(io.BytesIO(basic_text_sr(a_report(signing=signed), a_study()).content))
    assert d.VerificationFlag == "UNVERIFIED"
    assert "VerifyingObserverSequence" not in d
    assert d.CompletionFlagDescription == "Signed in Avara; by Doe Joan"


async def test_avaras_word_makes_an_addendum_of_what_came_first(pacs, hospital_of, ris, api):
    taken, receiver = ris
    api.sign("rep_0")
    api.sign("rep_1", addendum=True)
    hospital = await hospital_of(pacs, hl7=[receiver], sections=api.section)
    await hospital.deliver()
    await hospital.ended("report.hl7", "done")
    await hospital.deliver(reportId="rep_0", plainText="The original.")
    await hospital.ended("report.hl7", "done", count=2)
    addendum, original = (read(m)[0] for m in taken)
    assert (addendum.OBR.obr_25.value, original.OBR.obr_25.value) == ("C", "F")


# -- where it does not answer


async def test_without_an_answer_it_is_tried_again_and_then_goes_out_and_says_what_it_lacks(
    pacs, hospital_of, api, monkeypatch
):
    monkeypatch.setattr(fetch, "TOLD_WITHIN", 2.0)
    api.failing = {"reports": 503}
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "done")
    assert api.asked.count("reports") > 1
    assert "without what Avara does not tell: Avara's API fails with 503" in " ".join(await hospital.said(job))
    await hospital.ended("report.store", "done")


@pytest.mark.parametrize("failing", [{"reports": 401}, {"reports": 404}, {"users": 404}, {"users": 403}])
async def test_a_refusal_holds_a_report_up_no_longer_than_one_question(pacs, hospital_of, api, failing):
    api.sign()
    api.failing = failing
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "done")
    assert api.asked.count("reports") == 1
    assert "does not tell" in " ".join(await hospital.said(job))


async def test_the_text_of_a_report_without_a_pdf_says_who_signed_too(pacs, hospital_of, api, avara):
    api.sign(patient={"facilityName": "St. Elsewhere"})
    avara.documents["/report.pdf"] = b"<html>"
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    await hospital.ended("report.store", "done")
    (d,) = stored(pacs, TEXT_SR)
    assert d.VerificationFlag == "VERIFIED"


# -- of which study it is


async def test_a_report_of_a_study_that_nobody_opened_resolves_itself_through_the_api(pacs, hospital_of, api):
    api.sign(study_id="stu_77")
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver(studyId="stu_77", studyInstanceUid=None)
    await hospital.ended("report.store", "done")


@pytest.mark.parametrize("identifier", ["DEMO-001", "DEMO-1"])
async def test_without_a_key_the_only_study_of_its_patient_or_accession_number_is_its_study(
    pacs, hospital_of, identifier
):
    hospital = await hospital_of(pacs)
    await hospital.deliver(studyId="stu_new", studyInstanceUid=None, externalPatientId=identifier)
    await hospital.ended("report.store", "done")


@pytest.mark.parametrize("identifier", ["DEMO-001", "DEMO-00*", "DEMO-00?", "*", "", " ", "DEMO-0"])
async def test_where_more_than_one_study_fits_or_none_an_operator_is_waited_for(pacs, hospital_of, identifier):
    _, another = sample_study()
    pacs.add(*(i.content for i in another))
    hospital = await hospital_of(pacs)
    await hospital.deliver(studyId="stu_new", studyInstanceUid=None, externalPatientId=identifier or None)
    async with asyncio.timeout(20):
        while not (job := (await hospital.jobs.list(kinds=["report.fetch"]))[0]).last_error:
            await asyncio.sleep(0.05)
    assert "jobs assign" in job.last_error
    assert await hospital.jobs.list(kinds=["report.pacs"]) == []


async def test_an_event_and_an_api_that_name_two_studies_are_an_operators(pacs, hospital_of, api):
    api.sign(study="1.2.3.4")
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "quarantined")
    assert "1.2.3.4" in job.last_error


# -- whose it is


@pytest.mark.parametrize(
    ("patient", "differs"),
    [
        ({"mrn": "OTHER-7"}, "Patient ID"),
        ({"dateOfBirth": "1970-01-02"}, "Birth Date"),
        ({"patientName": "Jane Doe"}, "Name"),
    ],
)
async def test_a_report_of_another_patient_is_filed_nowhere_until_an_operator_says_so(
    pacs, hospital_of, api, patient, differs
):
    api.sign(patient=patient)
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "quarantined")
    assert differs in job.last_error
    for value in patient.values():
        assert value not in job.last_error
    assert await hospital.jobs.list(kinds=["report.pacs"]) == []
    await hospital.journal.run(lambda c: assign(c, job.id, STUDY))
    await hospital.ended("report.store", "done")


async def test_the_text_of_another_patients_report_does_not_go_out_either(pacs, hospital_of, api, avara):
    api.sign(patient={"mrn": "OTHER-7"})
    avara.documents["/report.pdf"] = b"<html>"
    hospital = await hospital_of(pacs, sections=api.section)
    await hospital.deliver()
    await hospital.ended("report.fetch", "quarantined")
    assert await hospital.jobs.list(kinds=["report.pacs"]) == []


RECORD = a_study()


@pytest.mark.parametrize(
    ("snapshot", "record"),
    [
        (Snapshot(), RECORD),
        (Snapshot("Jane Doe", "MRN0001", "1970-01-31"), RECORD),
        (Snapshot("DOE, JANE", "mrn0001 "), RECORD),
        (Snapshot("Dr. Jane Ann Doe Jr."), RECORD),
        (Snapshot("Renee Mueller"), dataclasses.replace(RECORD, patient_name="Müller^Renée")),
        (Snapshot("Renée Müller"), dataclasses.replace(RECORD, patient_name="MUELLER^RENEE")),
        (Snapshot("Sean O'Hara"), dataclasses.replace(RECORD, patient_name="OHARA^SEAN")),
        (Snapshot("Yamada Tarou"), dataclasses.replace(RECORD, patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう")),
        (Snapshot("山田 太郎"), dataclasses.replace(RECORD, patient_name="Yamada^Tarou=山田^太郎")),
        (Snapshot("Yamada Tarou"), dataclasses.replace(RECORD, patient_name="=山田^太郎")),
        (Snapshot("Jane Doe"), dataclasses.replace(RECORD, patient_name="", patient_id="", patient_birth_date="")),
    ],
)
def test_one_patient_is_one_however_the_name_is_written(snapshot, record):
    assert differences(snapshot, record) == []


@pytest.mark.parametrize(
    ("snapshot", "differing"),
    [
        (Snapshot("Jane Doe", "MRN0002", "1970-01-31"), ["Patient ID"]),
        (Snapshot("Jane Doe", "MRN0001", "1970-01-30"), ["Patient's Birth Date"]),
        (Snapshot("Joan Doe", "MRN0001"), ["Patient's Name"]),
        (Snapshot("Jane Smith"), ["Patient's Name"]),
    ],
)
def test_another_patient_is_told_by_what_differs(snapshot, differing):
    assert differences(snapshot, RECORD) == differing


# -- the API


async def test_the_api_is_a_stranger_whose_answers_are_checked_and_never_quoted(api):
    api.sign()
    asked = AvaraApi(api.KEY, base_url=api.section["avara"]["api_url"])
    assert (await asked.reports("stu_1")).study_instance_uid == STUDY
    refused, unavailable = dict.fromkeys((401, 404, 302), ApiRefused), dict.fromkeys((429, 502), ApiUnavailable)
    for status, error in (refused | unavailable).items():
        api.failing = {"reports": status}
        with pytest.raises(error) as caught:
            await asked.reports("stu_1")
        assert "Doe" not in str(caught.value)
    api.failing = {}
    api.studies["stu_1"]["studyInstanceUid"] = "../../etc"
    with pytest.raises(ApiUnavailable, match="cannot be read"):
        await asked.reports("stu_1")
    with pytest.raises(ApiUnavailable, match="reached"):
        await AvaraApi(api.KEY, base_url="http://127.0.0.1:1").reports("stu_1")
