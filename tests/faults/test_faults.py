"""One fault at a time under mixed work: all promises hold afterwards, and a cached study opens meanwhile. These are the
most telling ones; ``make soak`` runs all of them, again and again."""

from __future__ import annotations

import asyncio

import pytest

from .faults import fault, mixed_work, watched
from .promises import broken

pytestmark = [pytest.mark.server, pytest.mark.slow]

SHORT = [
    "the PACS is silent",
    "what the PACS sends is cut off",
    "the RIS takes a message and its answer is lost",
    "the store hangs",
    "the gateway is killed",
    "the descriptors run out",
]
LASTS = 2.5
"""Seconds."""


@pytest.mark.parametrize("name", SHORT)
async def test_nothing_is_lost_or_doubled_or_left_and_others_are_served(hospital, name, record_property):
    fails = fault(name)
    warm = await hospital.examine(hospital.second)
    await hospital.open_study(warm)
    study = await hospital.examine(hospital.main)
    async with watched(hospital, warm) as bystander:
        async with fails.during(hospital):
            work = asyncio.create_task(mixed_work(hospital, study))
            await asyncio.sleep(LASTS)
        during, bystander.not_served = bystander.not_served, []
        await work
    record_property("a cached study meanwhile", bystander.told)
    if fails.spares_studies:
        assert during == []
    assert await broken(hospital) == []
    await hospital.open_study(study)
