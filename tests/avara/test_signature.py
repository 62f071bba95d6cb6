"""Who may send an event: the Standard Webhooks signature, held against Avara's own SDK and against wild input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.avara.signature import BadSignature, WebhookVerifier, sign

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"id":"whe_1","type":"study.access_requested","data":{"studyId":"stu_1","studyInstanceUid":"1.2.3"}}'


@pytest.mark.slow
def test_avaras_own_sdk_unwraps_what_we_sign():
    from avara import Avara

    event = Avara(api_key="unused").webhooks.unwrap(BODY.decode(), headers=sign(KEY, "msg_1", BODY), key=KEY)
    assert event.type == "study.access_requested"
    assert event.data.study_instance_uid == "1.2.3"


def test_what_the_sdks_library_signs_is_accepted():
    from standardwebhooks import Webhook

    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(KEY).sign("msg_1", now, BODY.decode()),
    }
    assert WebhookVerifier([KEY]).verify(BODY, headers) == "msg_1"


@pytest.mark.parametrize("keys", [[KEY, OTHER], [OTHER, KEY]])
def test_while_keys_are_rotated_either_is_accepted(keys):
    assert WebhookVerifier(keys).verify(BODY, sign(KEY, "msg_1", BODY)) == "msg_1"


@pytest.mark.parametrize("others", ["v1,{other}", "v1a,abc", "v1,", "nonsense", "v2,{other} v1"])
def test_one_right_signature_among_several_is_enough(others):
    headers = sign(KEY, "msg_1", BODY)
    other = sign(OTHER, "msg_1", BODY)["webhook-signature"].removeprefix("v1,")
    for signatures in (
        f"{others.format(other=other)} {headers['webhook-signature']}",
        f"{headers['webhook-signature']} {others.format(other=other)}",
    ):
        assert WebhookVerifier([KEY]).verify(BODY, headers | {"webhook-signature": signatures}) == "msg_1"


@pytest.mark.parametrize("minutes", [-5.2, 5.2])
def test_a_timestamp_over_five_minutes_off_is_refused(minutes):
    headers = sign(KEY, "msg_1", BODY, at=datetime.now(UTC) + timedelta(minutes=minutes))
    with pytest.raises(BadSignature):
        WebhookVerifier([KEY]).verify(BODY, headers)


def test_a_timestamp_almost_five_minutes_off_is_accepted():
    headers = sign(KEY, "msg_1", BODY, at=datetime.now(UTC) - timedelta(minutes=4.8))
    assert WebhookVerifier([KEY]).verify(BODY, headers) == "msg_1"


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_one_altered_byte_is_refused(at, change):
    altered = bytearray(BODY)
    altered[at] ^= change
    with pytest.raises(BadSignature):
        WebhookVerifier([KEY]).verify(bytes(altered), sign(KEY, "msg_1", BODY))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_required_and_signed(name):
    headers = sign(KEY, "msg_1", BODY)
    for wrong in ("", headers[name] + "1"):
        with pytest.raises(BadSignature):
            WebhookVerifier([KEY]).verify(BODY, headers | {name: wrong})


@given(
    st.binary(max_size=200),
    st.fixed_dictionaries({}, optional={n: st.text(max_size=80) for n in (
        "webhook-id", "webhook-timestamp", "webhook-signature")}),
)  # fmt: skip
def test_whatever_comes_is_refused_and_nothing_else_is_raised(body, headers):
    with pytest.raises(BadSignature):
        WebhookVerifier([KEY]).verify(body, headers)


@pytest.mark.parametrize("key", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_#"])
def test_what_is_no_key_is_told_at_once(key):
    with pytest.raises(ValueError, match="whsec_ and base64"):
        WebhookVerifier([key])


@pytest.mark.parametrize(
    ("minutes", "said"), [(-12, "its time is 12 min behind ours"), (61, "its time is 61 min ahead of ours")]
)
def test_a_right_signature_of_another_time_is_told_as_a_clock_that_is_off(minutes, said):
    headers = sign(KEY, "msg_1", BODY, at=datetime.now(UTC) + timedelta(minutes=minutes, seconds=minutes / 60))
    with pytest.raises(BadSignature) as e:
        WebhookVerifier([KEY]).verify(BODY, headers)
    assert "its signature is right" in e.value.cause
    assert said in e.value.cause
    assert "right" not in str(e.value).removesuffix("are both clocks right?")
    with pytest.raises(BadSignature) as e:
        WebhookVerifier([KEY]).verify(BODY + b" ", headers)
    assert "its signature is right" not in e.value.cause


def test_a_signature_by_another_key_names_ours_by_their_endings_to_the_operator_alone():
    other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    with pytest.raises(BadSignature) as e:
        WebhookVerifier([KEY, KEY]).verify(BODY, sign(other, "msg_1", BODY))
    assert f"none of the 2 keys (…{KEY[-4:]}, …{KEY[-4:]})" in e.value.cause
    assert KEY[6:-4] not in e.value.cause
    assert KEY[-4:] not in str(e.value)
