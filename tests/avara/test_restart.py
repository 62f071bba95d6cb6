"""A gateway is killed and started again: a webhook that somebody captured gets nothing new from it, and what the one
before did not answer is served. What is remembered within one process is in test_remember.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from pydicom.uid import generate_uid

from gateway.app.deliveries import WRITES_EVERY
from gateway.avara.signature import sign
from gateway.demo.sample import sample_study, synthetic_ct
from tests.conftest import KEY
from tests.kills import Mortal

pytestmark = pytest.mark.slow

STUDY, SAMPLE = sample_study()
OTHER = generate_uid(None)


def event(study):
    data = {"studyId": f"stu_{study[-4:]}", "studyInstanceUid": study}
    return json.dumps({"id": "whe_1", "type": "study.access_requested", "data": data}).encode()


def kept(gateway):
    """How many deliveries its journal knows."""
    with contextlib.closing(sqlite3.connect(f"file:{gateway.state_dir}/journal.db?mode=ro", uri=True)) as journal:
        return journal.execute("SELECT count(*) FROM deliveries").fetchone()[0]


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.05)


async def test_after_a_kill_a_captured_webhook_gets_nothing_and_what_was_not_answered_is_served(
    simulator, weed, tmp_path
):
    simulator.add(*(i.content for i in (*SAMPLE, *synthetic_ct(OTHER, 3, 16, 16))))
    answered, unanswered = event(STUDY), event(OTHER)
    captured, lost = sign(KEY, "msg_1", answered), sign(KEY, "msg_2", unanswered)
    whole = {"webhook_keys": [KEY], "answer": "complete"}
    async with Mortal(simulator, weed, tmp_path, avara=whole) as gateway:

        async def post(body, headers):
            url = f"http://127.0.0.1:{gateway.port}/webhooks/avara"
            async with gateway.http.post(url, data=body, headers=headers) as answer:
                return answer.status, len((await answer.json()).get("urls", ()))

        process = await gateway.start()
        assert await post(answered, captured) == (200, len(SAMPLE))
        await until(lambda: kept(gateway))
        simulator.behaviour.silent = True
        asked = len(simulator.requests)
        waiting = asyncio.create_task(post(unanswered, lost))
        await until(lambda: len(simulator.requests) > asked)
        await asyncio.sleep(2 * WRITES_EVERY)  # so that it would be kept, were it taken for answered
        process.kill()
        await process.wait()
        with pytest.raises(aiohttp.ClientError):
            await waiting
        assert kept(gateway) == 1
        simulator.behaviour.silent = False

        await gateway.start()
        assert await post(answered, captured) == (409, 0)
        later = sign(KEY, "msg_1", answered, at=datetime.now(UTC) + timedelta(seconds=2))
        assert await post(answered, later) == (200, len(SAMPLE))
        assert await post(unanswered, lost) == (200, 3)
