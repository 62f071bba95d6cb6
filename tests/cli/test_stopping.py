"""How `serve` starts and ends, as a service manager sees it: real processes, real signals, a store that hangs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from gateway.app.run import STOPPED_WITHIN, core, service
from gateway.objects.embedded import EmbeddedStore
from gateway.runtime.lifecycle import longest_stop
from tests.conftest import KEY
from tests.rig.ports import free_port

ROOT = Path(__file__).parent.parent.parent


class Relay:
    """Between a gateway and its store; once it is silent it takes everything and passes nothing on."""

    def __init__(self, to):
        self._host, port = to.split(":")
        self._port = int(port)
        self.silent = False
        self.taken = asyncio.Event()
        """Something was taken while it was silent."""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        other, onwards = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(self._pass(reader, onwards), self._pass(other, writer), return_exceptions=True)
        for end in (onwards, writer):
            end.close()

    async def _pass(self, reader, writer):
        while data := await reader.read(65536):
            if self.silent:
                self.taken.set()
                continue
            writer.write(data)
            await writer.drain()
        writer.close()


class Process:
    """A gateway, and what it has logged."""

    def __init__(self, process, log):
        self.process = process
        self._log = log

    @property
    def said(self):
        return self._log.read_text()

    async def says(self, text, within=30):
        async with asyncio.timeout(within):
            while text not in self.said:
                assert self.process.returncode is None, self.said
                await asyncio.sleep(0.02)

    async def ends(self, within=40):
        return await asyncio.wait_for(self.process.wait(), within)


@pytest.fixture
async def serve(tmp_path):
    """Begins to serve with a store, and yields without waiting for it."""
    begun = []

    async def begin(endpoint, credentials, **environment):
        port = free_port()
        document = {
            "http": {"port": port}, "avara": {"webhook_keys": [KEY]},
            "dicom": {"host": "127.0.0.1", "port": free_port()},
            "pacs": [{"name": "a", "ae_title": "A", "host": "127.0.0.1", "port": 1}],
            "store": {
                "endpoint": endpoint, "access_key": credentials.access_key, "secret_key": credentials.secret_key,
                "secure": False, "bucket": f"stopping-{port}",
            },
            "state_dir": str(tmp_path / "state"),
        }  # fmt: skip
        config, log = tmp_path / "gateway.yaml", tmp_path / "log"
        config.write_text(json.dumps(document))
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "serve", "-c", str(config), stdout=output, stderr=output,
                env={k: v for k, v in os.environ.items() if not k.startswith("AVARA_")} | environment,
            )  # fmt: skip
        begun.append(process)
        gateway = Process(process, log)
        gateway.port = port
        return gateway

    yield begin
    for process in begun:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_store_that_takes_everything_and_answers_nothing_does_not_hold_up_the_end(weed, serve):
    async with Relay(weed.endpoint) as relay:
        gateway = await serve(relay.endpoint, weed.credentials)
        await gateway.says("serving: ")
        relay.silent = True
        # Something is under way in it: what the health check asks, and a listing of the inbox.
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{gateway.port}/health") as answer:
            assert (await answer.json())["checks"]["store"] == "failing"
        await asyncio.wait_for(relay.taken.wait(), 10)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ends() == 0
        assert time.monotonic() - began < STOPPED_WITHIN
    assert "stopped" in gateway.said


async def test_what_decodes_pixels_is_not_loaded_into_the_process_that_serves(weed, serve):
    gateway = await serve(weed.endpoint, weed.credentials)
    await gateway.says("serving: ")
    mapped = Path(f"/proc/{gateway.process.pid}/maps").read_text()
    assert "pydantic_core" in mapped
    # Nor what makes the embedded store's certificates.
    assert not re.findall("cryptography|gdcm|numpy|openjpeg|/PIL/|imagecodecs|pdfium|qpdf", mapped)


async def test_what_stands_once_it_serves_is_no_work_for_the_garbage_collector(weed, serve, monkeypatch, tmp_path):
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "sitecustomize.py").write_text("import gc\ngc.set_debug(gc.DEBUG_STATS)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "told"))
    gateway = await serve(weed.endpoint, weed.credentials)
    await gateway.says("serving: ")
    async with asyncio.timeout(30), aiohttp.ClientSession() as http:
        while not re.search(r"permanent generation: \d{5,}", gateway.said):
            async with http.get(f"http://127.0.0.1:{gateway.port}/health"):
                await asyncio.sleep(0.05)


async def test_a_signal_while_it_starts_ends_the_start(weed, serve):
    async with Relay(weed.endpoint) as relay:
        relay.silent = True
        gateway = await serve(relay.endpoint, weed.credentials)
        await asyncio.wait_for(relay.taken.wait(), 30)
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ends() == 0
    assert "stopped while it was starting" in gateway.said
    assert "serving: " not in gateway.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(number, weed, serve):
    gateway = await serve(weed.endpoint, weed.credentials)
    await gateway.says("serving: ")
    _, half_a_request = await asyncio.open_connection("127.0.0.1", gateway.port)
    half_a_request.write(b"POST /webhooks/avara HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    await asyncio.sleep(0.3)
    gateway.process.send_signal(number)
    await gateway.says("stopping")
    gateway.process.send_signal(number)
    assert await gateway.ends() == -number
    assert "stopped" not in gateway.said
    half_a_request.close()


async def test_the_service_manager_is_told_of_start_life_and_end(weed, serve, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        told = []

        async def tells(what):
            async with asyncio.timeout(30):
                while what not in told:
                    told.append(await asyncio.get_running_loop().sock_recv(listening, 1000))

        gateway = await serve(
            weed.endpoint, weed.credentials, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000"
        )
        await tells(b"READY=1")
        assert "serving: " in gateway.said
        for _ in range(3):
            await tells(b"WATCHDOG=1")
            told.remove(b"WATCHDOG=1")
        await tells(b"STATUS=serving")
        # What hangs as a whole gives no sign of life.
        gateway.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.5)
        while True:
            try:
                listening.recv(1000)
            except BlockingIOError:
                break
        await asyncio.sleep(1)
        with pytest.raises(BlockingIOError):
            listening.recv(1000)
        gateway.process.send_signal(signal.SIGCONT)
        gateway.process.send_signal(signal.SIGTERM)
        await tells(b"STOPPING=1")
        assert await gateway.ends() == 0


async def test_the_bounds_of_all_parts_fit_into_the_service_managers_patience(start, simulator, tmp_path):
    gateway = (await start(simulator)).parts
    unit = (ROOT / "deploy/avara-gateway.service").read_text()
    patience = int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1])
    gateway.embedded = EmbeddedStore(tmp_path, bucket="dicom")  # what takes longest to stop
    assert longest_stop(core(gateway) + service(gateway)) < STOPPED_WITHIN < patience - 5
