"""Codes that the gateway writes and reads mean what it takes them for: compared with PS3.16's tables, as pydicom has
them."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from gateway.reports.dicom.basic_text_sr import _COMMENT, _FINDING, _FINDINGS
from gateway.reports.dicom.document import REPORT
from gateway.reports.hl7.message import ADDENDUM, OBSERVATION
from gateway.studies.rejection import TITLES


def of(scheme, code):
    """Meaning, and the context groups (CID) that it is in."""
    [(meaning, groups)] = [entry[code] for entry in concepts[scheme].values() if code in entry]
    return meaning.lower(), groups


@pytest.mark.parametrize(
    ("code", "group"), [(REPORT, 7000), (_FINDINGS, 7001), (_FINDING, 7002), (_COMMENT, None)]
)  # fmt: skip
def test_codes_of_reports_are_those_of_the_standard(code, group):
    value, scheme, meaning = code
    said, groups = of(scheme, value)
    assert said == meaning.lower()
    assert group is None or group in groups


@pytest.mark.parametrize(("identifier", "group"), [(OBSERVATION, 7000), (ADDENDUM, 7001)])
def test_loinc_codes_in_hl7_are_those_of_the_standard(identifier, group):
    value, meaning, scheme = identifier.split("^")
    said, groups = of(scheme, value)
    assert meaning.lower().startswith(said)
    assert group in groups


def test_titles_of_rejection_notes_are_those_of_the_standard():
    for code, meaning in TITLES.items():
        assert of("DCM", code)[0] == meaning
        assert 7010 in of("DCM", code)[1]
    assert of("DCM", "109103")[0] == "modifying equipment"
