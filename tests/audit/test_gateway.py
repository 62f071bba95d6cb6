"""What a running gateway notes in the audit trail: accesses, URLs that were opened, deliveries, those turned away, and
what somebody did by a command; and that no patient is named in it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from gateway.app.stores import kept_secret
from gateway.cli import main
from gateway.demo.sample import sample_capture, sample_study
from gateway.journal import Jobs
from gateway.pacs.errors import AssociationRejected
from gateway.pacs.peer import Peer
from gateway.pacs.scu.client import PacsClient
from gateway.studies.deferred import DeferredUrls
from tests.untyped import Untyped

STUDY, SAMPLE = sample_study()


def trail_of(gateway):
    folder = gateway.config.state_dir / "audit"
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("audit-*.jsonl"))).decode()
    assert "DEMO-001" not in text
    assert "Müller" not in text
    return [json.loads(line) for line in text.splitlines()]


async def told(gateway, what, count=1):
    async with asyncio.timeout(20):
        while True:
            await gateway.parts.trail.flush()
            if len(found := [entry for entry in trail_of(gateway) if entry["what"] == what]) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_who_was_given_which_study_and_who_opened_what_of_it(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator, store={})  # the embedded store, whose URLs the gateway serves itself
    event = {"id": "whe_1", "type": "study.access_requested", "data": {"studyId": "stu_1", "studyInstanceUid": STUDY}}
    _, answer = await gateway.post(event, webhook_id="msg_1")
    (access,) = await told(gateway, "study_access")
    assert (access["study"], access["avara_study"], access["webhook"]) == (STUDY, "stu_1", "msg_1")
    assert (access["status"], access["remote"]) == (200, "127.0.0.1")
    uid = SAMPLE[0].sop_instance_uid
    secret = kept_secret(gateway.config.state_dir / "deferred.key")
    deferred = DeferredUrls(secret, gateway.config.gateway_url).urls(STUDY, [uid], expires_in=60)
    sizes = [len(await gateway.open(url)) for url in [*answer["urls"][:3], *deferred]]
    opened = await told(gateway, "opened", 4)
    assert [entry["bytes"] for entry in opened] == sizes
    assert all(entry["status"] == 200 and STUDY in entry["key"] and entry["remote"] for entry in opened)
    assert uid in opened[-1]["key"]
    for url in (answer["urls"][0], deferred[0]):
        async with gateway.http.get(url.replace("ignature=", "ignature=0")) as got:
            assert got.status == 403
    assert (await told(gateway, "url_refused"))[0]["remote"] == "127.0.0.1"


async def test_an_upload_and_what_became_of_it_are_told(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator, store={})
    data = {"studyId": "stu_1", "studyInstanceUid": STUDY}
    event = {"id": "whe_2", "type": "secondary_capture.access_requested", "data": data}
    _, answer = await gateway.post(event)
    capture = sample_capture(STUDY)
    async with gateway.http.put(answer["uploadUrls"][0], data=capture.content) as put:
        assert put.status == 200
    (access,), (uploaded,) = await told(gateway, "upload_access"), await told(gateway, "uploaded")
    assert (access["study"], access["status"]) == (STUDY, 200)
    assert (uploaded["bytes"], uploaded["status"]) == (len(capture.content), 200)
    async with asyncio.timeout(30):
        while not [e for e in await told(gateway, "job") if e["kind"] == "capture.store"]:
            await asyncio.sleep(0.1)
    (stored,) = [e for e in await told(gateway, "job") if e["kind"] == "capture.store"]
    assert (stored["outcome"], stored["study"], stored["to"]) == ("done", STUDY, simulator.ae_title.lower())
    assert stored["sop_instance"] == capture.sop_instance_uid


async def test_a_rejected_association_and_a_refused_webhook_are_told(simulator, start):
    gateway = await start(simulator)
    stranger = Peer("us", "AVARAGW", "127.0.0.1", gateway.parts.scp.port, "STRANGER\x1b")
    with pytest.raises(AssociationRejected):
        await PacsClient(stranger, advertised="").echo()
    (rejected,) = await told(gateway, "association_rejected")
    assert (rejected["remote"], rejected["called"]) == ("127.0.0.1", "AVARAGW")
    assert rejected["calling"].startswith("STRANGER")
    assert "calling AE" in rejected["why"]


async def test_what_somebody_does_by_a_command_has_their_name(simulator, start, tmp_path):
    gateway = await start(simulator)
    job, _ = await Jobs(gateway.parts.journal).add("test", "a", Untyped())
    path = tmp_path / f"gateway-{gateway.config.http.port}.yaml"
    done = await asyncio.to_thread(
        CliRunner().invoke, main, ["jobs", "discard", "-c", str(path), str(job.id), "--why", "a test"]
    )
    assert done.exit_code == 0, done.output
    (entry,) = await told(gateway, "operator")
    assert (entry["did"], entry["jobs"], entry["why"]) == ("discard", [job.id], "a test")
    assert entry["by"]
    checked = await asyncio.to_thread(CliRunner().invoke, main, ["audit", "verify", "-c", str(path)])
    assert checked.exit_code == 0, checked.output
    assert "whole" in checked.output
