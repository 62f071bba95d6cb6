"""The bound on instances that are acknowledged and not yet stored: how its bytes are taken and given back."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.studies.intake import _Room


@given(st.lists(st.tuples(st.integers(0, 150), st.booleans()), max_size=30))
async def test_never_more_is_taken_than_there_is_and_nobody_waits_for_ever(wanted):
    room, held, worst = _Room(100), [], 0

    async def work(size):
        nonlocal worst
        await room.take(size)
        held.append(size)
        holders = [n for n in held if n]
        worst = max(worst, sum(holders) if len(holders) > 1 else 0)  # one alone may be larger than the room
        try:
            await asyncio.sleep(0)
        finally:
            held.remove(size)
            room.give_back(size)

    tasks = [asyncio.create_task(work(size)) for size, _ in wanted]
    await asyncio.sleep(0)
    for task, (_, given_up) in zip(tasks, wanted, strict=True):
        if given_up:
            task.cancel()
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*(t for t, (_, given_up) in zip(tasks, wanted, strict=True) if not given_up))
    assert worst <= 100


async def test_who_came_first_is_served_first():
    room, order = _Room(100), []

    async def work(name, size):
        await room.take(size)
        order.append(name)

    await room.take(90)
    waiting = [asyncio.create_task(work("large", 50)), asyncio.create_task(work("small", 5))]
    await asyncio.sleep(0)
    assert order == []  # the small one would fit, and does not overtake
    room.give_back(90)
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]
