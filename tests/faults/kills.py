"""kill -9 of the gateway, of its store's process, and of both, at random moments under mixed work."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from .hospital import Hospital, NotServed
from .process import send
from .promises import broken

VICTIMS = ("gateway", "gateway", "store", "both")
MIXED = 1.5
"""Seconds from the first request of a round within which somebody dies."""


@dataclass
class Tally:
    """What the rounds were."""

    rounds: Counter[str] = field(default_factory=Counter)
    """Victim → how often."""
    captures: int = 0
    """Acknowledged."""
    reports: int = 0
    """Acknowledged."""
    studies: int = 0
    """Opened, or asked for in vain."""
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


async def kill_rounds(
    hospital: Hospital, rounds: int, *, look_every: int = 10, seed: int | None = None, tally: Tally | None = None
) -> Tally:
    """So many rounds; every *look_every* of them, and at the end, everything is looked at. The gateway is running."""
    chance, tally, began = random.Random(seed), tally or Tally(), time.monotonic()
    for number in range(1, rounds + 1):
        victim = chance.choice(VICTIMS)
        await _round(hospital, victim, chance.uniform(0, MIXED))
        tally.rounds[victim] += 1
        if number % look_every == 0 or number == rounds:
            tally.broken += await broken(hospital)
            known = hospital.known
            tally.captures += sum(c.acknowledged for c in known.captures)
            tally.reports += sum(r.acknowledged for r in known.reports)
            tally.studies += len(known.studies)
            tally.seconds = time.monotonic() - began
            if tally.broken:
                break
            known.forget()
            await hospital.main.clear()
            await hospital.second.clear()
    return tally


async def _round(hospital: Hospital, victim: str, moment: float) -> None:
    gateway = hospital.gateway
    study = await hospital.examine(hospital.main)
    # A capture needs its study in every target that checks it.
    work = [
        asyncio.create_task(_attempted(hospital.open_study(study))),
        asyncio.create_task(_attempted(hospital.upload(study))),
        asyncio.create_task(_attempted(hospital.upload(study))),
        asyncio.create_task(_attempted(hospital.deliver(study, critical=True, tries=30))),
        asyncio.create_task(_attempted(hospital.deliver(study, tries=30))),
    ]
    await asyncio.sleep(moment)
    store = gateway.store_process()
    if victim in ("gateway", "both"):
        send(gateway.pid, signal.SIGKILL)
    if victim in ("store", "both") and store is not None:
        send(store, signal.SIGKILL)
    if victim != "store":
        await gateway.kill()
        await gateway.start()
    await asyncio.gather(*work)


async def _attempted(asked) -> None:
    with contextlib.suppress(NotServed):
        await asked
