"""What a running gateway notes in the audit trail: accesses, URLs that were opened, deliveries, those turned away, and
what somebody did by a command; and that no patient is named in it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner
from lxml import etree

from gateway.app.state import kept_secret
from gateway.cli import main
from gateway.demo.sample import sample_capture, sample_study
from gateway.journal import Jobs
from gateway.pacs.errors import AssociationRejected
from gateway.pacs.peer import Peer
from gateway.pacs.scu.client import PacsClient
from gateway.studies.deferred import DeferredUrls
from tests.audit.receiver import Receiver
from tests.audit.test_messages import SCHEMA
from tests.studies.test_truth import changed
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
    assert access["outcome"] == f"authorized, an upload URL for {uploaded['key']}"
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


async def command(gateway, tmp_path, *arguments):
    path = tmp_path / f"gateway-{gateway.config.http.port}.yaml"
    done = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "-c", str(path)])
    assert done.exit_code in (0, 1), done.output


async def test_whoever_is_shown_or_takes_something_by_a_command_is_told(simulator, start, tmp_path):
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator)
    await gateway.ask(STUDY)
    await gateway.quiet()
    await gateway.parts.events.flush()
    job, _ = await Jobs(gateway.parts.journal).add("test", "a", Untyped())
    for arguments in (
        ("study", "show", STUDY),
        ("study", "show", STUDY, "--why"),
        ("jobs", "show", str(job.id)),
        ("jobs", "show", str(job.id), "--payload"),
        ("trace", "DEMO-001"),
        ("backup", str(tmp_path / "kept")),
    ):
        await command(gateway, tmp_path, *arguments)
    acts = await told(gateway, "operator", 6)
    assert [act["did"] for act in acts] == ["show study", "show access", "show job", "show payload", "trace", "backup"]
    assert all(act["by"] for act in acts)
    assert acts[0]["study"] == acts[1]["study"] == STUDY
    assert acts[2]["jobs"] == [job.id]
    assert (acts[4]["studies"], acts[4]["searched"]) == ([STUDY], gateway.parts.events.hidden("DEMO-001"))
    assert acts[5]["folder"] == str(tmp_path / "kept")


async def test_what_the_pacs_has_withdrawn_or_corrected_is_told_and_when_the_gateway_began(
    simulator, start, monkeypatch
):
    monkeypatch.setattr("gateway.studies.absence.ABSENT_FOR", 0.0)
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator, cache={"revalidate_after": "0s"})
    await gateway.ask(STUDY)
    gone = SAMPLE[1].sop_instance_uid
    simulator.remove(gone)
    await gateway.ask(STUDY)
    (withdrawn,) = await told(gateway, "instances_withdrawn")
    assert (withdrawn["study"], withdrawn["count"], withdrawn["instances"]) == (STUDY, 1, [gone])
    simulator.add(*(changed(i.content, PatientID="OTHER") for i in SAMPLE if i.sop_instance_uid != gone))
    await gateway.ask(STUDY)
    (corrected,) = await told(gateway, "study_corrected")
    assert (corrected["study"], corrected["attributes"]) == (STUDY, "patient ID")
    assert "OTHER" not in json.dumps(corrected)
    simulator.clear()
    await gateway.ask(STUDY)
    (dropped,) = await told(gateway, "study_dropped")
    assert (dropped["study"], "no PACS has it" in dropped["why"]) == (STUDY, True)
    (began,) = await told(gateway, "started")
    assert began["version"]


async def test_the_trail_reaches_an_audit_repository_and_check_and_health_tell_how_it_is(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    receiver = await Receiver().start()
    gateway = await start(
        simulator,
        audit={"syslog": {"host": "127.0.0.1", "port": receiver.port, "protocol": "tcp", "source_id": "gateway-1"}},
    )
    await gateway.ask(STUDY)
    async with asyncio.timeout(20):
        while not (exports := [one for one in receiver.got if b'"110106"' in one.body]):
            await asyncio.sleep(0.05)
    SCHEMA.assertValid(message := etree.fromstring(exports[0].body))
    assert message.find("ParticipantObjectIdentification").get("ParticipantObjectID") == STUDY
    assert any(b'"110120"' in one.body for one in receiver.got)  # it was started
    async with gateway.http.get(f"http://127.0.0.1:{gateway.config.http.port}/health") as answer:
        assert (await answer.json())["destinations"] == {"audit syslog": "ok"}
    port = receiver.port
    await receiver.stop()
    told_ = {result.name: result async for result in gateway.checked()}
    assert told_["audit syslog"].ok is False
    assert f"127.0.0.1:{port} cannot be reached" in told_["audit syslog"].text
