"""Turns: bounded in all and for each client; the slow give way, and the store's own stalls are held against nobody."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.web import turns as module
from gateway.web.turns import Busy, TooSlow, Turns


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "GIVES_WAY_AFTER", 0.05)


async def reads_nothing(turns, client, begun, outcome):
    try:
        async with turns.take(client) as turn:
            begun.set()
            with turn.client_moves(1000):
                await asyncio.sleep(60)
    except TooSlow:
        outcome.append("gave way")


@pytest.mark.slow
async def test_one_client_takes_its_share_and_no_more():
    turns = Turns(4, share=2, least_rate=1, grace=60)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(turns.take("192.0.2.1"))
        with pytest.raises(Busy):
            await stack.enter_async_context(turns.take("192.0.2.1"))
        for _ in range(2):
            await stack.enter_async_context(turns.take("192.0.2.2"))
        with pytest.raises(Busy):
            await stack.enter_async_context(turns.take("192.0.2.3"))
        assert len(turns) == 4
    assert len(turns) == 0
    async with turns.take("192.0.2.1"):
        pass


async def test_who_reads_nothing_gives_way_to_who_waits():
    turns = Turns(2, share=2, least_rate=1, grace=60)
    outcome: list[str] = []
    holders = []
    for client in ("192.0.2.1", "192.0.2.2"):
        begun = asyncio.Event()
        holders.append(asyncio.create_task(reads_nothing(turns, client, begun, outcome)))
        await begun.wait()
    async with turns.take("192.0.2.3"):
        assert outcome == ["gave way"]
    for holder in holders:
        holder.cancel()
    await asyncio.gather(*holders, return_exceptions=True)


@pytest.mark.slow
async def test_who_reads_quickly_keeps_its_turn():
    turns = Turns(1, share=1, least_rate=1, grace=60)
    async with turns.take("192.0.2.1") as turn:
        with turn.client_moves(50_000_000):
            await asyncio.sleep(0.1)
        with pytest.raises(Busy):
            async with turns.take("192.0.2.2"):
                pass


@pytest.mark.slow
async def test_a_store_that_stalls_costs_nobody_their_turn():
    turns = Turns(1, share=1, least_rate=1_000_000, grace=0.05)
    async with turns.take("192.0.2.1") as turn:
        await asyncio.sleep(0.2)  # nobody waits for the client here
        with pytest.raises(Busy):
            async with turns.take("192.0.2.2"):
                pass
        assert not turn.ended


async def test_who_is_below_the_least_rate_is_ended_though_nobody_waits():
    turns = Turns(9, share=9, least_rate=1_000_000, grace=0.05)
    with pytest.raises(TooSlow):  # noqa: PT012
        async with turns.take("192.0.2.1") as turn:
            while True:
                with turn.client_moves(10):
                    await asyncio.sleep(0.02)


async def test_who_left_is_not_waited_for():
    turns = Turns(9, share=9, least_rate=1, grace=60)
    with pytest.raises(TooSlow):
        async with turns.take("192.0.2.1", gone=lambda: True):
            await asyncio.sleep(60)


async def test_a_time_out_of_the_block_itself_is_not_taken_for_slowness():
    turns = Turns(9, share=9, least_rate=1, grace=60)
    with pytest.raises(TimeoutError):
        async with turns.take("192.0.2.1"), asyncio.timeout(0.01):
            await asyncio.sleep(60)


async def test_a_crowd_that_waits_gives_way_to_who_comes_later(monkeypatch):
    monkeypatch.setattr("gateway.web.turns.PATIENCE", 30.0)
    turns = Turns(4, share=4, least_rate=1, grace=60)
    ended, opened = [], asyncio.Event()

    async def hold(n):
        try:
            async with turns.take(f"10.0.{n}.1"):
                await opened.wait()
                ended.append(n)
        except Busy:
            ended.append(-n)

    tasks = [asyncio.create_task(hold(n)) for n in range(1, 9)]
    await asyncio.sleep(0.05)
    assert ended == [-5, -6], "two wait for four turns; who came before them was told"
    opened.set()
    await asyncio.gather(*tasks)
    assert sorted(ended) == [-6, -5, 1, 2, 3, 4, 7, 8]
