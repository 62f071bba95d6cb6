"""Studies that are made as a test needs them: of today, of a patient, of a station."""

from __future__ import annotations

import asyncio
import datetime
import zoneinfo
from io import BytesIO

import pytest
from pydicom import dcmread

from gateway.demo.sample import synthetic_ct
from gateway.journal import prefetches
from gateway.prefetch import polling, prefetcher, work

_AHEAD = 13 - datetime.datetime.now(datetime.UTC).hour
ZONE = zoneinfo.ZoneInfo(f"Etc/GMT{-_AHEAD:+d}")  # whose sign is the other way round
"""Where it is early afternoon while these tests run: a PACS is asked day by day, and the hours before midnight and
after it are the pure tests' business."""

ON = {"enabled": True, "poll_every": "5s", "priors": 0, "time_zone": ZONE.key}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """New studies are not left to settle, and what failed is tried again soon."""
    monkeypatch.setattr(polling, "SETTLES_IN", 0.0)
    monkeypatch.setattr(work, "PAUSES", (0.3, 0.3, 0.3))
    monkeypatch.setattr(prefetcher, "PUSHED_AGAIN_IN", 0.3)
    monkeypatch.setattr(prefetcher, "LOOKS_EVERY", 0.1)


def on_the_wall():
    """The time as the PACS of these tests writes it."""
    return datetime.datetime.now(ZONE).replace(tzinfo=None)


def made(uid, count=3, *, ago=600.0, rows=16, **attributes):
    """Part 10 files of a study that was taken so many seconds *ago*."""
    when = on_the_wall() - datetime.timedelta(seconds=ago)
    files = []
    for instance in synthetic_ct(uid, count, rows, rows):
        d = dcmread(BytesIO(instance.content))
        d.StudyDate, d.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
        for keyword, value in attributes.items():
            setattr(d, keyword, value)
        buffer = BytesIO()
        d.save_as(buffer)
        files.append(buffer.getvalue())
    return files


async def until(condition, within=20.0):
    """Returns once *condition* holds; what it returned."""
    async with asyncio.timeout(within):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
        return found


async def row(gateway, uid):
    return await gateway.parts.journal.run(lambda c: prefetches.get(c, uid))


async def stands(gateway, uid, state, within=20.0):
    """The row of a study once it stands there."""

    async def there():
        found = await row(gateway, uid)
        return found if found is not None and found.state.value == state else None

    return await until(there, within)


def moves(simulator):
    return [asked for asked in simulator.requests if asked.startswith("MOVE")]
