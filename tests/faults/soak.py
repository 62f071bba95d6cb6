"""Mixed load at several times a large hospital's rate, fault after fault, and what became of memory and queues.

Load and faults come in cycles: after each the load pauses, everything has to come to rest and every promise to hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.plot import Panel, courses

from .faults import SERVED_WITHIN, Fault
from .hospital import Hospital, NotServed
from .process import figures_of
from .promises import broken

STUDIES, CAPTURES, REPORTS = 20.0, 10.0, 10.0
"""A minute: what a large hospital has in its busiest hour. The load is so many times that."""

CYCLE = 90.0
"""Seconds of load and faults between two looks at everything."""

LASTS, CALM = (4.0, 12.0), (3.0, 8.0)
"""Seconds for which a fault stays, and for which nothing fails before the next."""

LOOKS_EVERY = 2.0
"""Seconds between two samples."""

MOST = {"MB": 800.0, "descriptors": 900.0, "threads": 150.0}
"""What a gateway may take at any time of a soak; what it takes at rest is drawn, for the eye."""


@dataclass
class Record:
    """What is drawn, and what the verdict is of."""

    began: float = field(default_factory=time.monotonic)
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Title → seconds since the start, and the figure."""
    faults: list[tuple[float, float, str]] = field(default_factory=list)
    """From, until, name."""
    at_rest: list[dict[str, float]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    not_served: Counter[str] = field(default_factory=Counter)
    """During what → requests that were not served."""
    bad: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    def sample(self, title: str, value: float) -> None:
        self.samples.setdefault(title, []).append((self.now, value))


class Soak:
    """One soak of one hospital. The gateway is running."""

    def __init__(self, hospital: Hospital, record: Record, *, times: float, faults: list[Fault], seed: int) -> None:
        """*times* a large hospital's load; *faults* may be empty."""
        self._hospital = hospital
        self._record = record
        self._times = times
        self._faults = faults
        self._chance = random.Random(seed)
        self._left = list(faults)
        self._fault: Fault | None = None
        self._mended = float("-inf")
        self._warm = ""
        self._studies: list[str] = []
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Cycle after cycle, until so many seconds have passed or a promise is broken."""
        until = time.monotonic() + seconds
        async with self._sampling():
            while time.monotonic() < until and not self._record.bad:
                await self._cycle(min(CYCLE, max(until - time.monotonic(), 10.0)))

    async def _cycle(self, seconds: float) -> None:
        hospital, record = self._hospital, self._record
        self._warm = await hospital.examine(hospital.second)
        await hospital.open_study(self._warm)
        self._studies.clear()
        tasks = [
            asyncio.create_task(self._at_rate(STUDIES, self._study)),
            asyncio.create_task(self._at_rate(CAPTURES, self._capture)),
            asyncio.create_task(self._at_rate(REPORTS, self._report)),
            asyncio.create_task(self._bystander()),
        ]
        await self._some_faults(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._working)
        record.bad += await broken(hospital, heals_within=180)
        known = hospital.known
        record.done["captures acknowledged"] += sum(c.acknowledged for c in known.captures)
        record.done["reports acknowledged"] += sum(r.acknowledged for r in known.reports)
        record.at_rest.append(hospital.gateway.figures())
        if not record.bad:
            known.forget()
            await hospital.main.clear()
            await hospital.second.clear()
        print(
            f"{record.now:5.0f} s: {dict(record.done)}, at rest {record.at_rest[-1]}, {len(record.bad)} broken",
            flush=True,
        )

    async def _some_faults(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(*CALM))
            if not self._faults or time.monotonic() > until:
                continue
            if not self._left:
                self._left = list(self._faults)
            fault = self._left.pop(self._chance.randrange(len(self._left)))
            began, self._fault = self._record.now, fault
            async with fault.during(self._hospital):
                await asyncio.sleep(self._chance.uniform(*LASTS))
            self._fault, self._mended = None, time.monotonic()
            self._record.faults.append((began, self._record.now, fault.name))
            self._record.done["faults"] += 1

    # -- load

    async def _at_rate(self, a_minute: float, work) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(a_minute * self._times / 60))
            task = asyncio.create_task(self._attempt(work))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _attempt(self, work) -> None:
        during = self._during()
        try:
            await work()
        except NotServed:
            self._record.not_served[during] += 1
        except (aiohttp.ClientError, OSError, RuntimeError):
            self._record.done["not possible, its PACS was away"] += 1

    def _during(self) -> str:
        return self._fault.name if self._fault is not None else "nothing failed when it was asked"

    async def _study(self) -> None:
        hospital = self._hospital
        study = await hospital.examine(self._chance.choice((hospital.main, hospital.main, hospital.second)), 20, 128)
        self._studies.append(study)
        self._record.sample("s, a study that is new", await hospital.open_study(study))
        self._record.done["studies opened"] += 1

    async def _capture(self) -> None:
        await self._hospital.upload(self._some_study())

    async def _report(self) -> None:
        await self._hospital.deliver(self._some_study(), critical=self._chance.random() < 0.1, tries=60)

    def _some_study(self) -> str:
        return self._chance.choice(self._studies or [self._warm])

    async def _bystander(self) -> None:
        while True:
            fault, began = self._fault, time.monotonic()
            # What healed a moment ago may still be on its way up.
            spared = fault.spares_studies if fault is not None else began - self._mended > 2 * SERVED_WITHIN
            try:
                await self._hospital.open_study(self._warm, images=1)
            except NotServed as e:
                took = time.monotonic() - began
                if spared and (fault is self._fault or self._fault is None):
                    self._record.bad.append(f"the cached study is not served while {self._during()}, {took:.1f} s: {e}")
                self._record.not_served[f"cached study: {fault.name if fault else 'nothing failed'}"] += 1
            else:
                self._record.sample("s, a study that is cached", time.monotonic() - began)
            await asyncio.sleep(0.5)

    # -- what is drawn

    @asynccontextmanager
    async def _sampling(self) -> AsyncIterator[None]:
        async def look() -> None:
            while True:
                self._look()
                await asyncio.sleep(LOOKS_EVERY)

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _look(self) -> None:
        gateway, record = self._hospital.gateway, self._record
        figures = gateway.figures()
        for name, value in figures.items():
            record.sample(name, value)
            if value > MOST[name]:
                record.bad.append(f"{value:.0f} {name} after {record.now:.0f} s; {MOST[name]:.0f} are allowed")
        store = gateway.store_process()
        if store is not None and (of_store := figures_of(store)):
            record.sample("MB of the store", of_store["MB"])
        with contextlib.suppress(Exception):  # the journal of a gateway that has just been killed
            waiting = [
                created
                for _, kind, state, _, created in gateway.jobs()
                if state in ("waiting", "running") and kind != "object.clean"
            ]
            record.sample("jobs under way", len(waiting))
            record.sample("s, the oldest job", max((time.time() - c for c in waiting), default=0.0))


def verdict(record: Record) -> dict[str, Any]:
    """The figures, for people and for ``docs/``."""

    def of(title: str) -> dict[str, float]:
        values = sorted(v for _, v in record.samples.get(title, [])) or [0.0]
        return {
            "median": round(statistics.median(values), 3), "95 %": round(values[int(len(values) * 0.95)], 3),
            "most": round(values[-1], 3),
        }  # fmt: skip

    return {
        "seconds": round(record.now),
        **record.done,
        "not served": dict(record.not_served),
        "faults": dict(Counter(name for _, _, name in record.faults)),
        **{title: of(title) for title in record.samples},
        "at rest": {name: [round(r.get(name, 0)) for r in record.at_rest] for name in MOST},
        "broken": record.bad,
    }


def write(record: Record, name: str) -> Path:
    """The drawing and the figures, into ``bench/out``; where the drawing is."""
    out = Path("bench/out")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(verdict(record), indent=2) + "\n")
    titles = {
        "resident: MB": ["MB", "MB of the store"],
        "descriptors and threads": ["descriptors", "threads"],
        "seconds until a study is answered": ["s, a study that is new", "s, a study that is cached"],
        "jobs under way": ["jobs under way"],
        "seconds, the oldest job": ["s, the oldest job"],
    }
    panels = [Panel(t, {n: record.samples[n] for n in names if n in record.samples}) for t, names in titles.items()]
    drawn = out / f"{name}.svg"
    drawn.write_text(courses(panels, record.faults))
    return drawn
