"""Presigned URLs: the same to the byte as minio-py's, for every key that we allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minio import Minio

from gateway.objects import Credentials, Presigner
from gateway.objects.sigv4 import PresignedCheck, check_key, path_of, quote_key

CREDENTIALS = Credentials("access", "very-secret")
NOW = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
segments = st.text(
    st.characters(min_codepoint=32, exclude_characters="/\\\x7f", codec="utf-8"), min_size=1, max_size=20
)
allowed_keys = st.lists(segments.filter(lambda s: s not in (".", "..")), min_size=1, max_size=4).map("/".join)
minio_keys = allowed_keys.filter(str.strip)  # minio-py has its own opinion of a key of blanks


@given(minio_keys, st.integers(1, 7 * 86400), st.sampled_from(["host:9000", "images.example.org", "127.0.0.1:8080"]))
def test_urls_are_those_of_minio_py(key, seconds, host):
    for secure in (False, True):
        client = Minio(host, "access", "very-secret", secure=secure, region="eu-1")
        presigner = Presigner(
            endpoint_url=f"{'https' if secure else 'http'}://{host}",
            region="eu-1",
            bucket="dicom",
            credentials=CREDENTIALS,
        )
        for method, ours in (
            ("GET", presigner.get_urls([key], expires_in=seconds, now=NOW)[0]),
            ("PUT", presigner.put_url(key, expires_in=seconds, now=NOW)),
        ):
            expires = timedelta(seconds=seconds)
            assert ours == client.get_presigned_url(method, "dicom", key, expires=expires, request_date=NOW)


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/../b", "..", "a/./b", "a\\b", "a\nb", "a/" + "x" * 256, "x" * 2000]
)
def test_a_key_that_a_server_would_change_is_refused(key):
    with pytest.raises(ValueError, match="unusable object key"):
        check_key(key)


@given(
    st.text(alphabet="aZ09.-_~/ %+:\n\\é", max_size=12)
    | st.text(max_size=30)
    | st.integers(250, 1030).map("a".__mul__)
    | st.integers(335, 345).map(lambda n: "/".join(["ab"] * n))
)
def test_the_fast_way_of_a_key_into_a_path_leads_where_the_slow_one_does(key):
    try:
        slow = quote_key(check_key(key))
    except ValueError:
        with pytest.raises(ValueError, match="unusable"):
            path_of(key)
    else:
        assert path_of(key) == slow


@pytest.mark.parametrize("seconds", [0, -1, 7 * 86400 + 1])
def test_an_expiry_that_s3_does_not_know_is_refused(seconds):
    presigner = Presigner(endpoint_url="https://a.example", region="r", bucket="dicom", credentials=CREDENTIALS)
    with pytest.raises(ValueError, match="lives 1 to"):
        presigner.get_urls(["a"], expires_in=seconds)


def test_a_path_in_front_of_the_bucket_cannot_be_signed():
    with pytest.raises(ValueError, match="path in front"):
        Presigner(endpoint_url="https://a.example/s3", region="r", bucket="dicom", credentials=CREDENTIALS)


def test_a_secret_key_is_never_shown():
    assert "very-secret" not in repr(CREDENTIALS)


class Clock:
    def __init__(self, at=NOW):
        self.at = at

    def now(self):
        return self.at.timestamp()

    def monotonic(self):
        return self.at.timestamp()

    async def sleep(self, seconds):
        self.at += timedelta(seconds=seconds)


def check(at=NOW):
    return PresignedCheck(CREDENTIALS, "eu-1", "dicom", Clock(at))


def parts(url):
    path, _, query = url.partition("?")
    return unquote(path.split("/dicom/", 1)[1]), query


PRESIGNER = Presigner(
    endpoint_url="https://gateway.example:8443", region="eu-1", bucket="dicom", credentials=CREDENTIALS
)
HOST = "gateway.example:8443"


@given(allowed_keys, st.integers(1, 7 * 86400))
def test_what_was_presigned_here_is_let_in_under_its_own_name_and_method(key, seconds):
    [url] = PRESIGNER.get_urls([key], expires_in=seconds, now=NOW)
    found, query = parts(url)
    assert found == key
    assert check().allows("GET", HOST, key, query)
    assert check(NOW + timedelta(seconds=seconds - 1)).allows("GET", HOST, key, query)
    for wrong in (
        check().allows("PUT", HOST, key, query),
        check().allows("HEAD", HOST, key, query),
        check().allows("GET", "gateway.example", key, query),
        check().allows("GET", HOST, key + "x", query),
        check(NOW + timedelta(seconds=seconds)).allows("GET", HOST, key, query),
        check(NOW - timedelta(minutes=16)).allows("GET", HOST, key, query),
    ):
        assert not wrong


@pytest.mark.parametrize(
    "alter",
    [
        lambda q: q + "0",
        lambda q: q[:-1] + ("0" if q[-1] != "0" else "1"),
        lambda q: q + "&acl=",
        lambda q: q + "&X-Amz-Expires=60",
        lambda q: q.replace("Expires=60", "Expires=61"),
        lambda q: q.replace("Expires=60", "Expires=" + "9" * 5000),
        lambda q: q.replace("Expires=60", "Expires=0"),
        lambda q: q.replace("SignedHeaders=host", "SignedHeaders=host%3Brange"),
        lambda q: q.replace("20261124T010203Z", "20261124T010204Z"),
        lambda q: q.replace("20261124T010203Z", "99999999T999999Z"),
        lambda q: q.replace("access", "other"),
        lambda q: q.replace("eu-1", "us-1"),
        lambda q: q.partition("&X-Amz-Signature")[0],
        lambda q: "",
        lambda q: "&".join(f"x{n}=" for n in range(1000)),
    ],
)
def test_nothing_that_was_altered_is_let_in(alter):
    key, query = parts(PRESIGNER.put_url("inbox/a", expires_in=60, now=NOW))
    assert check().allows("PUT", HOST, key, query)
    assert not check().allows("PUT", HOST, key, alter(query))


@given(st.text(max_size=200), st.text(max_size=50))
def test_no_query_makes_the_check_crash(query, key):
    assert not check().allows("GET", HOST, key, query)
