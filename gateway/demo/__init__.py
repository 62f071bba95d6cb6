"""``avara-gateway demo``: the main job, for real, on this machine, and an account of it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
from rich.console import Console

from gateway.avara.signature import sign
from gateway.demo.orthanc import NoOrthanc, Orthanc, dies_with_us, find_orthanc
from gateway.demo.sample import sample_study
from gateway.demo.simulator import PacsSimulator
from gateway.objects.embedded import free_port

T = TypeVar("T")

AE_TITLE = "AVARAGW"


class _Failed(Exception):
    """The demo did not show what it is to show."""


class _Pacs(Protocol):
    """The PACS of the demo, whichever it is."""

    what: str

    @property
    def ae_title(self) -> str: ...

    @property
    def port(self) -> int: ...

    async def instances(self, study_instance_uid: str) -> dict[str, bytes]: ...


@dataclass
class _RealOrthanc:
    orthanc: Orthanc
    what: str

    @property
    def ae_title(self) -> str:
        return self.orthanc.ae_title

    @property
    def port(self) -> int:
        return self.orthanc.dicom_port

    async def instances(self, study_instance_uid: str) -> dict[str, bytes]:
        return await self.orthanc.instances(study_instance_uid)


@dataclass
class _Simulated:
    simulator: PacsSimulator
    what: str

    @property
    def ae_title(self) -> str:
        return self.simulator.ae_title

    @property
    def port(self) -> int:
        return self.simulator.port

    async def instances(self, study_instance_uid: str) -> dict[str, bytes]:
        return self.simulator.instances(study_instance_uid)


def run(*, keep: bool) -> int:
    """Runs the demo; the exit code. *keep* stays up afterwards."""
    console = Console(highlight=False)
    try:
        asyncio.run(_demo(console, keep=keep))
    except KeyboardInterrupt:
        return 0 if keep else 130
    except _Failed as e:
        console.print(f"[red]failed:[/] {e}")
        return 1
    return 0


async def _demo(console: Console, *, keep: bool) -> None:
    study, sample = sample_study()
    gateway_port, dicom_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="avara-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        async with _pacs(dicom_port, [i.content for i in sample]) as pacs:
            console.print(f"PACS      {pacs.what} with a study of {len(sample)} instances")
            key = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            config = directory / "gateway.yaml"
            config.write_text(_config(key, gateway_port, dicom_port, pacs, directory))
            config.chmod(0o600)
            async with _gateway(config, gateway_port, directory / "gateway.log") as seconds:
                console.print(f"gateway   serves after {seconds:.1f} s, its embedded store with it")
                await _show(console, pacs, study, key, gateway_port)
                if keep:
                    _explain(console, config, study, gateway_port, directory)
                    await asyncio.Event().wait()
    console.print("[green]done[/]: everything that was started has ended")


async def _show(console: Console, pacs: _Pacs, study: str, key: str, port: int) -> None:
    url = f"http://127.0.0.1:{port}/webhooks/avara"
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        answer, cold = await _timed(_ask(http, url, key, study))
        urls, media = answer["urls"], answer.get("mediaUrls", [])
        series = answer["manifest"]["series"]
        console.print(
            f"asked     study.access_requested, cold: {len(urls)} URLs, {len(series)} series in the manifest, "
            f"{cold * 1000:.0f} ms"
        )
        held = {uid: _data_set(content) for uid, content in (await pacs.instances(study)).items()}
        fetched, took = await _timed(_open_all(http, urls))
        console.print(f"opened    {len(fetched)} URLs, {sum(map(len, fetched)) / 1e6:.2f} MB, {took * 1000:.0f} ms")
        if sorted(map(_data_set, fetched)) != sorted(held.values()):
            raise _Failed("what the URLs gave is not what the PACS holds")
        console.print(f"compared  {len(held)} data sets with the PACS: [green]equal, byte by byte[/]")
        for item in media:
            [content] = await _open_all(http, [item["url"]])
            kind = "a PDF" if content.startswith(b"%PDF-") else "something else"
            if kind != "a PDF":
                raise _Failed(f"{item['fileName']} is {kind}")
            console.print(f"media     {item['fileName']}: {item['mimeType']}, {len(content)} bytes, {kind} that opens")
        again, warm = await _timed(_ask(http, url, key, study))
        if len(again["urls"]) != len(urls):
            raise _Failed("the second answer differs from the first")
        console.print(f"asked     again, from the cache: {len(again['urls'])} URLs, {warm * 1000:.0f} ms")
        async with http.post(url, data=b"{}") as unsigned:
            console.print(f"refused   the same without a signature: {unsigned.status}")
            if unsigned.status != 401:
                raise _Failed("an unsigned event was not refused")


async def _timed(work: Awaitable[T]) -> tuple[T, float]:
    began = time.monotonic()
    return await work, time.monotonic() - began


async def _ask(http: aiohttp.ClientSession, url: str, key: str, study: str) -> dict[str, Any]:
    event = {
        "id": f"whe_{secrets.token_hex(16)}",
        "type": "study.access_requested",
        "data": {"studyId": "stu_" + "0" * 32, "studyInstanceUid": study},
    }
    body = json.dumps(event).encode()
    async with http.post(url, data=body, headers=sign(key, f"msg_{secrets.token_hex(12)}", body)) as response:
        answer: dict[str, Any] = await response.json()
    if response.status != 200 or not answer.get("authorized") or answer.get("error"):
        raise _Failed(f"the gateway answers {response.status}: {answer.get('error')}")
    return answer


async def _open_all(http: aiohttp.ClientSession, urls: list[str]) -> list[bytes]:
    async def read(url: str) -> bytes:
        async with http.get(url) as response:
            if response.status != 200:
                raise _Failed(f"a URL answers {response.status}")
            return await response.read()

    return await asyncio.gather(*map(read, urls))


def _data_set(part10: bytes) -> bytes:
    """What follows the file meta of a Part 10 file (PS3.10 §7.1), whose length its first element says."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


@asynccontextmanager
async def _pacs(dicom_port: int, files: list[bytes]) -> AsyncIterator[_Pacs]:
    try:
        find_orthanc()
    except NoOrthanc:
        simulator = PacsSimulator()
        simulator.add(*files)
        simulator.destinations[AE_TITLE] = ("127.0.0.1", dicom_port)
        with simulator:
            yield _Simulated(simulator, "a simulator of ours, since Orthanc is not installed,")
        return
    async with Orthanc() as orthanc:
        await orthanc.register(AE_TITLE, dicom_port)
        await orthanc.add(*files)
        yield _RealOrthanc(orthanc, "Orthanc")


def _config(key: str, port: int, dicom_port: int, pacs: _Pacs, directory: Path) -> str:
    return f"""\
http: {{host: 127.0.0.1, port: {port}, public_url: "http://127.0.0.1:{port}"}}
avara: {{webhook_keys: ["{key}"]}}
dicom: {{ae_title: {AE_TITLE}, host: 127.0.0.1, port: {dicom_port}, advertised_host: 127.0.0.1}}
pacs:
  - {{name: demo, ae_title: {pacs.ae_title}, host: 127.0.0.1, port: {pacs.port}}}
cache: {{max_size: 1GB, min_free: 100MB}}
state_dir: {json.dumps(str(directory / "state"))}
"""


@asynccontextmanager
async def _gateway(config: Path, port: int, log: Path) -> AsyncIterator[float]:
    """A gateway in a process of its own; yields the seconds that it took to serve."""
    began = time.monotonic()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve", "-c", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_own_group,
            env={k: v for k, v in os.environ.items() if not k.startswith("AVARA_")},
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as http:
            while not await _healthy(http, f"http://127.0.0.1:{port}/health"):
                if process.returncode is not None or time.monotonic() - began > 60:
                    raise _Failed(f"the gateway does not start:\n{log.read_text()[-2000:]}")
                await asyncio.sleep(0.05)
        yield time.monotonic() - began
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()


def _own_group() -> None:
    os.setpgrp()  # Ctrl-C is for the demo, which then ends the gateway in good order
    dies_with_us()


async def _healthy(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


def _explain(console: Console, config: Path, study: str, port: int, directory: Path) -> None:
    command = f"{sys.executable} -m gateway"
    console.print(
        f"\nIt stays up until Ctrl-C. The log is {directory / 'gateway.log'}. Try:\n"
        f"  {command} send-event -c {config} study.access_requested --study-instance-uid {study}\n"
        f"  {command} check -c {config}\n"
        f"  {command} fetch -c {config} {study}\n"
        f"  curl http://127.0.0.1:{port}/health\n",
        soft_wrap=True,
    )
