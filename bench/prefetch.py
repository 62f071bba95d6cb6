"""A day in a reading room, in two minutes: how many studies were warm when they were opened, and what the PACS paid.

Two gateways live through the same day side by side, each with a simulated PACS of its own: one with prefetch, one
without. What a day spreads over hours lies seconds apart here, while the gateway's own waits are as long as ever: a new
study is left alone for a minute, so one that is opened sooner than that is cold either way.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from pydicom import dcmread

from bench.slices import opened
from bench.world import AE_TITLE, Gateway, gateway_of
from gateway.demo import synthetic_ct
from gateway.objects import free_port
from tests.rig.simulator import PacsSimulator

INSTANCES, SIDE = 4, 128
"""Of each study."""

DELAY = 0.25
"""Seconds that the PACS takes for an instance: a cold study is not here before the answer leaves."""

YEAR = 365 * 86400.0

PREFETCH = {"enabled": True, "poll_every": "5s", "poll_at_least_every": "10s"}
"""As often as is allowed, since the day is short."""


@dataclass(frozen=True)
class Planned:
    """A study of the day. Times are seconds from its beginning."""

    uid: str
    kind: str
    """How it comes, and what for."""
    patient: str
    appears: float
    opened: float | None
    """None: never."""
    age: float = 600.0
    """Seconds, by its date and time."""


def day(parts: int) -> Iterator[Planned]:
    """*parts* times: four studies found by polling and opened in time, one of them with two priors that are opened
    with it; two that were pushed; one that is opened at once; one that nobody opens."""
    for part in range(parts):
        begins, opens = 2.0 * part, 110.0 + 4 * part
        for n in range(4):
            yield Planned(f"1.2.826.10.{part}.{n}", "found by polling", f"P{part}-{n}", begins, opens + n)
        for n in (1, 2):
            prior = f"1.2.826.11.{part}.{n}"
            yield Planned(prior, "prior", f"P{part}-0", 0.0, opens + 2, n * YEAR)
        for n in range(2):
            yield Planned(f"1.2.826.12.{part}.{n}", "pushed", f"Q{part}-{n}", begins, begins + 40)
        yield Planned(f"1.2.826.13.{part}", "opened after 20 s", f"R{part}", begins + 25, begins + 45)
        yield Planned(f"1.2.826.14.{part}", "never opened", f"S{part}", begins, None)


async def compared(directory: Path, parts: int) -> dict[str, Any]:
    """The same day with and without prefetch, at the same time: what the machine does meanwhile hits both."""
    plan = [(study, made(study)) for study in day(parts)]  # not while they run: it takes this process's time
    ways = {"with prefetch": PREFETCH, "without": {"enabled": False}}
    lived = await asyncio.gather(
        *(one_day(directory / name.replace(" ", "-"), plan, prefetch) for name, prefetch in ways.items())
    )
    return {f"a day {name}": found for name, found in zip(ways, lived, strict=True)}


async def one_day(
    directory: Path, plan: Sequence[tuple[Planned, list[bytes]]], prefetch: dict[str, Any]
) -> dict[str, Any]:
    """What became of its openings, and what the PACS paid."""
    warm: dict[str, list[bool]] = {}
    seconds: list[float] = []
    metrics = free_port()
    with warnings.catch_warnings(), PacsSimulator() as simulator:
        warnings.simplefilter("ignore")
        simulator.behaviour.delay_per_instance = DELAY
        pacs = {"name": "pacs", "ae_title": simulator.ae_title, "host": "127.0.0.1", "port": simulator.port}
        avara = {"answer_within": "10s", "answer": "listed"}
        async with gateway_of(directory, pacs, avara=avara, prefetch=prefetch, metrics={"port": metrics}) as running:
            simulator.destinations[AE_TITLE] = ("127.0.0.1", running.dicom_port)
            began = time.monotonic()

            async def lives(study: Planned, files: list[bytes]) -> None:
                await asyncio.sleep(began + study.appears - time.monotonic())
                simulator.add(*files)
                if study.kind == "pushed":
                    await push(files, simulator.ae_title, running.dicom_port, directory / study.uid)
                if study.opened is None:
                    return
                await asyncio.sleep(began + study.opened - time.monotonic())
                is_warm, took = await open_study(running, study.uid)
                warm.setdefault(study.kind, []).append(is_warm)
                seconds.append(took)

            async with asyncio.TaskGroup() as group:
                for study, files in plan:
                    group.create_task(lives(study, files))
            figures = await read(metrics)
        asked = list(simulator.requests)
    every = [one for kind in warm.values() for one in kind]
    return {
        "studies": len(plan),
        "openings": len(every),
        "warm": sum(every),
        **{f"warm, {kind}": f"{sum(found)} of {len(found)}" for kind, found in sorted(warm.items())},
        "webhook to all slices, median s": statistics.median(seconds),
        "C-FINDs": sum(one.startswith("FIND") for one in asked),
        "of them for prefetch": int(figures.get("avara_gateway_prefetch_queries_total", 0)),
        "C-MOVEs": sum(one.startswith("MOVE") for one in asked),
        "instances": int(figures["avara_gateway_instances_fetched_total"]),
        "MB": figures["avara_gateway_fetched_bytes_total"] / 1e6,
        "MB for prefetch": figures.get("avara_gateway_prefetch_bytes_total", 0) / 1e6,
    }


async def open_study(running: Gateway, uid: str) -> tuple[bool, float]:
    """Opens it as a browser does: whether all of it was in the store when the answer left, and the seconds until all
    slices were read."""
    began = time.perf_counter()
    answer, _ = await running.ask(uid)
    warm = len(answer["urls"]) == INSTANCES and not any("/deferred/" in url for url in answer["urls"])
    while len(answer["urls"]) < INSTANCES:  # it says so, and to ask again
        await asyncio.sleep(0.5)
        answer, _ = await running.ask(uid)
    _, took = await opened(answer["urls"], began)
    return warm, took


def made(study: Planned) -> list[bytes]:
    """Its Part 10 files."""
    when = datetime.datetime.now(datetime.UTC).astimezone() - datetime.timedelta(seconds=study.age)
    files = []
    for instance in synthetic_ct(study.uid, INSTANCES, SIDE, SIDE):
        d = dcmread(BytesIO(instance.content))
        d.StudyDate, d.StudyTime, d.PatientID = when.strftime("%Y%m%d"), when.strftime("%H%M%S"), study.patient
        out = BytesIO()
        d.save_as(out)
        files.append(out.getvalue())
    return files


async def push(files: Sequence[bytes], calling: str, port: int, directory: Path) -> None:
    """C-STOREs them with DCMTK, as a PACS does that sends what is new by itself."""
    directory.mkdir()
    for number, content in enumerate(files):
        (directory / f"{number}.dcm").write_bytes(content)
    sending = await asyncio.create_subprocess_exec(
        "storescu", "-aet", calling, "-aec", AE_TITLE, "127.0.0.1", str(port), *map(str, sorted(directory.iterdir())),
        stdout=-1, stderr=-2,
    )  # fmt: skip
    said, _ = await sending.communicate()
    assert sending.returncode == 0, said


async def read(port: int) -> dict[str, float]:
    """The gateway's metrics by name, summed over their labels."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found
