"""What reports' jobs work with, in every form that was ever written. Pure."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gateway.journal import UnreadablePayload
from gateway.reports.jobs import DeliverReport, FetchReport

TOLD = {
    "signing": {"signed_at": 1.0, "signer": {"family": "Roe", "given": "Ann"}, "facility": "F", "lacks": ""},
    "study_instance_uid": "1.2.3", "addendum": True, "adds_to": "rep_0", "snapshot": None,
}  # fmt: skip

ARRIVED = {
    "report": "rep_1", "study_id": "stu_1", "study": None, "critical": True, "text": "Befund", "url": "https://a/x",
    "received": 5.0, "patient_id": "P1",
}  # fmt: skip
"""Rows as the versions before forms were counted wrote them."""
MISSED = {name: value for name, value in ARRIVED.items() if name != "patient_id"} | {"url": None}
BROUGHT = ARRIVED | {"key": "reports/1.pdf", "sha256": "ab", "url": None}
FETCHED = {"report": "rep_1", "study_id": "stu_1", "study": "1.2.3", "received": 5.0, "critical": True}
DELIVERED = {
    "report": "rep_1", "study_id": "stu_1", "study": "1.2.3", "version": 2, "critical": True, "text": "Befund",
    "received": 5.0, "key": "reports/1.pdf", "target": "ris",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "means"),
    [
        (ARRIVED, FetchReport("rep_1", "stu_1", None, True, 5.0, "Befund", "https://a/x", "P1")),
        (MISSED, FetchReport("rep_1", "stu_1", None, True, 5.0, "Befund")),
        (
            BROUGHT | {"told": TOLD, "text_sent": True, "assigned": True, "study": "1.2.3"},
            FetchReport(
                "rep_1", "stu_1", "1.2.3", True, 5.0, "Befund", None, "P1", "reports/1.pdf", "ab", TOLD, True, True
            ),
        ),
        (FETCHED, FetchReport("rep_1", "stu_1", "1.2.3", True, 5.0)),
        (DELIVERED, DeliverReport("ris", "rep_1", "stu_1", "1.2.3", 2, True, 5.0, "Befund", "reports/1.pdf")),
        (
            DELIVERED | {"ordinal": 2, "original": "rep_0", "signing": TOLD["signing"], "key": None},
            DeliverReport("ris", "rep_1", "stu_1", "1.2.3", 2, True, 5.0, "Befund", None, 2, "rep_0", TOLD["signing"]),
        ),
        (
            {"report": "rep_1", "study_id": "stu_1", "study": "1.2.3", "version": 2, "target": "ris"},
            DeliverReport("ris", "rep_1", "stu_1", "1.2.3", 2, False, 0.0),
        ),
    ],
)
def test_what_older_versions_kept_means_the_same_today(kept, means):
    read = type(means).load(json.dumps(kept))
    assert read == means
    assert type(means).load(read.dump()) == means


@pytest.mark.parametrize(
    ("kept", "payload"),
    [
        (ARRIVED, FetchReport),
        (BROUGHT, FetchReport),
        (BROUGHT | {"told": TOLD}, FetchReport),
        (DELIVERED, DeliverReport),
    ],
)
def test_an_older_version_goes_on_with_what_is_kept_today(kept, payload):
    again = json.loads(payload.load(json.dumps(kept)).dump())
    assert again.items() >= kept.items()
    assert ("told" in again) == ("told" in kept)  # it asks Avara where there is none


def test_a_job_keeps_its_place_its_object_and_what_it_is_about():
    fetch, deliver = FetchReport.load(json.dumps(BROUGHT)), DeliverReport.load(json.dumps(DELIVERED))
    assert (fetch.lane, fetch.keys, deliver.lane, deliver.keys) == ("", ("reports/1.pdf",), "ris", ("reports/1.pdf",))
    assert FetchReport.load(json.dumps(ARRIVED)).keys == ()
    assert fetch.about == {"report": "rep_1", "study_id": "stu_1"}
    assert deliver.about == {"study": "1.2.3", "report": "rep_1", "study_id": "stu_1"}


def test_the_record_of_what_is_done_has_nothing_of_the_patient():
    whole = FetchReport.load(json.dumps(BROUGHT | {"told": TOLD}))
    assert whole.record("1.2.3") == FetchReport("rep_1", "stu_1", "1.2.3", True, 5.0)
    deliver = DeliverReport.load(json.dumps(DELIVERED | {"signing": TOLD["signing"]}))
    assert deliver.record == dataclasses.replace(deliver, text=None, key=None, signing=None)


def test_what_is_not_all_there_is_left_to_an_operator():
    for kept, payload in ((FETCHED, FetchReport), (DELIVERED, DeliverReport)):
        with pytest.raises(UnreadablePayload, match="not all there"):
            payload.load(json.dumps({name: value for name, value in kept.items() if name != "report"}))
