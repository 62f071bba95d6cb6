"""The gateway's own user in a real MinIO: all that the gateway does works, and nothing else of the server does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from minio import Minio
from minio.error import S3Error

from gateway.cli import main
from gateway.objects import Credentials, StoreError
from gateway.objects.minio_user import make_user

USER = Credentials("gateway", "a secret of its own")
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def made(minio, bucket, user=USER):
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.to_thread(
                    make_user, minio.endpoint, minio.credentials, user, bucket, secure=False, ca_file=""
                )
            except StoreError as e:
                if "cannot be reached" not in str(e):
                    raise
                await asyncio.sleep(0.2)


async def test_it_can_do_all_that_the_gateway_does_in_its_bucket(minio):
    await made(minio, "own-bucket")
    await made(minio, "own-bucket")  # again: it is the same
    async with replace(minio, credentials=USER).store("own-bucket") as store:
        await store.ensure_bucket()
        await store.check()
        assert await store.allow_origins(["*"]) is False
        await store.put("a/b", b"bytes", content_type="application/dicom")
        assert await store.get("a/b") == b"bytes"
        assert [found.key async for found in store.list("a/")] == ["a/b"]
        await store.delete(["a/b"])
        assert await store.head("a/b") is None


async def test_it_may_make_the_cors_rules_of_its_bucket_where_the_server_has_such(minio):
    await made(minio, "own-bucket")
    async with replace(minio, credentials=USER).store("own-bucket") as store:
        await store.ensure_bucket()
    user = Minio(minio.endpoint, USER.access_key, USER.secret_key, secure=False)
    with pytest.raises(S3Error, match="NotImplemented"):  # and not AccessDenied: this server has none
        user._execute("PUT", "own-bucket", body=b"<CORSConfiguration/>", query_params={"cors": ""})


async def test_it_can_do_nothing_elsewhere(minio):
    await made(minio, "mine")
    root = Minio(minio.endpoint, minio.credentials.access_key, minio.credentials.secret_key, secure=False)
    for bucket in ("others", "mine"):
        if not root.bucket_exists(bucket):
            root.make_bucket(bucket)
    user = Minio(minio.endpoint, USER.access_key, USER.secret_key, secure=False)
    for forbidden in (
        lambda: user.list_objects("others").__next__(),
        lambda: user.make_bucket("third"),
        lambda: user.set_bucket_policy("mine", json.dumps({"Version": "2012-10-17", "Statement": []})),
        lambda: user.remove_bucket("mine"),
    ):
        with pytest.raises(S3Error, match="AccessDenied"):
            forbidden()
    with pytest.raises(StoreError, match="does not make the user"):
        make_user(minio.endpoint, USER, Credentials("third", "a secret again"), "mine", secure=False, ca_file="")


async def test_the_command_makes_it_and_refuses_to_use_the_root_keys_for_it(minio, tmp_path):
    await made(minio, "by-command")
    store = {"endpoint": minio.endpoint, "access_key": "by-command", "secret_key": "its secret", "secure": False}
    document = {
        "avara": {"webhook_keys": [KEY]},
        "pacs": [{"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 104}],
        "store": store | {"bucket": "by-command"},
        "state_dir": str(tmp_path / "state"),
    }
    path, name, password = tmp_path / "gateway.yaml", tmp_path / "user", tmp_path / "password"
    name.write_text(minio.credentials.access_key + "\n")
    password.write_text(minio.credentials.secret_key + "\n")
    arguments = ["minio-user", "-c", str(path), "--root-user-file", str(name), "--root-password-file", str(password)]
    path.write_text(json.dumps(document))
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert done.exit_code == 0, done.output
    async with replace(minio, credentials=Credentials("by-command", "its secret")).store("by-command") as client:
        await client.ensure_bucket()
        await client.put("x", b"y", content_type="application/dicom")
    document["store"] |= {"access_key": minio.credentials.access_key}
    path.write_text(json.dumps(document))
    refused = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert refused.exit_code == 1
    assert "keys of its own" in refused.output
