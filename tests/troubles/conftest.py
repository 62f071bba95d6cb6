"""What an operator has when something is wrong: one command, and the page."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.demo.sample import sample_study
from tests.rig.ports import free_port

STUDY, SAMPLE = sample_study()

COMMAND_WITHIN = 180
"""Seconds; a busy machine has them."""


class Operator:
    """Somebody who looks at one gateway, and knows nothing of its parts."""

    def __init__(self, running, page):
        self.running = running
        self._page = page

    async def command(self, *arguments):
        """What a command prints, as people run it."""
        await self.running.parts.events.flush()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AVARA_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", arguments[0], "-c", str(self._file), *arguments[1:],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), COMMAND_WITHIN)
        finally:
            if process.returncode is None:
                process.kill()
        return said.decode()

    async def check(self):
        """What ``check`` says, by what it is of; results of one name in one text."""
        told = {}
        for line in json.loads(await self.command("check", "--json"))["results"]:
            told[line["name"]] = f"{told.get(line['name'], '')}\n{line['ok']}: {line['text']}".strip()
        return told

    async def trace(self, what):
        """What ``trace`` says. In this process, since a program takes seconds to load."""
        await self.running.parts.events.flush()
        done = await asyncio.to_thread(CliRunner().invoke, main, ["trace", "-c", str(self._file), what])
        return done.output

    @property
    def _file(self):
        [file] = self.running.config.state_dir.parent.glob(f"gateway-{self.running.config.http.port}.yaml")
        return file

    async def front(self, *, says, within=60):
        """What the page's first screen says, once it *says* that."""
        async with asyncio.timeout(within):
            while says not in (text := await self._read("/")):
                await asyncio.sleep(0.3)
        return text

    async def search(self, what):
        """What the page's search says."""
        await self.running.parts.events.flush()
        return await self._read(f"/search?q={what}")

    async def _read(self, path):
        async with self.running.http.get(self._page + path) as answer:
            assert answer.status == 200
            text = await answer.text()
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


@pytest.fixture
def troubled(start, simulator, monkeypatch):
    """``await troubled(**sections)``: an operator before a gateway with a page, its PACS the simulator."""
    monkeypatch.setattr("gateway.admin.answering.PROVEN_FOR", 1.0)
    monkeypatch.setattr("gateway.admin.answering.AGAIN_AFTER", 1.0)
    monkeypatch.setattr("gateway.page.watch.LOOKS_EVERY", 0.5)
    monkeypatch.setattr("gateway.admin.health.FRESH", 0.5)

    async def begin(*pacs, **sections):
        simulator.add(*(i.content for i in SAMPLE))
        port = free_port()
        running = await start(*(pacs or [simulator]), page={"port": port}, **sections)
        return Operator(running, f"http://127.0.0.1:{port}")

    return begin


@contextmanager
def dropping():
    """A port of this machine where connections are neither taken nor refused, as behind a firewall that drops: its
    queue is full, and Linux lets further SYNs fall (tcp(7), tcp_abort_on_overflow)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        try:
            yield port
        finally:
            for one in waiting:
                one.close()
