"""One search that answers "why": by whatever somebody has in hand, over all that happened."""

from __future__ import annotations

import asyncio
import io
import json
import secrets

import pytest
from click.testing import CliRunner
from pydicom import dcmread

from gateway.admin.trace import trace
from gateway.app.kinds import about
from gateway.app.state import kept_secret
from gateway.cli import main
from gateway.demo.sample import sample_capture, sample_study
from gateway.journal import Jobs, Journal, events
from gateway.journal.events import EventKind, EventLog
from tests.conftest import ended
from tests.rig.journal import with_journal

STUDY, SAMPLE = sample_study()


async def asked(gateway, event_type="study.access_requested", *, webhook_id, event_id, study=STUDY, study_id="stu_77"):
    return await gateway.post(
        {"id": event_id, "type": event_type, "data": {"studyId": study_id, "studyInstanceUid": study}},
        webhook_id=webhook_id,
    )


@pytest.fixture
async def gateway(simulator, start):
    simulator.add(*(i.content for i in SAMPLE))
    return await start(simulator, avara={"answer_within": "60s"})  # the whole answer, on a busy machine, too


async def look(gateway, what):
    await gateway.parts.events.flush()
    return await trace(gateway.parts.journal, what, hidden=gateway.parts.events.hidden, about=about)


async def test_every_id_leads_to_the_whole_time_line(gateway):
    await asked(gateway, webhook_id="msg_a", event_id="whe_a")
    await gateway.quiet()
    lines = None
    for what in ("stu_77", STUDY, "msg_a", "whe_a", "DEMO-1"):
        found = await look(gateway, what)
        assert [s.study_instance_uid for s in found.studies] == [STUDY], what
        told = [(e.source, e.text) for e in found.entries]
        lines = lines or told
        assert told == lines
    assert [source for source, _ in lines] in (["webhook", "fetch"], ["fetch", "webhook"])
    texts = dict(lines)
    assert f"authorized, {len(SAMPLE)} URLs, 0 of them deferred" in texts["webhook"]
    assert f"complete: {len(SAMPLE)} instances from PACS simulator" in texts["fetch"]
    assert found.studies[0].avara_ids == ("stu_77",)
    assert found.studies[0].cached.startswith(f"{len(SAMPLE)} instances, ")


async def test_a_failure_is_told_with_its_reason(gateway, simulator):
    lost = SAMPLE[3].sop_instance_uid
    simulator.behaviour.drop = {lost}
    await asked(gateway, webhook_id="msg_b", event_id="whe_b")
    await gateway.quiet()
    found = await look(gateway, STUDY)
    [fetch] = [e for e in found.entries if e.source == "fetch"]
    assert fetch.trouble
    assert f"1 missing ({lost})" in fetch.text
    [webhook] = [e for e in found.entries if e.source == "webhook"]
    assert webhook.trouble


async def test_a_study_in_no_pacs_says_so(gateway):
    await asked(gateway, webhook_id="msg_c", event_id="whe_c", study="1.2.3.4.5")
    found = await look(gateway, "1.2.3.4.5")
    assert any("in no PACS" in e.text for e in found.entries)
    assert any("not authorized" in e.text for e in found.entries)


async def test_a_refused_webhook_is_found_by_its_id(gateway):
    async with gateway.http.post(
        gateway.url,
        data=b"{}",
        headers={"webhook-id": "msg_bad", "webhook-timestamp": "1", "webhook-signature": "v1,x"},
    ) as answer:
        assert answer.status == 401
    [entry] = (await look(gateway, "msg_bad")).entries
    assert entry.source == "refused"
    assert entry.trouble


async def test_a_held_capture_is_in_its_studys_time_line_and_says_that_it_waits(gateway):
    _, answer = await asked(gateway, "secondary_capture.access_requested", webhook_id="msg_d", event_id="whe_d")
    capture = sample_capture(STUDY, PatientID="SOMEBODY ELSE")
    async with gateway.http.put(answer["uploadUrls"][0], data=capture.content) as put:
        assert put.status == 200
    [job] = await ended(Jobs(gateway.parts.journal), "capture.check", "quarantined")
    found = await look(gateway, "stu_77")
    assert [w.job for w in found.waiting] == [job.id]
    assert "Patient ID" in found.waiting[0].reason
    assert any(e.source == f"job {job.id} (capture.check)" and e.trouble for e in found.entries)
    by_number = await look(gateway, str(job.id))
    assert [s.study_instance_uid for s in by_number.studies] == [STUDY]


async def test_what_names_a_patient_is_kept_as_a_hash_only(gateway, tmp_path):
    await asked(gateway, webhook_id="msg_e", event_id="whe_e")
    await gateway.quiet()
    await gateway.parts.events.flush()
    kept = b"".join(p.read_bytes() for p in gateway.config.state_dir.glob("journal.db*"))
    assert STUDY.encode() in kept
    assert b"DEMO-1" not in kept


async def test_a_series_and_an_instance_that_did_not_come_lead_to_the_study(gateway, simulator):
    lost = SAMPLE[3]
    simulator.behaviour.drop = {lost.sop_instance_uid}
    await asked(gateway, webhook_id="msg_p", event_id="whe_p")
    await gateway.quiet()
    for what in (lost.sop_instance_uid, dcmread(io.BytesIO(lost.content)).SeriesInstanceUID):
        found = await look(gateway, what)
        assert [s.study_instance_uid for s in found.studies] == [STUDY], what
        assert any("1 missing" in e.text for e in found.entries)


async def test_an_answer_out_of_the_cache_is_in_its_studys_time_line(gateway):
    await asked(gateway, webhook_id="msg_1", event_id="whe_1")
    await gateway.quiet()
    await asked(gateway, webhook_id="msg_2", event_id="whe_2")
    found = await look(gateway, STUDY)
    [cached] = [e for e in found.entries if "whe_2" in e.text]
    assert "from the cache" in cached.text
    assert [s.study_instance_uid for s in (await look(gateway, "whe_2")).studies] == [STUDY]


async def test_a_report_leads_to_its_study_its_job_and_why_it_waits(simulator, start):
    gateway = await start(simulator, reports={"allowed_hosts": ["reports.example.org"]})
    data = {
        "studyId": "stu_77", "studyInstanceUid": STUDY, "reportId": "rep_9", "isCritical": False,
        "presignedUrl": "https://elsewhere.example.org/report.pdf", "plainText": "None.",
    }  # fmt: skip
    await gateway.post({"id": "whe_r", "type": "report.delivered", "data": data})
    [job] = await ended(Jobs(gateway.parts.journal), "report.fetch", "quarantined")
    for what in ("rep_9", "whe_r", str(job.id)):
        found = await look(gateway, what)
        assert [s.study_instance_uid for s in found.studies] == [STUDY], what
        assert [w.job for w in found.waiting] == [job.id]
        assert any("reports.allowed_hosts" in e.text for e in found.entries)


@pytest.mark.slow
async def test_the_command_needs_no_running_gateway(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    config = tmp_path / "gateway.yaml"
    pacs = {"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 1}
    config.write_text(json.dumps({"state_dir": str(state), "pacs": [pacs]}))
    journal = await Journal.open(f"sqlite:///{with_journal(state) / 'journal.db'}")
    log = EventLog(journal, secret=kept_secret(state / "events.key"), keep_for=100)
    named = {"study": "1.2.3", "series": "1.2.4", "instance": "1.2.5", "avara": "stu_1", "event": "whe_1"}
    named |= {"webhook": "msg_1", "report": "rep_1"}
    keys = [f"{kind}:{value}" for kind, value in named.items()]
    log.note(EventKind.WEBHOOK, "it came", keys, patient_keys=["ACC-1", "PAT-1"])
    await log.flush()
    await journal.close()
    for what in (*named.values(), "ACC-1", "PAT-1"):
        shown = await asyncio.to_thread(CliRunner().invoke, main, ["trace", "-c", str(config), what])
        assert shown.exit_code == 0, (what, shown.output)
        assert "it came" in shown.output, what


async def test_nothing_known_is_said_and_ends_with_one(gateway):
    found = await look(gateway, "1.9.9")
    assert not found.found
    assert (found.studies, found.entries, found.waiting) == ((), (), ())


async def test_the_command_tells_it_beside_a_running_gateway(gateway, tmp_path, monkeypatch):
    await asked(gateway, webhook_id="msg_f", event_id="whe_f")
    await gateway.quiet()
    await gateway.parts.events.flush()
    config = next(tmp_path.glob("gateway-*.yaml"))
    shown = await asyncio.to_thread(CliRunner().invoke, main, ["trace", "-c", str(config), "stu_77"])
    assert shown.exit_code == 0, shown.output
    assert f"study   {STUDY}" in shown.output
    assert "complete: " in shown.output
    as_json = await asyncio.to_thread(CliRunner().invoke, main, ["trace", "-c", str(config), "stu_77", "--json"])
    assert json.loads(as_json.output)["studies"][0]["study_instance_uid"] == STUDY
    unknown = await asyncio.to_thread(CliRunner().invoke, main, ["trace", "-c", str(config), "stu_nobody"])
    assert unknown.exit_code == 1
    assert "Nothing is known of stu_nobody" in unknown.output


# -- the store of events


async def test_events_are_kept_for_as_long_as_is_configured_and_no_longer(tmp_path):
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}")
    log = EventLog(journal, secret=b"x", keep_for=100)
    log.note(EventKind.FETCH, "old", ["study:1.2"])
    await log.flush()
    await journal.run(lambda c: events.forget(c, c.now + 1))
    log.note(EventKind.FETCH, "new", ["study:1.2"])
    await log.flush()
    assert [e.text for e in await journal.run(lambda c: events.find(c, ["study:1.2"], 10))] == ["new"]
    await journal.close()


async def test_a_flood_of_events_is_bounded_and_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(events, "MOST_WAITING", 50)
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}")
    log = EventLog(journal, secret=b"x", keep_for=100)
    for n in range(80):
        log.note(EventKind.FETCH, f"{n}", ["study:1.2", secrets.token_hex(4)])
    await log.flush()
    assert "30 events were not kept" in caplog.text
    assert [e.text for e in await journal.run(lambda c: events.find(c, ["study:1.2"], 2))] == ["78", "79"]
    await journal.close()
