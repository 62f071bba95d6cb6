"""Encryption at rest in an S3 outside: what is asked for with each object, that it is signed, and that browsers' URLs
need no header for it. Not here: that a server encrypts."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from gateway.app.doctor import _encrypts
from gateway.app.stores import encryption
from gateway.config import StoreConfig
from gateway.objects import Credentials, ObjectStore, Presigner, StoreError

HEADER = "x-amz-server-side-encryption"
KEYS = {"endpoint": "s3.example.com", "access_key": "key", "secret_key": "secret"}
BY_ITSELF = b"<ServerSideEncryptionConfiguration><Rule/></ServerSideEncryptionConfiguration>"
NOT_BY_ITSELF = b"<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code></Error>"


@pytest.fixture
async def stub():
    """A server that keeps the headers of what is put; gives its store and those."""
    seen, says = [], {"status": 200, "body": BY_ITSELF}

    async def handler(request):
        await request.read()
        if "encryption" in request.query:
            return web.Response(**says)
        seen.append((request.method, request.headers))
        return web.Response()

    application = web.Application(client_max_size=10_000_000)
    application.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(application) as server:
        yield server, seen, says


def store_at(server, **settings):
    return ObjectStore(
        endpoint=lambda: f"127.0.0.1:{server.port}", secure=False, region="us-east-1", bucket="images",
        credentials=Credentials("key", "secret"), encryption=encryption(StoreConfig(**KEYS, **settings)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "asked", "key"),
    [
        ({}, None, None),
        ({"encryption": "sse-s3"}, "AES256", None),
        ({"encryption": "sse-kms"}, "aws:kms", None),
        ({"encryption": "sse-kms", "encryption_key_id": "arn:aws:kms:x:1:key/2"}, "aws:kms", "arn:aws:kms:x:1:key/2"),
    ],
)
async def test_what_the_gateway_puts_asks_for_the_encryption_that_is_configured(stub, settings, asked, key):
    server, seen, _ = stub
    large = b"x" * 1_500_000

    async def chunks():
        yield large

    async with store_at(server, **settings) as store, store.with_connections(2) as other:
        await store.put("small", b"12345", content_type="text/plain")
        await other.put("other", b"12345", content_type="text/plain")
        await store.put("larger", large, content_type="text/plain")
        await store.put_stream("stream", len(large), chunks, content_type="text/plain")
    assert len(seen) == 4
    for method, headers in seen:
        assert (method, headers.get(HEADER)) == ("PUT", asked)
        assert headers.get(f"{HEADER}-aws-kms-key-id") == key
        if asked:
            assert HEADER in headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    url = Presigner(
        endpoint_url="https://s3.example.com", region="us-east-1", bucket="images",
        credentials=Credentials("key", "secret"),
    ).put_url("inbox/1", expires_in=60)  # fmt: skip
    assert "encryption" not in url


async def test_check_says_where_uploads_would_not_be_encrypted(stub):
    server, _, says = stub
    async with store_at(server, encryption="sse-s3") as store:
        await _encrypts(store)
        for status, body in ((404, NOT_BY_ITSELF), (403, b"<Error><Code>AccessDenied</Code></Error>"), (501, b"")):
            says.update(status=status, body=body)
            with pytest.raises(StoreError, match="default encryption"):
                await _encrypts(store)


@pytest.mark.parametrize(
    "settings",
    [
        {"encryption": "sse-s3"},
        KEYS | {"encryption_key_id": "x"},
        KEYS | {"encryption": "sse-s3", "encryption_key_id": "x"},
        KEYS | {"encryption": "sse-kms", "encryption_key_id": "a\nb"},
    ],
)
def test_what_cannot_hold_is_a_mistake(settings):
    with pytest.raises(ValidationError):
        StoreConfig(**settings)
