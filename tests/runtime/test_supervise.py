"""Supervised tasks: nothing that has to go on ends unseen, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.runtime.clock import SystemClock
from gateway.runtime.errors import GatewayError
from gateway.runtime.supervise import LONGEST_PAUSE, LoopEnded, Supervisor, progress


class QuickClock(SystemClock):
    """Notes each pause and makes it short; its time is set by hand."""

    def __init__(self):
        self.pauses = []
        self.ahead = 0.0

    def now(self):
        return 1_000_000.0 + self.ahead

    def monotonic(self):
        return self.ahead

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        await asyncio.sleep(0.001)


async def until(true, within=5.0):
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.002)


async def forever():
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "end",
    [RuntimeError("a bug"), GatewayError("no way to it"), asyncio.CancelledError(), MemoryError(), None],
    ids=lambda e: type(e).__name__,
)
async def test_a_loop_that_ends_is_started_again_however_it_ended(end):
    runs = 0

    async def loop():
        nonlocal runs
        runs += 1
        if runs == 1:
            if end is not None:
                raise end
            return
        await forever()

    async with Supervisor(first_pause=0.01) as loops:
        loops.add("a loop", loop)
        await until(lambda: runs == 2)
        assert loops.alive


async def test_a_loop_that_somebody_else_cancels_is_started_again():
    runs = 0

    async def loop():
        nonlocal runs
        runs += 1
        await forever()

    async with Supervisor(first_pause=0.01) as loops:
        loops.add("a loop", loop)
        for n in (1, 2, 3):
            await until(lambda n=n: runs == n)
            [task] = [t for t in asyncio.all_tasks() if t.get_name() == "a loop"]
            task.cancel()
        await until(lambda: runs == 4)


async def test_pauses_grow_are_spread_and_have_a_bound():
    clock = QuickClock()

    async def loop():
        raise RuntimeError

    async with Supervisor(clock=clock) as loops:
        loops.add("a loop", loop)
        await until(lambda: len(clock.pauses) >= 20)
    for n, pause in enumerate(clock.pauses):
        whole = min(2.0**n, LONGEST_PAUSE)
        assert whole / 2 <= pause <= whole
    assert len({pause / min(2.0**n, LONGEST_PAUSE) for n, pause in enumerate(clock.pauses)}) > 10


async def test_a_loop_that_ran_for_long_pauses_as_if_it_had_never_ended():
    clock = QuickClock()
    runs, goes_on, enough = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def loop():
        if len(clock.pauses) == 5:
            runs.set()
            await goes_on.wait()
        if len(clock.pauses) == 6:
            enough.set()
            await forever()
        raise RuntimeError

    async with Supervisor(clock=clock) as loops:
        loops.add("a loop", loop)
        await runs.wait()
        clock.ahead += LONGEST_PAUSE + 1
        goes_on.set()
        await enough.wait()
    assert clock.pauses[4] > 1.0
    assert clock.pauses[5] <= 1.0


async def test_a_loop_that_is_down_is_told_by_name_with_since_when_and_why():
    clock = QuickClock()
    fails = True

    async def loop():
        if fails:
            clock.ahead += 0.001
            raise GatewayError("host 10.1.2.3 is away")
        await forever()

    async with Supervisor(clock=clock) as loops:
        loops.add("well", forever)
        loops.add("ill", loop)
        await until(lambda: len(clock.pauses) >= 3)
        well, ill = loops.states()
        assert (well.name, well.running) == ("well", True)
        assert (ill.name, ill.running) == ("ill", False)
        assert ill.since == pytest.approx(1_000_000.0, abs=0.01)  # since its first end, not its last
        assert "times" in ill.reason
        assert "10.1.2.3" not in ill.reason  # for anybody
        assert "10.1.2.3" in ill.detail  # for the operator
        fails = False
        await asyncio.sleep(0.02)
        assert not loops.states()[1].running  # it may end at once again
        clock.ahead += LONGEST_PAUSE
        await until(lambda: loops.states()[1].running)


async def test_the_end_of_a_vital_loop_is_told_and_ends_the_others(caplog):
    ended = []

    async def loop():
        await asyncio.sleep(0.01)
        raise RuntimeError("a bug")

    async def other():
        try:
            await forever()
        finally:
            ended.append("other")

    loops = Supervisor()
    await loops.start()
    loops.add("other", other)
    loops.add("vital", loop, vital=True)
    with pytest.raises(LoopEnded, match="vital"):
        await asyncio.wait_for(loops.failed(), 5)
    assert ended == ["other"]
    assert not loops.alive
    assert "vital" in caplog.text
    await loops.stop()


async def test_who_waits_for_a_failure_is_let_go_by_an_orderly_stop():
    loops = Supervisor()
    await loops.start()
    loops.add("vital", forever, vital=True)
    waiting = asyncio.create_task(loops.failed())
    await asyncio.sleep(0.01)
    await loops.stop()
    await asyncio.wait_for(waiting, 5)


async def test_a_loop_that_runs_once_ends_well_and_is_tried_again_until_then():
    runs = []

    async def sweep():
        runs.append(1)
        if len(runs) < 3:
            raise GatewayError("the store is away")

    async with Supervisor(clock=QuickClock()) as loops:
        loops.add("sweep", sweep, once=True)
        await until(lambda: len(runs) == 3)
        await asyncio.sleep(0.02)
        assert len(runs) == 3
        assert loops.alive


async def test_a_loop_that_hangs_is_told_from_one_that_works():
    clock = QuickClock()

    async def works():
        while True:
            progress()
            await asyncio.sleep(0.001)

    async with Supervisor(clock=clock) as loops:
        loops.add("works", works, stalls_after=100)
        loops.add("hangs", forever, stalls_after=100)
        await asyncio.sleep(0.01)
        assert all(state.running for state in loops.states())
        clock.ahead += 130
        await asyncio.sleep(0.01)
        works_state, hangs = loops.states()
        assert works_state.running
        assert not hangs.running
        assert hangs.since == clock.now() - 130
        assert not loops.alive


async def test_removed_loops_end_and_are_not_started_again():
    runs = 0

    async def loop():
        nonlocal runs
        runs += 1
        with contextlib.suppress(ValueError):
            await forever()

    async with Supervisor(first_pause=0.01) as loops:
        loops.add("a loop", loop)
        await until(lambda: runs == 1)
        await loops.remove("a loop")
        await loops.remove("a loop")  # of no consequence
        await asyncio.sleep(0.05)
        assert runs == 1
        assert loops.states() == []


def test_a_program_that_ends_without_stopping_its_loops_ends_all_the_same():
    async def main():
        loops = Supervisor(first_pause=0.01)
        await loops.start()
        loops.add("a loop", forever)
        await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 5))
