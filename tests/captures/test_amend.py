"""What is filled in and coerced, how it is recorded, and that no name is lost in another character set."""

from __future__ import annotations

import dataclasses
import io

import pytest
from pydicom import dcmread
from pydicom.filereader import read_dataset

from gateway.captures.amend import coerce_patient, fill, sign
from gateway.demo.sample import sample_capture
from gateway.dicom.encoding import encode_data_set
from gateway.pacs.scu.results import StudyRecord

RECORD = StudyRecord(
    study_instance_uid="1.2.3", instances=1, series=1, patient_id="P-9", patient_name="Петров^Иван",
    patient_birth_date="19500505", patient_sex="M", issuer_of_patient_id="", accession_number="ACC-1", study_id="S1",
    study_date="20260101", study_time="", study_description="", referring_physician="Grünwald^Zoë",
)  # fmt: skip


def attributes(**given):
    return dcmread(io.BytesIO(sample_capture("1.2.3", **given).content), stop_before_pixels=True)


def again(d, syntax="1.2.840.10008.1.2.1"):
    return read_dataset(io.BytesIO(encode_data_set(d, syntax)), syntax == "1.2.840.10008.1.2", is_little_endian=True)


def test_only_what_is_lacking_is_filled():
    d = attributes(AccessionNumber="OWN")
    assert fill(d, RECORD) == ["StudyID", "ReferringPhysicianName"]
    written = again(d)
    assert written.AccessionNumber == "OWN"
    assert written.ReferringPhysicianName == "Grünwald^Zoë"


def test_a_pacs_that_says_nothing_fills_nothing():
    silent = dataclasses.replace(RECORD, accession_number="", study_id="", referring_physician="")
    assert fill(attributes(), silent) == []


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
def test_coercing_keeps_the_former_values_in_the_object(syntax):
    d = attributes()
    changed = coerce_patient(d, RECORD)
    sign(d, "coerced")
    assert changed == ["PatientID", "PatientName", "PatientBirthDate", "PatientSex"]
    written = again(d, syntax)
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert written.PatientName == "Петров^Иван"
    assert written.PatientID == "P-9"
    assert written.StudyDescription == "Demonstration"
    original = written.OriginalAttributesSequence[0]
    assert original.ReasonForTheAttributeModification == "COERCE"
    assert original.ModifyingSystem == "Avara Gateway"
    former = original.ModifiedAttributesSequence[0]
    assert (former.PatientID, former.PatientName, former.PatientSex) == ("DEMO-001", "Müller^Renée", "F")


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Renée"), ("ISO_IR 144", "Люксембург"), ("GB18030", "王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ],
)  # fmt: skip
def test_texts_in_any_character_set_survive_a_change_of_it(character_set, name):
    d = attributes(SpecificCharacterSet=character_set, PatientName=name, SeriesDescription="plain")
    d.PatientComments = "müde" if character_set == "ISO_IR 100" else "plain"
    fill(d, dataclasses.replace(RECORD, referring_physician="Grünwald^Zoë"))
    written = again(d)
    assert written.PatientName == name
    assert written.ReferringPhysicianName == "Grünwald^Zoë"
    assert written.PatientComments == d.PatientComments


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "GB18030", "ISO_IR 192"])
def test_the_objects_own_character_set_stays_where_it_has_the_letters(character_set):
    d = attributes(SpecificCharacterSet=character_set, PatientName="Plain^Name")
    fill(d, dataclasses.replace(RECORD, referring_physician="Grünwald^Zoë"))
    written = again(d)
    assert written.SpecificCharacterSet == character_set
    assert written.ReferringPhysicianName == "Grünwald^Zoë"


def test_a_value_of_the_pacs_that_no_object_may_have_is_made_legal():
    d = attributes()
    fill(d, dataclasses.replace(RECORD, study_id="a\\b\x1b", referring_physician="Grünwald"))
    written = again(d)
    assert written.StudyID == "a/b"
    assert written.ReferringPhysicianName == "Grünwald"
