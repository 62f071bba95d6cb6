"""The demo from beginning to end: a PACS with a study, a gateway beside it, and one scene after the other."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
from rich.console import Console

from gateway.demo.orthanc import NoOrthanc, Orthanc, dies_with_us, find_orthanc
from gateway.demo.sample import sample_study
from gateway.demo.scenes import AE_TITLE, Avara, DemoFailed, DemoPacs, show_capture, show_report, show_study
from gateway.demo.stand_in import StandInPacs
from gateway.objects import free_port

MakesPacs = Callable[[int, list[bytes]], AbstractAsyncContextManager[DemoPacs]]
"""(DICOM port of the gateway, Part 10 files) → a PACS that runs, and holds the files."""


def run(*, keep: bool, pacs: MakesPacs | None = None) -> int:
    """Runs the demo; the exit code. *keep* stays up afterwards. Where a *pacs* is given, a study of it is opened, and
    that is all."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        asyncio.run(_demo(console, keep=keep, made=pacs))
    except KeyboardInterrupt:
        return 0 if keep else 130
    except DemoFailed as e:
        console.print(f"[red]failed:[/] {e}")
        return 1
    return 0


async def _demo(console: Console, *, keep: bool, made: MakesPacs | None) -> None:
    study, sample = sample_study()
    gateway_port, dicom_port, reports_port = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="avara-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        async with (made or _pacs)(dicom_port, [i.content for i in sample]) as pacs:
            console.print(f"PACS      {pacs.what} with a study of {len(sample)} instances")
            key = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
            config = directory / "gateway.yaml"
            config.write_text(_config(key, gateway_port, dicom_port, reports_port, pacs, directory))
            config.chmod(0o600)
            async with _gateway(config, gateway_port, directory / "gateway.log") as seconds:
                console.print(f"gateway   serves after {seconds:.1f} s, its embedded store with it")
                async with Avara(f"http://127.0.0.1:{gateway_port}/webhooks/avara", key, reports_port) as avara:
                    await show_study(console, pacs, study, avara)
                    if made is None:
                        await show_capture(console, pacs, study, avara)
                        await show_report(console, pacs, study, avara)
                if keep:
                    _explain(console, config, study, gateway_port, directory)
                    await asyncio.Event().wait()
    console.print("[green]done[/]: everything that was started has ended")


@asynccontextmanager
async def _pacs(dicom_port: int, files: list[bytes]) -> AsyncIterator[DemoPacs]:
    try:
        find_orthanc()
    except NoOrthanc:
        with StandInPacs(destination=(AE_TITLE, "127.0.0.1", dicom_port)) as stand_in:
            stand_in.add(*files)

            async def instances(study_instance_uid: str) -> dict[str, bytes]:
                return stand_in.instances(study_instance_uid)

            what = "a PACS of ours in memory, since Orthanc is not installed,"
            yield DemoPacs(what, stand_in.ae_title, stand_in.port, instances)
        return
    async with Orthanc() as orthanc:
        await orthanc.register(AE_TITLE, dicom_port)
        await orthanc.add(*files)
        yield DemoPacs("Orthanc", orthanc.ae_title, orthanc.dicom_port, orthanc.instances)


def _config(key: str, port: int, dicom_port: int, reports_port: int, pacs: DemoPacs, directory: Path) -> str:
    return f"""\
http: {{host: 127.0.0.1, port: {port}, public_url: "http://127.0.0.1:{port}"}}
# On a busy machine, too, the first answer is to have the whole small study, and its PDF.
avara: {{webhook_keys: ["{key}"], answer_patience: 5s}}
dicom: {{ae_title: {AE_TITLE}, host: 127.0.0.1, port: {dicom_port}, advertised_host: 127.0.0.1}}
pacs:
  - {{name: demo, ae_title: {pacs.ae_title}, host: 127.0.0.1, port: {pacs.port}}}
cache: {{max_size: 1GB, min_free: 100MB}}
reports: {{allowed_hosts: ["127.0.0.1:{reports_port}"], allow_http: true, allow_private_addresses: true}}
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
                    raise DemoFailed(f"the gateway does not start:\n{log.read_text()[-2000:]}")
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
    os.setpgrp()  # Ctrl-C is for the demo, which then ends the gateway cleanly
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
        f"\nIt keeps running until Ctrl-C. The log is {directory / 'gateway.log'}. Try:\n"
        f"  {command} send-event -c {config} study.access_requested --study-instance-uid {study}\n"
        f"  {command} check -c {config}\n"
        f"  {command} fetch -c {config} {study}\n"
        f"  {command} jobs list -c {config} --all\n"
        f"  curl http://127.0.0.1:{port}/health\n",
    )
