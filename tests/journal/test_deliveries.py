"""Webhooks that were answered: what a restart remembers of them, for how long, and how much of it."""

from __future__ import annotations

import pytest

from gateway.journal import deliveries
from tests.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock(10_000.0)


async def keep(journal, signed):
    await journal.run(lambda c: deliveries.keep(c, signed, good_for=300))


async def kept(journal):
    return await journal.run(lambda c: deliveries.kept(c, good_for=300))


async def test_the_latest_signature_counts_and_only_while_it_is_good(journal, clock):
    await keep(journal, {"a": 10_000, "b": 9_990})
    await keep(journal, {"a": 9_000, "b": 10_001})
    assert await kept(journal) == {"a": 10_000, "b": 10_001}
    await clock.pass_time(300.5, step=100)
    assert await kept(journal) == {"b": 10_001}
    await keep(journal, {"c": 10_100})
    assert await journal.run(lambda c: deliveries.kept(c, good_for=1000)) == {"b": 10_001, "c": 10_100}  # a is gone


async def test_they_are_bounded_and_the_oldest_go(journal, monkeypatch):
    monkeypatch.setattr(deliveries, "MOST", 1000)
    await keep(journal, {str(n): 9_900 + n // 10 for n in range(1500)})
    found = await kept(journal)
    assert len(found) == 1000
    assert min(found.values()) == 9_950
