"""``/healthz`` and ``/readyz``: what restarts a process is told of hangs only; a monitor is told of each part, since
when and why, and whoever asks of no host. Not here: what is wrong with ``state_dir`` (test_state_dir.py)."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from types import SimpleNamespace

import pytest

from gateway.admin.health import Health, Unhealthy
from gateway.pacs.breaker import AFTER, Breaker
from gateway.pacs.errors import PacsUnreachable
from gateway.pacs.lanes import ECHO
from gateway.runtime.supervise import Supervisor
from tests.clock import ManualClock, settle


@pytest.fixture
def clock():
    return ManualClock()


async def asked(handler):
    answer = await handler(SimpleNamespace())
    return answer.status, json.loads(answer.text)


async def test_each_part_that_fails_is_told_with_since_when_and_why(monkeypatch, clock):
    monkeypatch.setattr("gateway.admin.health.FRESH", 0.0)

    async def store():
        raise OSError("10.1.2.3 refuses")

    async def disk():
        raise Unhealthy("its disk is full")

    async def journal():
        pass

    async with Supervisor(clock=clock) as loops:
        loops.add("inbox", asyncio.Event().wait)
        health = Health(
            {"store": store, "disk": disk, "journal": journal}, loops, lambda: {"main": 60.0, "other": None}
        )
        _, first = await asked(health.ready)
        status, said = await asked(health.ready)
    assert (status, said["status"]) == (503, "failing")
    assert said["parts"]["journal"] == {"status": "ok"}
    assert said["parts"]["store"].keys() == {"status", "since"}
    assert said["parts"]["disk"]["reason"] == "its disk is full"
    assert said["parts"]["disk"]["since"] == first["parts"]["disk"]["since"]
    assert said["pacs"] == {
        "main": {"status": "not answering", "since": "1970-01-01T00:01:00+00:00"}, "other": {"status": "ok"},
    }  # fmt: skip
    assert said["loops"] == {"inbox": {"status": "ok"}}
    assert "10.1.2.3" not in json.dumps(said)


async def test_a_part_that_works_again_is_ok_and_fails_anew_since_then(monkeypatch, clock):
    monkeypatch.setattr("gateway.admin.health.FRESH", 0.0)
    monkeypatch.setattr("gateway.admin.health.time.time", clock.now)
    results = iter([OSError(), None, OSError()])

    async def store():
        if (error := next(results)) is not None:
            raise error

    async with Supervisor(clock=clock) as loops:
        health = Health({"store": store}, loops)
        since = []
        for _ in range(3):
            clock.jump(100)
            _, said = await asked(health.ready)
            since.append(said["parts"]["store"].get("since"))
    assert since[1] is None
    first, last = (datetime.fromisoformat(one).timestamp() for one in (since[0], since[2]))
    assert last - first == 200


async def test_what_restarts_a_process_is_told_of_what_hangs_and_of_nothing_that_is_elsewhere(clock):
    async def store():
        raise OSError

    async def hangs():
        await asyncio.Event().wait()

    async with Supervisor(clock=clock) as loops:
        health = Health({"store": store}, loops, lambda: {"main": 60.0})
        loops.add("inbox", hangs, stalls_after=60)
        await settle()
        assert (await asked(health.live))[0] == 200
        await clock.pass_time(61, step=61)
        assert (await asked(health.live))[0] == 503


async def test_since_when_a_pacs_is_silent_is_known(clock):
    breaker = Breaker("PACS", clock)
    for _ in range(AFTER):
        assert breaker.silent_for == 0
        with pytest.raises(PacsUnreachable), breaker.attempt(ECHO):
            raise PacsUnreachable("no")
        await clock.pass_time(10, step=10)
    assert breaker.silent_for == 10 * AFTER


async def test_both_are_served(simulator, start):
    gateway = await start(simulator)
    for path in ("healthz", "readyz", "health"):
        async with gateway.http.get(f"{gateway.url.rsplit('/', 2)[0]}/{path}") as answer:
            assert answer.status == 200, await answer.text()
            assert (await answer.json())["status"] == "ok"
