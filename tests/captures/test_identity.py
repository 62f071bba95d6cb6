"""One patient or two: spellings of one name, and what makes another patient."""

from __future__ import annotations

import pytest

from gateway.captures.identity import Patient, differences

STUDY = Patient("P-1", "Müller^Renée", "19700101")


@pytest.mark.parametrize(
    "other",
    [
        STUDY,
        Patient(" P-1 ", "MÜLLER^RENÉE", "19700101"),
        Patient("P-1", "Muller^Renee", "19700101"),
        Patient("P-1", "MUELLER^RENEE", "1970.01.01"),
        Patient("P-1", "Müller^Renée^Anna^Dr", "19700101"),
        Patient("P-1", "Mu\u0308ller^Rene\u0301e", "19700101"),
        Patient("P-1", "Müller", ""),
        Patient("P-1", "", ""),
        Patient("P-1", "Müller^Renée==", "19700101"),
    ],
)
def test_the_same_patient_in_another_spelling(other):
    assert differences(other, STUDY) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Patient("P-2", "Müller^Renée", "19700101"), ["Patient ID"]),
        (Patient("", "Müller^Renée", "19700101"), ["Patient ID (the object has none)"]),
        (Patient("P-1", "Müller^Renée", "19700102"), ["Patient's Birth Date"]),
        (Patient("P-1", "Müller^Rosa", "19700101"), ["Patient's Name"]),
        (Patient("P-1", "Möller^Renée", "19700101"), ["Patient's Name"]),
        (Patient("p-1", "X", "2000"), ["Patient ID", "Patient's Birth Date", "Patient's Name"]),
    ],
)
def test_another_patient_is_told_by_attribute_and_without_values(other, said):
    assert differences(other, STUDY) == said


def test_one_script_that_agrees_is_enough():
    study = Patient("1", "Yamada^Tarou=山田^太郎=やまだ^たろう", "")
    assert differences(Patient("1", "YAMADA^TARO=山田^太郎", ""), study) == []
    assert differences(Patient("1", "=山田^太郎", ""), study) == []
    assert differences(Patient("1", "Yamada^Jirou=山田^次郎", ""), study) == ["Patient's Name"]


def test_a_pacs_that_says_nothing_of_the_patient_contradicts_nobody():
    assert differences(Patient("P-1", "Any^Body", "19700101"), Patient("", "", "")) == []
