"""kill -9 at every step between the upload and the record of its storing: it is in the PACS, once."""

from __future__ import annotations

import asyncio
import signal

import pytest

from gateway.demo.sample import sample_capture
from tests.kills import Mortal, ends_well

from .conftest import STUDY

pytestmark = pytest.mark.slow

STEPS = {
    "uploaded, not noticed": "gateway.captures.inbox:Inbox._note",
    "noticed, not checked": "gateway.captures.check:UploadChecker.__call__",
    "checked, not accepted": "gateway.captures.check:UploadChecker._accept",
    "accepted, still in the inbox": "gateway.captures.check:UploadChecker._forget",
    "about to be stored": "gateway.outbox.outbox:Outbox._store",
    "stored, nobody told": "gateway.outbox.outbox:Outbox._tell",
    "stored, not recorded": "gateway.outbox.outbox:Outbox._done",
    "recorded, not removed": "gateway.outbox.clean:Cleaner.__call__",
}


@pytest.mark.parametrize("step", STEPS, ids=list(STEPS))
async def test_a_kill_at_any_step_loses_nothing_and_stores_once(pacs, weed, tmp_path, step):
    capture = sample_capture(STUDY)
    async with Mortal(pacs, weed, tmp_path, captures={"keep_after_stored": "100ms"}) as gateway:
        dying = await gateway.start(STEPS[step])
        asked = {"studyId": "stu_1", "studyInstanceUid": STUDY}
        (url,) = (await gateway.post("secondary_capture.access_requested", asked))["uploadUrls"]
        async with gateway.http.put(url, data=capture.content) as put:
            assert put.status == 200
        assert await asyncio.wait_for(dying.wait(), 30) == -signal.SIGKILL
        again = await gateway.start()
        await gateway.over(("capture.check", "capture.store", "object.clean"), ("inbox/", "outbox/", "quarantine/"))
        assert await ends_well(again)
    sent = [uid for uid, _ in pacs.storage.received]
    assert set(sent) == {capture.sop_instance_uid}
    assert len(sent) <= 2
    assert capture.sop_instance_uid in pacs.instances(STUDY)
