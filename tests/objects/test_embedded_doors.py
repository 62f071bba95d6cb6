"""The embedded store against other users of the machine, and its folder against a second server.

Another user is tried as ``nobody`` where the tests run as root, and else as ourselves without the folder's files.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.objects import ObjectStore, StoreError
from gateway.objects.embedded import EmbeddedStore, _program
from gateway.objects.lock import StoreLock

pytestmark = pytest.mark.slow  # each starts a store

STRANGER = 65534
"""The number of ``nobody``."""


@pytest.fixture(scope="module")
async def embedded(tmp_path_factory):
    store = EmbeddedStore(tmp_path_factory.mktemp("doors"), bucket="dicom")
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
def program():
    """The server's own client, where a stranger can run it; pytest's folders are for their owner only."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copy(_program(), folder)
        yield Path(folder) / "weed"


def as_stranger():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)


async def shell(program, ports, command, *, cwd, preexec_fn, within):
    """What SeaweedFS's own shell, a real gRPC client, gets from a store."""
    process = await asyncio.create_subprocess_exec(
        program, "shell", f"-master=127.0.0.1:{ports['master.port']}.{ports['master.port.grpc']}",
        f"-filer=127.0.0.1:{ports['filer.port']}.{ports['filer.port.grpc']}",
        cwd=cwd, env={"HOME": str(cwd)}, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, preexec_fn=preexec_fn,
    )  # fmt: skip
    said = bytearray()

    async def read():
        process.stdin.write(f"{command}\nexit\n".encode())
        process.stdin.close()
        while piece := await process.stdout.read(4096):
            said.extend(piece)

    try:
        async with asyncio.timeout(within):
            await read()
    except TimeoutError:
        process.kill()
    await process.wait()
    return said.decode()


async def test_grpc_gives_its_owner_what_it_has_and_another_user_nothing(embedded, program):
    async with client_of(embedded) as store:
        await store.ensure_bucket()
        await store.put("studies/1.2.3/1.2.3.4.dcm", b"an image", content_type="application/dicom")
        ask = "fs.ls /buckets/dicom/studies/1.2.3"
        # First as one who has the certificate, so that an empty answer means that the door is shut.
        ours = await shell(program, embedded._ports, ask, cwd=embedded._directory, preexec_fn=None, within=30)
        assert "1.2.3.4.dcm" in ours
        theirs = await shell(program, embedded._ports, ask, cwd=program.parent, preexec_fn=as_stranger, within=8)
        assert "1.2.3.4" not in theirs
        await shell(
            program, embedded._ports, "fs.rm -rf /buckets/dicom/studies", cwd=program.parent, preexec_fn=as_stranger,
            within=5,
        )  # fmt: skip
        assert await store.get("studies/1.2.3/1.2.3.4.dcm") == b"an image"


def client_of(embedded):
    return ObjectStore(
        endpoint=lambda: embedded.endpoint,
        secure=False,
        region=embedded.region,
        bucket="dicom",
        credentials=embedded.credentials,
    )


async def test_every_port_refuses_a_connection_without_a_certificate_or_a_signature(embedded):
    names = {port: name for name, port in embedded._ports.items()}
    names[embedded._ports["admin.port"] + 10000] = "admin.port.grpc"
    listening = [names[port] for port in ports_of(embedded._process.pid)]  # a port that we do not know is a KeyError
    assert set(listening) >= {n for n in names.values() if not n.startswith("admin")}  # that one comes up later
    for name, port in ((names[port], port) for port in ports_of(embedded._process.pid)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if "grpc" in name:
                # HTTP/2 without TLS (RFC 9113 §3.4), as gRPC begins: the server answers with SETTINGS, or hangs up.
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
                async with asyncio.timeout(10):
                    answer = await reader.read(9)
                assert answer[3:4] != b"\x04", f"{name} speaks gRPC with anybody"
            else:
                writer.write(b"GET /buckets/dicom/?limit=10 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                async with asyncio.timeout(10):
                    answer = await reader.read()
                assert b"studies" not in answer
        except ConnectionResetError:
            pass
        finally:
            writer.close()


def ports_of(pid):
    """The TCP ports that a process listens on."""
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[3].rsplit(":", 1)[1]) for line in listening.splitlines() if f"pid={pid}," in line]


async def test_what_it_keeps_for_itself_is_for_its_owner_only(embedded):
    for path in embedded._directory.rglob("*"):
        if path.suffix in (".key", ".pem", ".toml", ".json"):
            assert path.stat().st_mode & 0o077 == 0, path


SCRIPT = """
import asyncio, sys, pathlib
from gateway.objects.embedded import EmbeddedStore
async def main():
    store = EmbeddedStore(pathlib.Path(sys.argv[1]), bucket="dicom")
    await store.start()
    print(store._process.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def another_gateway(directory):
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, str(directory), stdout=asyncio.subprocess.PIPE
    )
    return parent, int(await parent.stdout.readline())


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_killed_gateways_server_is_gone_before_it_can_take_another_write(tmp_path):
    for _ in range(3):
        parent, child = await another_gateway(tmp_path / "s")
        os.kill(child, signal.SIGSTOP)  # so that it cannot end by itself, as it does on SIGTERM within 2 to 28 s
        parent.kill()
        await parent.wait()
        async with asyncio.timeout(30):
            while lives(child):
                await asyncio.sleep(0.01)


async def test_the_next_gateway_waits_for_the_server_of_the_one_before(tmp_path, caplog):
    parent, child = await another_gateway(tmp_path / "s")
    # Its server lives on, as one would that the kernel is still writing for.
    os.kill(child, signal.SIGSTOP)
    holder = os.open(tmp_path / "s" / "lock", os.O_RDWR)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        while lives(child):
            await asyncio.sleep(0.01)
    fcntl.flock(holder, fcntl.LOCK_EX)
    store = EmbeddedStore(tmp_path / "s", bucket="dicom")
    starting = asyncio.create_task(store.start())
    await asyncio.sleep(1)
    assert store._process is None
    assert "waiting for it" in caplog.text
    assert f"process {child}" in caplog.text
    os.close(holder)
    async with asyncio.timeout(30):
        await starting
    await store.stop()


async def test_a_server_keeps_the_folder_locked_though_its_gateway_let_go(tmp_path):
    store = EmbeddedStore(tmp_path, bucket="dicom")
    await store.start()
    try:
        store._lock.release()
        with pytest.raises(StoreError, match=f"process {store._process.pid}.*end that process"):
            await StoreLock(tmp_path / "lock").take(within=0.3)
    finally:
        await store.stop()
    again = StoreLock(tmp_path / "lock")
    await again.take(within=0.1)
    again.release()
