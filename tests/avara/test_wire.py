"""Events in, answers out, as the contract has them; held against the types of Avara's own SDK."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.avara.answers import Manifest, MediaUrl, SecondaryCaptureAccess, SeriesManifest, SopManifest, StudyAccess
from gateway.avara.events import DoesNotFit, NotJson, ReportDelivered, parse_event

STUDY = {"studyId": "stu_1", "studyInstanceUid": "1.2.3"}
REPORT = {"studyId": "stu_1", "reportId": "rep_1", "isCritical": False, "presignedUrl": "https://x.example/r.pdf"}


def event(kind, data, **more):
    return json.dumps({"id": "whe_1", "type": kind, "data": data, **more}).encode()


def test_each_core_event_is_understood():
    assert parse_event(event("study.access_requested", STUDY)).data.study_instance_uid == "1.2.3"
    capture = parse_event(event("secondary_capture.access_requested", STUDY | {"sopInstanceUid": "1.2.4"}))
    assert (capture.data.sop_instance_uid, capture.data.series_instance_uid) == ("1.2.4", None)
    report = parse_event(event("report.delivered", REPORT | {"isCritical": True, "plainText": "Text"}))
    assert isinstance(report, ReportDelivered)
    assert report.data.is_critical is True


def test_optional_fields_may_be_null_and_unknown_ones_are_ignored():
    data = REPORT | {"plainText": None, "studyInstanceUid": None, "somethingNew": {"a": 1}}
    assert parse_event(event("report.delivered", data, more=1)).data.plain_text is None


def test_avaras_sdk_reads_the_same_from_the_same_bytes():
    from avara import Avara

    from gateway.avara.signature import sign

    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    for kind, data in (
        ("study.access_requested", STUDY),
        ("secondary_capture.access_requested", STUDY),
        ("report.delivered", REPORT),
    ):
        body = event(kind, data)
        theirs = Avara(api_key="unused").webhooks.unwrap(body.decode(), headers=sign(key, "m", body), key=key)
        ours = parse_event(body)
        for name in type(ours.data).model_fields:
            assert getattr(theirs.data, name, None) == getattr(ours.data, name), name


CAPTURE = {"studyId": "stu_1", "studyInstanceUid": "1.2.3"}


@pytest.mark.parametrize(
    "uid", ["", "../../etc/passwd", "1.2/3", "1.2.3 ", "1.2.*", "1\\2", "1.2.3\n", "1" * 81, "١.٢", 12]
)
def test_what_cannot_be_asked_for_is_refused(uid):
    with pytest.raises(DoesNotFit, match="studyInstanceUid"):
        parse_event(event("study.access_requested", STUDY | {"studyInstanceUid": uid}))


@pytest.mark.parametrize("uid", ["1..2", "1.2.", "1" * 65, "1.2.3.STUDY-A", "A_1"])
def test_a_study_is_asked_for_as_the_pacs_calls_it_and_captures_are_held_to_the_standard(uid):
    """PS3.5 §9.1 has digits and dots, 64 at most. A study that is there is to open; what is new is to be proper."""
    assert (
        parse_event(event("study.access_requested", STUDY | {"studyInstanceUid": uid})).data.study_instance_uid == uid
    )
    with pytest.raises(DoesNotFit, match="studyInstanceUid"):
        parse_event(event("secondary_capture.access_requested", CAPTURE | {"studyInstanceUid": uid}))


def test_a_misfit_is_told_by_place_and_repeats_no_value():
    with pytest.raises(DoesNotFit) as e:
        parse_event(event("report.delivered", REPORT | {"isCritical": "Doe^Jane"}))
    assert "data.isCritical" in str(e.value)
    assert "Doe" not in str(e.value)


@pytest.mark.parametrize("kind", ["modality_worklist.requested", "nonsense", "", None, 3, ["study.access_requested"]])
def test_other_event_types_do_not_fit(kind):
    with pytest.raises(DoesNotFit):
        parse_event(event(kind, STUDY))


@given(st.binary(max_size=100))
def test_bytes_that_are_no_event_raise_nothing_else(body):
    with pytest.raises((NotJson, DoesNotFit)):
        parse_event(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(
    st.sampled_from(["id", "type", "data", "studyId", "x"]), c)))  # fmt: skip
def test_json_that_is_no_event_does_not_fit(content):
    with pytest.raises(DoesNotFit):
        parse_event(json.dumps(content).encode())


def test_deeply_nested_json_is_refused_and_not_a_crash():
    with pytest.raises((NotJson, DoesNotFit)):
        parse_event(b"[" * 100_000)


def test_absent_keys_are_left_out_never_null():
    assert json.loads(StudyAccess(authorized=True).to_json()) == {"authorized": True, "urls": []}
    assert json.loads(SecondaryCaptureAccess(authorized=False, error="no").to_json()) == {
        "authorized": False,
        "uploadUrls": [],
        "error": "no",
    }


def test_keys_are_spelled_as_the_contract_has_them():
    sop = SopManifest(sopInstanceUID="1.1", sopClassUID="1.2", rows=2, columns=3, bitsAllocated=16)
    series = SeriesManifest(seriesInstanceUID="1", modality="CT", seriesDescription="d", seriesNumber=1, sops=[sop])
    answer = StudyAccess(
        authorized=True,
        urls=["u"],
        media_urls=[MediaUrl(mime_type="application/pdf", url="m", file_name="f.pdf")],
        manifest=Manifest(studyInstanceUID="1.2.3", series=[series]).to_json(),
    )
    assert json.loads(answer.to_json()) == {
        "authorized": True,
        "urls": ["u"],
        "mediaUrls": [{"mimeType": "application/pdf", "url": "m", "fileName": "f.pdf"}],
        "manifest": {
            "studyInstanceUID": "1.2.3",
            "series": [
                {
                    "seriesInstanceUID": "1",
                    "modality": "CT",
                    "seriesDescription": "d",
                    "seriesNumber": 1,
                    "sops": [
                        {"sopInstanceUID": "1.1", "sopClassUID": "1.2", "rows": 2, "columns": 3, "bitsAllocated": 16}
                    ],
                }
            ],
        },
    }
