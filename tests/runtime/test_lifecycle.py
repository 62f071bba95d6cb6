"""Starting and stopping as a list: the order, what fails on the way, and bounds that hold whatever hangs."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from gateway.runtime.lifecycle import CUT_OFF, Part, longest_stop, loop, opened, running
from gateway.runtime.supervise import Supervisor


def part(name, said, *, starts=None, stops=None, within=1.0):
    async def start():
        said.append(f"start {name}")
        if starts is not None:
            await starts()

    async def stop():
        said.append(f"stop {name}")
        if stops is not None:
            await stops()

    return Part(name, start, stop, within)


async def fail():
    raise OSError("no")


async def hang():
    await asyncio.Event().wait()


async def hang_whatever_comes():
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)


async def test_what_starts_first_stops_last():
    said = []
    async with running([part("a", said), part("b", said)]):
        said.append("runs")
    assert said == ["start a", "start b", "runs", "stop b", "stop a"]


async def test_a_start_that_fails_stops_what_was_begun_and_starts_no_more():
    said = []
    with pytest.raises(OSError, match="no"):
        async with running([part("a", said), part("b", said, starts=fail), part("c", said)]):
            said.append("runs")
    assert said == ["start a", "start b", "stop b", "stop a"]


async def test_a_start_that_is_cancelled_stops_what_was_begun():
    said = []

    async def start():
        async with running([part("a", said), part("b", said, starts=hang)]):
            said.append("runs")

    task = asyncio.create_task(start())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["start a", "start b", "stop b", "stop a"]


@pytest.mark.parametrize("stops", [hang, hang_whatever_comes, fail])
async def test_a_part_that_does_not_stop_is_told_and_keeps_no_other_from_stopping(stops, caplog):
    said = []
    parts = [part("a", said), part("b", said, stops=stops, within=0.05), part("c", said)]
    async with asyncio.timeout(4):
        async with running(parts):
            pass
    await asyncio.sleep(0)
    assert said[-3:] == ["stop c", "stop b", "stop a"]
    assert "b did not stop" in caplog.text
    assert longest_stop(parts) == pytest.approx(2.05 + 3 * CUT_OFF)


async def test_loops_and_context_managers_are_parts():
    said = []

    @contextlib.asynccontextmanager
    async def opens():
        said.append("open")
        yield
        said.append("closed")

    async def run():
        said.append("runs")
        try:
            await hang()
        finally:
            said.append("ends")

    loops = Supervisor()
    async with running([Part("loops", loops.start, loops.stop), opened("a", opens()), loop(loops, "b", run)]):
        await asyncio.sleep(0.01)
        assert [state.name for state in loops.states()] == ["b"]
    assert said == ["open", "runs", "ends", "closed"]
