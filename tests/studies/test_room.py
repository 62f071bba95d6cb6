"""The bound on instances that are acknowledged and not yet stored: how its bytes are taken and given back."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.studies.room import Room


@given(st.lists(st.tuples(st.integers(0, 150), st.sampled_from("abc"), st.booleans()), max_size=30))
async def test_never_more_is_taken_than_there_is_and_nobody_waits_for_ever(wanted):
    room, held, worst = Room(100, for_one=80), [], 0

    async def work(size, owner):
        nonlocal worst
        await room.take(size, owner)
        held.append(size)
        holders = [n for n in held if n]
        worst = max(worst, sum(holders) if len(holders) > 1 else 0)  # one alone may be larger than the room
        try:
            await asyncio.sleep(0)
        finally:
            held.remove(size)
            room.give_back(size, owner)

    tasks = [asyncio.create_task(work(size, owner)) for size, owner, _ in wanted]
    await asyncio.sleep(0)
    for task, (_, _, given_up) in zip(tasks, wanted, strict=True):
        if given_up:
            task.cancel()
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*(t for t, (_, _, given_up) in zip(tasks, wanted, strict=True) if not given_up))
    assert worst <= 100


async def served(room, *wanted):
    """In which order claims of (owner, size) are served, once what holds them up is given back."""
    order = []

    async def work(owner, size):
        await room.take(size, owner)
        order.append((owner, size))

    await room.take(100, "x")
    waiting = [asyncio.create_task(work(*one)) for one in wanted]
    await asyncio.sleep(0)
    assert order == []
    room.give_back(100, "x")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while len(order) < len(wanted):
            owner, size = order[-1]
            room.give_back(size, owner)
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    return order


async def test_of_one_study_who_came_first_is_served_first():
    """The small one would fit beside what is taken, and does not overtake."""
    room, order = Room(100, for_one=100), []

    async def work(name, size):
        await room.take(size, "a")
        order.append(name)

    await room.take(90, "a")
    waiting = [asyncio.create_task(work("large", 50)), asyncio.create_task(work("small", 5))]
    await asyncio.sleep(0)
    assert order == []
    room.give_back(90, "a")
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]


async def test_a_study_that_holds_less_is_served_before_all_that_a_large_one_has_waiting():
    large = [("large", 60)] * 20
    order = await served(Room(100, for_one=100), *large, ("small", 60))
    assert order.index(("small", 60)) <= 1


async def test_one_study_never_takes_so_much_that_the_next_one_has_to_wait():
    room = Room(100, for_one=75)
    for _ in range(7):
        await room.take(10, "large")
    more = asyncio.create_task(room.take(10, "large"))
    await asyncio.sleep(0)
    assert not more.done()
    async with asyncio.timeout(1):
        await room.take(10, "small")
    room.give_back(10, "large")
    async with asyncio.timeout(1):
        await more
