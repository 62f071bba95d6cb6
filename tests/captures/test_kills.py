"""kill -9 at every step between the upload and the record of its storing: it is in the PACS, once."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys

import aiohttp
import pytest

from gateway.avara.signature import sign
from gateway.demo.sample import sample_capture
from gateway.journal import Jobs, Journal
from gateway.objects.embedded import free_port
from tests.conftest import KEY, describe

from .conftest import STUDY

DIES_AT = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway import app
from gateway.admin.logs import set_up_logging
from gateway.captures.check import UploadChecker
from gateway.captures.inbox import Inbox
from gateway.config import load
from gateway.outbox.clean import Cleaner
from gateway.outbox.outbox import Outbox

place, method = sys.argv[2].split(".")
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(globals()[place], method, die)
set_up_logging("info", "text")
asyncio.run(app.serve(load(Path(sys.argv[1]), {})))
"""

STEPS = {
    "uploaded, not noticed": "Inbox._note",
    "noticed, not checked": "UploadChecker.__call__",
    "checked, not accepted": "UploadChecker._accept",
    "accepted, still in the inbox": "UploadChecker._forget",
    "about to be stored": "Outbox._store",
    "stored, nobody told": "Outbox._tell",
    "stored, not recorded": "Outbox._done",
    "recorded, not removed": "Cleaner.__call__",
}


@pytest.fixture
async def run(pacs, weed, tmp_path):
    port, dicom_port = free_port(), free_port()
    pacs.destinations["AVARAGW"] = ("127.0.0.1", dicom_port)
    document = {
        "http": {"port": port}, "avara": {"webhook_keys": [KEY]},
        "dicom": {"host": "127.0.0.1", "port": dicom_port}, "pacs": [describe(pacs)],
        "captures": {"keep_after_stored": "100ms"},
        "store": {
            "endpoint": weed.endpoint, "access_key": weed.credentials.access_key,
            "secret_key": weed.credentials.secret_key, "secure": False, "bucket": f"kills-{secrets.token_hex(4)}",
        },
        "state_dir": str(tmp_path / "state"),
    }  # fmt: skip
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps(document))
    processes = []

    async def begin(*arguments):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        processes.append(process)
        async with asyncio.timeout(30):
            async for line in process.stderr:
                if b"serving:" in line:
                    return process
        raise AssertionError("the gateway did not start")

    yield begin, path, document
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def upload(document, content):
    body = json.dumps(
        {
            "id": "whe_1",
            "type": "secondary_capture.access_requested",
            "data": {"studyId": "stu_1", "studyInstanceUid": STUDY},
        }
    ).encode()
    url = f"http://127.0.0.1:{document['http']['port']}/webhooks/avara"
    async with aiohttp.ClientSession() as http:
        async with http.post(url, data=body, headers=sign(KEY, "msg_1", body)) as answer:
            (upload_url,) = (await answer.json())["uploadUrls"]
        async with http.put(upload_url, data=content) as put:
            assert put.status == 200


@pytest.mark.parametrize("step", STEPS, ids=list(STEPS))
async def test_a_kill_at_any_step_loses_nothing_and_stores_once(pacs, weed, run, step):
    begin, path, document = run
    capture = sample_capture(STUDY)
    dying = await begin("-c", DIES_AT, str(path), STEPS[step])
    await upload(document, capture.content)
    assert await asyncio.wait_for(dying.wait(), 30) == -signal.SIGKILL
    again = await begin("-m", "gateway", "serve", "-c", str(path))
    journal = await Journal.open(f"sqlite:///{document['state_dir']}/journal.db")
    try:
        async with asyncio.timeout(30):
            while True:
                states = {j.kind: j.state.value for j in await Jobs(journal).list()}
                if states == dict.fromkeys(("capture.check", "capture.store", "object.clean"), "done"):
                    break
                await asyncio.sleep(0.1)
            async with weed.store(document["store"]["bucket"]) as store:
                while [o for prefix in ("inbox/", "outbox/", "quarantine/") async for o in store.list(prefix)]:
                    await asyncio.sleep(0.1)
    finally:
        await journal.close()
    again.terminate()
    assert await asyncio.wait_for(again.wait(), 15) == 0
    sent = [uid for uid, _ in pacs.storage.received]
    assert set(sent) == {capture.sop_instance_uid}
    assert len(sent) <= 2
    assert capture.sop_instance_uid in pacs.instances(STUDY)
