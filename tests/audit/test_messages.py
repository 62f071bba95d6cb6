"""DICOM audit messages: valid by the schema of PS3.15 A.5.1, with the codes of PS3.16, and none forgotten."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydicom.sr._concepts_dict import concepts

from gateway.audit import codes
from gateway.audit.chain import BEGINNING, Entry, read, written
from gateway.audit.messages import MOST_INSTANCES, NOT_TOLD, TOLD, message_of, messages_of

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit-message.rng")))
AT = "2026-11-26T10:00:00.000+00:00"
STUDY = "1.2.840.1"

ENTRIES = {
    "started": {"version": "1.0"},
    "stopped": {},
    "study_access": {"study": STUDY, "remote": "10.0.0.1", "status": 200, "outcome": "authorized, 3 URLs"},
    "upload_access": {"study": STUDY, "remote": "10.0.0.1", "status": 200, "outcome": "authorized, URL for x"},
    "opened": {"key": f"studies/{STUDY}/instances/1.2.3.dcm", "remote": "10.0.0.2", "status": 200, "bytes": 5},
    "uploaded": {"key": "inbox/slot", "remote": "10.0.0.2", "status": 200, "bytes": 5},
    "report_received": {"study": STUDY, "report": "rep_1", "remote": "10.0.0.1", "status": 200},
    "job": {"kind": "capture.store", "to": "main", "outcome": "done", "study": STUDY, "sop_instance": "1.2.9"},
    "webhook_refused": {"remote": "10.0.0.3", "why": "it is signed by none of the 1 keys"},
    "association_rejected": {"calling": "STRANGER", "remote": "10.0.0.4", "called": "AVARAGW", "why": "unknown"},
    "url_refused": {"remote": "10.0.0.3", "method": "GET", "times_more": 400},
    "upload_refused": {"study": STUDY, "key": "inbox/slot", "bytes": 5, "why": "too many"},
    "access_refused": {"study": STUDY, "rule": "deny_patients", "purpose": "open"},
    "lost": {"times": 3, "text": "entries came faster than they could be written"},
    "torn": {"text": "the line before was half written"},
    "login": {"by": "ann", "remote": "10.0.0.5"},
    "login_refused": {"remote": "10.0.0.5"},
    "operator": {"by": "ann, on the page", "did": "looked at the job", "jobs": [3], "study": STUDY},
    "instances_withdrawn": {"study": STUDY, "pacs": "main", "count": 2, "instances": ["1.2.3", "1.2.4"]},
    "instances_rejected": {"study": STUDY, "pacs": "main", "count": 1, "instances": ["1.2.3"]},
    "instances_replaced": {"study": STUDY, "pacs": "main", "count": 1, "instances": ["1.2.3"]},
    "instances_shown_again": {"study": STUDY, "pacs": "main", "count": 1, "instances": ["1.2.3"]},
    "study_corrected": {"study": STUDY, "pacs": "main", "attributes": "patient ID"},
    "study_differs": {"study": STUDY, "why": "another byte"},
    "study_dropped": {"study": STUDY, "why": "no PACS has it any more"},
}
EVENTS = {
    "started": "110100", "stopped": "110100", "study_access": "110106", "upload_access": "110113",
    "opened": "110104", "uploaded": "110107",
    "report_received": "110107", "job": "110104", "webhook_refused": "110113", "association_rejected": "110113",
    "url_refused": "110113", "access_refused": "110113",
    "upload_refused": "110113", "lost": "110113", "torn": "110113", "login": "110114",
    "login_refused": "110114", "operator": "110103", "instances_withdrawn": "110103", "instances_rejected": "110103",
    "instances_replaced": "110103", "instances_shown_again": "110103", "study_corrected": "110103",
    "study_differs": "110103", "study_dropped": "110105",
}  # fmt: skip


def entry(what, **changes):
    return {"n": 1, "at": AT, "what": what, **ENTRIES.get(what, {}), **changes}


def xml(of):
    tree = etree.fromstring(message_of(of).xml("gateway-1", "St. Anna"))
    SCHEMA.assertValid(tree)
    return tree


def event(tree):
    return tree.find("EventIdentification/EventID").get("csd-code")


@pytest.mark.parametrize("what", sorted(TOLD))
def test_each_message_is_valid_by_the_standards_schema_and_has_its_event(what):
    tree = xml(entry(what))
    assert event(tree) == EVENTS[what]
    source = tree.find("AuditSourceIdentification")
    assert (source.get("AuditSourceID"), source.get("AuditEnterpriseSiteID")) == ("gateway-1", "St. Anna")
    requestors = [p.get("UserIsRequestor") for p in tree.findall("ActiveParticipant")]
    assert requestors.count("true") <= 1  # A.5.2: one at most


def test_the_schema_refuses_what_is_no_message():
    tree = xml(entry("opened"))
    tree.find("EventIdentification").set("EventOutcomeIndicator", "1")
    assert not SCHEMA.validate(tree)


def test_every_entry_that_the_gateway_notes_is_told_or_left_out_on_purpose():
    noted = set()
    code = Path(__file__).parents[2] / "gateway"
    for path in [*(code / "app").glob("*.py"), code / "audit/trail.py", code / "cli/audit.py"]:
        text = path.read_text()
        noted |= set(re.findall(r'(?:trail|self)\.(?:note|count)\(\s*"(\w+)"', text))
        noted |= set(re.findall(r'\("(instances_\w+)", ', text)) | set(re.findall(r'"(\w+_(?:access|received))"', text))
        noted |= set(re.findall(r'Entry\(SYSTEM_CLOCK.now\(\), "(\w+)"', text))
    noted |= {"opened", "uploaded", "torn", "purged"}
    assert {"started", "login", "operator", "study_access", "upload_access", "instances_withdrawn", "lost"} <= noted
    assert noted == TOLD | NOT_TOLD


def test_the_codes_are_those_of_the_standard():
    of_dicom = {code: meaning for found in concepts["DCM"].values() for code, (meaning, _) in found.items()}
    used = [code for code in vars(codes).values() if isinstance(code, codes.Code) and code.scheme == "DCM"]
    assert len(used) > 20
    assert {code.value: code.meaning for code in used} == {code.value: of_dicom[code.value] for code in used}


@pytest.mark.parametrize(
    ("did", "expected", "action"),
    [
        ("trace", "110112", "E"), ("search", "110112", "E"), ("backup", "110106", "R"), ("restore", "110107", "C"),
        ("show study", "110103", "R"), ("drop", "110105", "D"), ("accept", "110103", "U"), ("fetch", "110103", "R"),
        ("roll-back", "110113", "E"),
    ],
)  # fmt: skip
def test_what_an_operator_does_is_what_it_is(did, expected, action):
    of = entry("operator", did=did, searched="hash:1", studies=[STUDY], folder="/srv/b", schema="0008")
    tree = xml(of)
    assert (event(tree), tree.find("EventIdentification").get("EventActionCode")) == (expected, action)
    assert tree.find("ActiveParticipant").get("UserID") == "ann, on the page"
    if did in ("trace", "search"):
        assert base64.b64decode(tree.findtext(".//ParticipantObjectQuery")) == b"hash:1"


@pytest.mark.parametrize(
    ("of", "outcome"),
    [
        (entry("study_access", outcome="not authorized: the study is not there"), "4"),
        (entry("study_access", status=409, outcome="refused: this delivery was answered before"), "4"),
        (entry("upload_access", outcome="not authorized: the study is not in any PACS of this hospital"), "4"),
        (entry("upload_access", status=503, outcome="not in time"), "4"),
        (entry("opened", status=404), "4"),
        (entry("job", outcome="quarantined", why="the PACS refuses it"), "8"),
    ],
)
def test_what_failed_has_an_outcome_that_says_so(of, outcome):
    tree = xml(of)
    assert tree.find("EventIdentification").get("EventOutcomeIndicator") == outcome
    assert tree.findtext("EventIdentification/EventOutcomeDescription")


def test_who_was_given_an_upload_url_is_told_without_alarm():
    tree = xml(entry("upload_access", avara_study="stu_1", webhook="msg_1"))
    about = tree.find("EventIdentification")
    assert (about.get("EventOutcomeIndicator"), about.find("EventTypeCode").get("csd-code")) == ("0", "110135")
    assert about.find("EventOutcomeDescription") is None
    given_to = tree.find("ActiveParticipant[@UserIsRequestor='true']")
    assert (given_to.get("UserID"), given_to.get("NetworkAccessPointID")) == ("Avara", "10.0.0.1")
    told = {d.get("type"): base64.b64decode(d.get("value")).decode() for d in tree.iter("ParticipantObjectDetail")}
    assert told == {"outcome": "authorized, URL for x", "avara_study": "stu_1", "webhook": "msg_1"}


def test_what_one_client_opened_of_one_study_is_one_message():
    keys = [f"studies/{STUDY}/instances/1.2.{n}.dcm" for n in range(MOST_INSTANCES + 50)]
    entries = [entry("opened", key=key) for key in keys]
    entries.insert(70, entry("login"))
    entries += [entry("opened", key=keys[0], remote="10.0.0.9"), entry("opened", key="deferred/1.2.7/1.2.7.1")]
    made = [etree.fromstring(message.xml("us")) for message in messages_of(entries)]
    assert [event(tree) for tree in made] == ["110104", "110114", "110104", "110104"]
    assert all(SCHEMA.validate(tree) for tree in made)
    of_class = made[0].find(".//SOPClass")
    assert of_class.get("NumberOfInstances") == str(len(keys))
    assert len(of_class.findall("Instance")) == MOST_INSTANCES
    assert made[3].find("ParticipantObjectIdentification").get("ParticipantObjectID") == "1.2.7"


@given(st.text(), st.text())
def test_whatever_a_stranger_calls_themselves_the_message_is_valid(calling, why):
    line, _ = written(Entry(0.0, "association_rejected", {"calling": calling, "remote": "::1", "why": why}), BEGINNING)
    found, _ = read(line)
    xml(found)
