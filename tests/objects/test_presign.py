"""Presigned URLs: the same to the byte as minio-py's, for every key that we allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minio import Minio

from gateway.objects import Credentials, Presigner
from gateway.objects.sigv4 import check_key

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
