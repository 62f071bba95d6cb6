"""Without a hole in the firewall (docs/network.md): the gateway is reached only by a connection that was made from its
side, by a real sshd where there is one. What is signed comes through as it was sent."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
from pathlib import Path

import aiohttp
import pytest

from gateway.avara import sign
from gateway.demo.sample import sample_study
from tests.conftest import KEY
from tests.rig.ports import free_port

STUDY, SAMPLE = sample_study()


@pytest.fixture
async def tunnel(tmp_path):
    """An sshd of this test's own and the recipe's ``ssh -R``; gives the relay's port for a gateway's."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None:
        pytest.skip("no sshd on PATH: installing one would open a port of the machine")
    host_key, key, port = tmp_path / "host", tmp_path / "key", free_port()
    for file in (host_key, key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    (tmp_path / "authorized").write_text((tmp_path / "key.pub").read_text())
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    processes = []

    async def start(gateway_port):
        relay_port = free_port()
        (tmp_path / "sshd.conf").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {tmp_path / 'authorized'}\nPermitRootLogin yes\nAllowTcpForwarding remote\n"
            f"PermitListen 127.0.0.1:{relay_port}\nPermitOpen none\nPermitTTY no\n"
        )
        out = asyncio.subprocess.DEVNULL
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # as its unit does
        server = await asyncio.create_subprocess_exec(
            sshd, "-D", "-e", "-f", tmp_path / "sshd.conf", stdout=out, stderr=out
        )
        processes.append(server)
        await _listens(port)
        client = await asyncio.create_subprocess_exec(
            "ssh", "-N", "-F", "none", "-R", f"127.0.0.1:{relay_port}:127.0.0.1:{gateway_port}", "-p", str(port),
            "-o", "ExitOnForwardFailure=yes", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
            "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-i", key, f"{getpass.getuser()}@127.0.0.1",
            stdout=out, stderr=out,
        )  # fmt: skip
        processes.append(client)
        await _listens(relay_port)
        return relay_port, client

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _listens(port):
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def test_a_webhook_comes_through_a_tunnel_that_the_hospital_made_with_every_byte(simulator, start, tunnel):
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator)
    relay, client = await tunnel(gateway.config.http.port)
    body = (
        b'{ "id":"whe_1",\t"type":"study.access_requested", "data":{"studyId":"stu_1","extra":"\xc3\xbc",'
        b'"studyInstanceUid":"' + STUDY.encode() + b'"}}\n'
    )
    url = f"http://127.0.0.1:{relay}{gateway.config.avara.path}"
    async with gateway.http.post(url, data=body, headers=sign(KEY, "msg_1", body)) as answer:
        assert answer.status == 200
        assert len((await answer.json())["urls"]) == len(SAMPLE)
    async with gateway.http.post(url, data=body + b" ", headers=sign(KEY, "msg_2", body)) as answer:
        assert answer.status == 401  # what a relay alters is refused
    client.kill()
    await client.wait()
    with pytest.raises((OSError, aiohttp.ClientError)):
        async with asyncio.timeout(10), gateway.http.post(url, data=body, headers=sign(KEY, "msg_3", body)):
            pass
