"""The embedded store: shut to strangers, started again when it dies, gone with its parent; and its public face."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.objects import ObjectStore, Presigner, StoreError, StoreUnavailable
from gateway.objects.embedded import EmbeddedStore
from gateway.objects.front import StoreFront
from gateway.objects.ports import free_port as gateways_free_port
from gateway.objects.sockets import FOLDER
from gateway.objects.uploads import UploadQuota
from gateway.runtime.supervise import Supervisor
from gateway.web.clients import Clients
from gateway.web.cors import Cors
from gateway.web.server import Bounds, WebServer
from tests.rig.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
async def embedded(tmp_path_factory):
    store = EmbeddedStore(tmp_path_factory.mktemp("embedded"), bucket="dicom")
    await store.start()
    async with Supervisor() as loops:
        loops.add("embedded store", store.keep_running)
        yield store
    await store.stop()


@pytest.fixture(scope="module")
async def client(embedded):
    async with ObjectStore(
        endpoint=lambda: embedded.endpoint,
        secure=False,
        region=embedded.region,
        bucket="dicom",
        credentials=embedded.credentials,
    ) as store:
        await store.ensure_bucket()
        yield store


async def test_its_secrets_are_for_its_owner_only(embedded):
    secrets = embedded._directory / "secrets.json"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE(embedded._directory.stat().st_mode) == 0o700
    arguments = Path(f"/proc/{embedded._process.pid}/cmdline").read_text()
    assert embedded.credentials.secret_key not in arguments


async def test_every_port_it_opens_is_on_loopback(embedded):
    import subprocess

    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    ours = [line.split()[3] for line in listening.splitlines() if f"pid={embedded._process.pid}," in line]
    assert ours
    assert all(address.startswith("127.0.0.1:") for address in ours)


async def test_no_server_of_it_takes_a_strangers_write(embedded):
    async with aiohttp.ClientSession() as http:
        for name, path in (("filer.port", "/x"), ("volume.port", "/1,01"), ("s3.port", "/dicom/x")):
            try:
                async with http.post(f"http://127.0.0.1:{embedded._ports[name]}{path}", data=b"x") as answer:
                    assert answer.status in (401, 403, 404, 405), name
            except aiohttp.ClientError:
                pass  # it speaks no HTTP there
        drop = f"http://127.0.0.1:{embedded._ports['master.port']}/col/delete?collection=dicom"
        try:
            async with http.post(drop) as answer:
                assert answer.status in (401, 403, 404, 405)
        except aiohttp.ClientError:
            pass


@pytest.fixture
async def front(embedded, client):
    port = free_port()
    cors = Cors(["https://viewer.example"])
    server = WebServer(Bounds.of(connections=64, descriptors=1024, kept=100), Clients(), cors)
    quota = UploadQuota(keep_for=60)
    async with StoreFront(
        client, server, cors=cors, max_upload=1000, quota=quota, uploaded=lambda _: None, opened=lambda _: None
    ) as made:
        server.application.router.add_routes(made.routes())
        await server.start("127.0.0.1", port, drain_for=1)
        yield (
            Presigner(
                endpoint_url=f"http://gateway.example:{port}",
                region=embedded.region,
                bucket="dicom",
                credentials=embedded.credentials,
            ),
            f"http://127.0.0.1:{port}",
            f"gateway.example:{port}",
        )
        await server.stop()


async def through(front, method, url, **more):
    """What a browser gets that knows the gateway by its public name."""
    _, address, host = front
    headers = {"Host": host} | more.pop("headers", {})
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url.replace(f"http://{host}", address), headers=headers, **more) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


async def test_the_front_opens_a_url_that_was_signed_for_the_public_name(front, client):
    await client.put("a/b", b"0123456789", content_type="application/dicom")
    [url] = front[0].get_urls(["a/b"], expires_in=60)
    status, body, headers = await through(front, "GET", url, headers={"Origin": "https://viewer.example"})
    assert (status, body, headers["Content-Type"]) == (200, b"0123456789", "application/dicom")
    assert headers["Access-Control-Allow-Origin"] == "https://viewer.example"
    status, body, headers = await through(front, "GET", url, headers={"Range": "bytes=2-4"})
    assert (status, body, headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")


async def test_the_front_refuses_what_is_not_signed_and_lets_the_store_judge_the_rest(front, client):
    await client.put("a/b", b"x", content_type="a/b")
    [url] = front[0].get_urls(["a/b"], expires_in=60)
    assert (await through(front, "GET", url.split("?")[0]))[0] == 403
    for wrong in (url[:-1] + "x", url.replace("a/b", "a/c")):
        status, body, _ = await through(front, "GET", wrong)
        assert status == 403
        assert b"expired, or was altered" in body
    assert (await through(front, "DELETE", url))[0] == 405


async def test_the_front_takes_uploads_up_to_its_limit(front, client):
    url = front[0].put_url("up", expires_in=60)
    assert (await through(front, "PUT", url, data=b"x" * 1000))[0] == 200
    assert await client.get("up") == b"x" * 1000
    assert (await through(front, "PUT", url, data=b"x" * 1001))[0] == 413


async def test_a_preflight_is_answered_for_allowed_origins_only(front):
    [url] = front[0].get_urls(["a"], expires_in=60)
    ask = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
        "Access-Control-Request-Private-Network": "true",
    }
    status, _, headers = await through(front, "OPTIONS", url, headers=ask | {"Origin": "https://viewer.example"})
    assert status == 204
    assert "GET" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Headers"] == "range"
    assert headers["Access-Control-Allow-Private-Network"] == "true"
    assert (await through(front, "OPTIONS", url, headers=ask | {"Origin": "https://evil.example"}))[0] == 403


async def _serves(key, client):
    """Waits until an object is given out again, by a store that is just being started."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            if await client.head(key) is not None:
                return
        await asyncio.sleep(0.1)


async def test_after_a_kill_it_is_back_with_what_it_had_acknowledged(embedded, client):
    await client.put("kept", b"kept", content_type="a/b")
    process = embedded._process
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while embedded._process is process or embedded._process.returncode is not None:
            await asyncio.sleep(0.05)
        await _serves("kept", client)
    assert await client.get("kept") == b"kept"


async def test_whatever_a_relaunch_ends_by_it_is_tried_again(embedded, client, monkeypatch):
    await client.put("kept", b"kept", content_type="a/b")
    until_ready, failed = EmbeddedStore._until_ready, []

    async def disconnected(self, process):
        if not failed:
            failed.append(process)
            raise aiohttp.ServerDisconnectedError
        await until_ready(self, process)

    monkeypatch.setattr(EmbeddedStore, "_until_ready", disconnected)
    process = embedded._process
    os.kill(process.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while embedded._process in (process, *failed) or embedded._process.returncode is not None:
            await asyncio.sleep(0.05)
        await _serves("kept", client)
    assert failed


async def test_it_never_outlives_its_parent(tmp_path):
    script = """
import asyncio, sys, pathlib
from gateway.objects.embedded import EmbeddedStore
async def main():
    store = EmbeddedStore(pathlib.Path(sys.argv[1]), bucket="dicom")
    await store.start()
    print(store._process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "s"), stdout=asyncio.subprocess.PIPE
    )
    child = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(30):
        while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
            await asyncio.sleep(0.05)
    left = f"seaweedfs-filer-grpc-{json.loads((tmp_path / 's' / 'ports.json').read_text())['filer.port.grpc']}.sock"
    assert (FOLDER / left).exists()  # it was killed, too
    store = EmbeddedStore(tmp_path / "s", bucket="dicom")
    await store.start()
    await store.stop()
    assert not (FOLDER / left).exists()


async def test_a_folder_that_its_certificates_cannot_be_written_into_is_named_with_the_reason(tmp_path):
    (tmp_path / "tls").touch()
    store = EmbeddedStore(tmp_path, bucket="dicom")
    with pytest.raises(StoreError, match=f"cannot use {tmp_path}: File exists"):
        await store.start()
    (tmp_path / "tls").unlink()
    await store.start()  # it holds no lock, nor anything else
    await store.stop()


def test_a_port_that_was_given_out_a_moment_ago_is_not_given_out_again():
    ports = [gateways_free_port() for _ in range(90)]
    assert len(set(ports)) == len(ports)
