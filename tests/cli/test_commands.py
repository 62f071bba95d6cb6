"""The commands as people run them: real processes, what they print and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from gateway.demo.sample import sample_study
from tests.conftest import AE_TITLE, KEY, describe
from tests.rig.ports import free_port

pytestmark = pytest.mark.slow


async def run(*arguments, timeout=60):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AVARA_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *map(str, arguments), stdout=-1, stderr=-1, env=environment
    )
    out, error = await asyncio.wait_for(process.communicate(), timeout)
    return process.returncode, out.decode(), error.decode()


@pytest.fixture
def write(tmp_path):
    def write(pacs, **sections):
        document = {
            "http": {"port": free_port()},
            "avara": {"webhook_keys": [KEY]},
            "dicom": {"host": "127.0.0.1", "port": free_port(), "advertised_host": "127.0.0.1"},
            "pacs": [pacs],
            "cache": {"min_free": "0"},
            "state_dir": str(tmp_path / "state"),
            **sections,
        }
        path = tmp_path / "gateway.yaml"
        path.write_text(json.dumps(document))
        return path, document

    return write


@pytest.fixture
async def study(orthanc):
    uid, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    return uid


async def test_help_teaches_every_command():
    code, out, _ = await run("--help")
    assert code == 0
    for command in ("serve", "check", "send-event", "fetch", "jobs", "demo", "config"):
        assert command in out
        code, said, _ = await run(command, "--help")
        assert code == 0
        assert len(said.splitlines()) > 5


async def test_version():
    code, out, _ = await run("--version")
    assert (code, out.split()[0]) == (0, "avara-gateway,")


async def test_mistakes_in_the_configuration_are_told_without_a_traceback(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("pcas: []\n")
    for command in (["serve"], ["check"], ["fetch"], ["config"]):
        code, out, error = await run(*command, "-c", path, *(["1.2.3"] if command == ["fetch"] else []))
        assert code == (78 if command == ["serve"] else 1)
        assert "did you mean pacs?" in out + error
        assert "Traceback" not in error


async def test_misuse_is_exit_code_2(write):
    path, _ = write({"name": "a", "ae_title": "A", "host": "h", "port": 1})
    assert (await run("fetch", "-c", path, "1.2.*"))[0] == 2
    assert (await run("send-event", "-c", path, "nonsense"))[0] == 2
    assert (await run("send-event", "-c", path, "study.access_requested"))[0] == 2


async def test_config_shows_what_is_in_effect_and_no_secret(write):
    path, _ = write({"name": "a", "ae_title": "A", "host": "h", "port": 1})
    code, out, _ = await run("config", "-c", path)
    assert code == 0
    assert KEY not in out
    assert "answer_within: 10s" in out
    code, out, _ = await run("config", "--schema")
    assert "pacs" in json.loads(out)["properties"]


async def test_send_event_to_nobody_says_how_to_start(write):
    path, _ = write({"name": "a", "ae_title": "A", "host": "h", "port": 1})
    code, _, error = await run("send-event", "-c", path, "study.access_requested", "--study-instance-uid", "1.2.3")
    assert code == 1
    assert "is the gateway running?" in error


async def test_check_without_a_running_gateway_proves_each_part(orthanc, study, write):
    path, document = write(describe(orthanc))
    await orthanc.register(AE_TITLE, document["dicom"]["port"])
    code, out, _ = await run("check", "-c", path)
    assert code == 0, out
    for said in (
        "store: ",
        "without a signature is refused",
        "our own C-ECHO",
        "C-ECHO: answers",
        "C-MOVE: sends to us",
    ):
        assert said in out


async def test_check_tells_a_pacs_that_cannot_move_to_us_what_to_register(orthanc, study, write):
    path, document = write(describe(orthanc))
    await orthanc.register(AE_TITLE, free_port())  # another port than ours
    code, out, _ = await run("check", "-c", path, timeout=90)
    assert code == 1
    assert f"register {AE_TITLE} at 127.0.0.1:{document['dicom']['port']} in it as a C-MOVE destination" in out


async def test_check_tells_a_pacs_that_is_down(write):
    path, _ = write({"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 1})
    code, out, _ = await run("check", "-c", path)
    assert code == 1
    assert "FAIL  PACS main: C-ECHO: PACS main (A at 127.0.0.1:1) cannot be reached" in out


async def test_fetch_without_a_running_gateway(orthanc, study, write):
    path, document = write(describe(orthanc))
    await orthanc.register(AE_TITLE, document["dicom"]["port"])
    code, out, _ = await run("fetch", "-c", path, study)
    assert code == 0
    assert out.startswith(f"{study}: complete: 33 instances")
    code, out, _ = await run("fetch", "-c", path, "1.2.3.4")
    assert code == 1
    assert "no configured PACS has this study" in out


@pytest.mark.parametrize("half", [b"", b'{"stored": 1, "expected": 33, "bytes": 1000}\n', b'{"stored": 1, "exp'])
@pytest.mark.parametrize("command", [["fetch", "1.2.3"], ["check"]], ids=lambda c: c[0])
async def test_a_gateway_that_dies_while_it_is_asked_is_told_in_a_line(command, half, write, tmp_path):
    path, _ = write({"name": "a", "ae_title": "A", "host": "127.0.0.1", "port": 1})
    if command == ["check"]:
        half = half.replace(
            b'"stored": 1, "expected": 33, "bytes": 1000', b'"name": "clock", "ok": true, "text": "fine"'
        )

    async def die(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if half:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(half), half))
            await writer.drain()
        writer.close()

    (tmp_path / "state").mkdir()
    async with await asyncio.start_unix_server(die, tmp_path / "state/control.sock"):
        code, out, error = await run(*command, "-c", path)
    assert code == 1
    assert "ended before it had answered" in out + error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) <= 1


async def test_serve_is_asked_by_the_other_commands_and_stops_in_good_order(orthanc, study, write, tmp_path):
    path, document = write(describe(orthanc))
    await orthanc.register(AE_TITLE, document["dicom"]["port"])
    log = tmp_path / "log"
    with log.open("wb") as output:
        serving = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve", "-c", str(path), stdout=output, stderr=output
        )
    try:
        async with asyncio.timeout(30):
            while "serving: " not in log.read_text():
                await asyncio.sleep(0.05)
        code, out, error = await run("send-event", "-c", path, "study.access_requested", "--study-instance-uid", study)
        assert code == 0, error
        assert out.startswith("200 in ")
        assert "28 more" in out
        assert "X-Amz-Signature" not in out
        code, out, _ = await run("fetch", "-c", path, study)
        assert (code, "complete" in out) == (0, True)
        code, out, _ = await run("check", "-c", path)
        assert code == 0, out
        code, _, error = await run("serve", "-c", path)
        assert code == 1
        assert "a gateway is running with state_dir" in error
    finally:
        serving.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(serving.wait(), 40) == 0
    said = log.read_text()
    assert "stopped" in said
    assert "Traceback" not in said
    for secret in (KEY, "Müller", "X-Amz-Signature", "DEMO-001"):
        assert secret not in said
