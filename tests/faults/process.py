"""A gateway in a process of its own, seen as its operating system sees it: started, killed, measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import aiohttp

from gateway.demo.orthanc import dies_with_us
from gateway.objects import Credentials, ObjectStore, StoreUnavailable

from .jumpy import AHEAD

STARTS_WITHIN = 60.0
"""Seconds."""

ROOT = Path(__file__).parents[2]


class GatewayProcess:
    """One gateway's configuration and state, and the process that serves it at the time."""

    def __init__(self, directory: Path, document: dict[str, Any], store_at: str | None = None) -> None:
        """*store_at* is where its store is to be had, where that is none of its own, past any relay."""
        self.directory = directory
        self.document = document
        self._store_at = store_at
        self.state_dir = Path(document["state_dir"])
        self.log_file = directory / "gateway.log"
        self._clock = directory / "clock"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.document['http']['port']}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, *, descriptors: int | None = None) -> None:
        """Starts it and waits until it serves; *descriptors* is its RLIMIT_NOFILE."""
        config = self.directory / "gateway.yaml"
        config.write_text(json.dumps(self.document))  # JSON is YAML
        self.set_clock(0.0)
        limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *limit, sys.executable, "-m", "tests.faults.jumpy", str(self._clock), "serve", "-c", str(config),
                cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_us,
            )  # fmt: skip
        async with asyncio.timeout(STARTS_WITHIN), aiohttp.ClientSession() as http:
            while True:
                assert self.is_running, f"the gateway ended: {self.log_file.read_text()[-3000:]}"
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(f"{self.url}/health", timeout=aiohttp.ClientTimeout(total=8)):
                        return
                await asyncio.sleep(0.05)

    def set_clock(self, ahead: float) -> None:
        """Its wall clock is so many seconds ahead from now on."""
        self._clock.touch()
        with self._clock.open("r+b") as file:  # in place: it is mapped
            file.write(AHEAD.pack(ahead))

    async def kill(self) -> None:
        """``kill -9``."""
        if self.is_running:
            assert self._process is not None
            self._process.kill()
            await self._process.wait()

    async def stop(self, within: float = 40.0) -> int:
        """Asks it to end; its exit code."""
        assert self._process is not None
        if self.is_running:
            self._process.terminate()
            try:
                async with asyncio.timeout(within):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        assert self._process.returncode is not None
        return self._process.returncode

    # -- what the system sees of it

    def children(self) -> list[int]:
        return children_of(self.pid)

    def store_process(self) -> int | None:
        """The embedded store's."""
        for pid in self.children():
            if "mini" in command_of(pid):
                return pid
        return None

    def figures(self) -> dict[str, float]:
        """Memory, descriptors and threads at this moment."""
        return figures_of(self.pid)

    # -- what it keeps

    def store(self) -> ObjectStore:
        """A client of its store, past it."""
        configured = self.document["store"]
        if self._store_at is not None:
            endpoint = self._store_at
            keys = Credentials(configured["access_key"], configured["secret_key"])
        else:
            pid = self.store_process()
            if pid is None:
                raise StoreUnavailable("the store's process is not there")
            port = re.search(r"-s3\.port=(\d+)", " ".join(command_of(pid)))
            assert port is not None
            endpoint = f"127.0.0.1:{port[1]}"
            kept = json.loads((self.state_dir / "store" / "secrets.json").read_text())
            keys = Credentials(kept["access_key"], kept["secret_key"])
        return ObjectStore(
            endpoint=lambda: endpoint, secure=False, region="us-east-1", bucket=configured.get("bucket", "dicom"),
            credentials=keys,
        )  # fmt: skip

    def jobs(self) -> list[tuple[int, str, str, str, float]]:
        """Id, kind, state, last error and creation of every job, read beside the running gateway."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.state_dir}/journal.db?mode=ro", uri=True, timeout=10)
        ) as c:
            return c.execute("SELECT id, kind, state, last_error, created FROM jobs").fetchall()


def figures_of(pid: int) -> dict[str, float]:
    """As :meth:`GatewayProcess.figures`; empty once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return {
            "MB": int(status.split("VmRSS:")[1].split()[0]) / 1000,
            "threads": float(status.split("Threads:")[1].split()[0]),
            "descriptors": float(len([*Path(f"/proc/{pid}/fd").iterdir()])),
        }
    except (OSError, IndexError):
        return {}


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def command_of(pid: int) -> list[str]:
    """A process's command line; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
