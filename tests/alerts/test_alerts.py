"""Alerts in the journal: raised once, ended once, raised again; of every job that waits for an operator, whoever held
it; and those of an older journal. Not here: how an alert leaves (test_channels.py)."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from gateway.alerts import Alert, end_alert, raise_alert
from gateway.alerts.deliver import AlertDelivery
from gateway.alerts.held import HeldJobs
from gateway.alerts.jobs import KEPT_FOR, SEND, SendAlert
from gateway.app.alerts import held_job
from gateway.config import ConfigError, load
from gateway.journal import Jobs, JobState, Journal, jobs
from gateway.reports.alerts import critical
from gateway.reports.jobs import DeliverReport, FetchReport
from gateway.runtime.clock import SYSTEM_CLOCK
from tests.untyped import Untyped

FULL = Alert("disk.full", "/var", "The disk is full", "Make room.", 1000.0, {"disk": "/var"})
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CHANNELS = ["webhook", "email"]


async def sent(journal):
    """The alerts that are to be sent by webhook, the first one first."""
    listed = await Jobs(journal).list(kinds=[SEND])
    payloads = [job.read(SendAlert) for job in reversed(listed)]
    return [Alert.from_json(p.alert) for p in payloads if p.channel == "webhook"]


async def test_what_stands_is_told_once_on_every_channel_and_once_when_it_is_over(journal):
    for _ in range(3):
        await journal.run(lambda c: raise_alert(c, CHANNELS, FULL))
    assert len(await Jobs(journal).list(kinds=[SEND])) == 2
    for _ in range(3):
        await journal.run(lambda c: end_alert(c, CHANNELS, dataclasses.replace(FULL, at=2000.0)))
    assert [(a.ended, a.at) for a in await sent(journal)] == [(False, 1000.0), (True, 2000.0)]


async def test_what_comes_up_again_after_its_end_is_told_again_with_another_key(journal):
    for at in (1000.0, 2000.0):
        await journal.run(lambda c, at=at: raise_alert(c, CHANNELS, dataclasses.replace(FULL, at=at)))
        await journal.run(lambda c, at=at: end_alert(c, CHANNELS, dataclasses.replace(FULL, at=at + 1)))
    alerts = await sent(journal)
    assert [a.ended for a in alerts] == [False, True, False, True]
    assert len({a.key for a in alerts}) == 4


async def test_what_never_came_up_is_not_told_to_be_over(journal):
    assert not await journal.run(lambda c: end_alert(c, CHANNELS, FULL))
    assert await sent(journal) == []


async def test_what_is_never_ended_is_forgotten_some_day(journal):
    await journal.run(lambda c: raise_alert(c, CHANNELS, FULL))
    later = FULL.at + KEPT_FOR + 1
    await journal.run(lambda c: raise_alert(c, CHANNELS, dataclasses.replace(FULL, at=later, subject="/srv")))
    await journal.run(lambda c: raise_alert(c, [], dataclasses.replace(FULL, at=later)))
    assert await journal.run(lambda c: c.execute(text("SELECT raised FROM alerts")).scalars().all()) == [later, later]


@pytest.mark.parametrize(
    ("kind", "payload", "told"),
    [
        ("capture.check", Untyped({"slot": "s", "key": "inbox/s"}), "capture.waiting"),
        ("capture.store", Untyped({"study": "1.2.3", "sop_instance": "1.2.3.4"}), "capture.waiting"),
        (
            "report.hl7",
            DeliverReport("ris", "rep_1", "stu_1", "1.2.3", 1, False, 0.0, "Aneurysm of Mrs. Doe"),
            "report.waiting",
        ),
        ("object.clean", Untyped({"key": "outbox/x"}), "object.waiting"),
    ],
)
async def test_whatever_waits_for_an_operator_is_told_of_whoever_held_it_and_ended_by_a_retry(
    journal, kind, payload, told
):
    woken = []
    held = HeldJobs(
        journal=journal, channels=CHANNELS, describe=held_job, added=lambda: woken.append(1), clock=SYSTEM_CLOCK
    )
    job, _ = await journal.run(lambda c: jobs.add(c, kind, "it", payload, quarantined="Mrs. Doe is none"))
    for _ in range(2):
        await held.look()
    (alert,) = await sent(journal)
    assert (alert.kind, alert.facts["job"]) == (told, str(job.id))
    assert f"jobs show {job.id}" in alert.what_to_do
    assert "Doe" not in json.dumps(alert.to_json())
    await Jobs(journal).retry(job.id)
    await held.look()
    assert [a.ended for a in await sent(journal)] == [False, True]
    await journal.run(lambda c: jobs.end(c, jobs.get(c, job.id), JobState.QUARANTINED, "again"))
    await held.look()
    assert [a.ended for a in await sent(journal)] == [False, True, False]
    assert len(woken) == 3


async def test_an_alert_that_cannot_be_sent_is_no_reason_for_another(journal):
    await journal.run(lambda c: jobs.add(c, SEND, "it", SendAlert("gone", {}), quarantined="refused"))
    held = HeldJobs(journal=journal, channels=CHANNELS, describe=held_job, added=lambda: None, clock=SYSTEM_CLOCK)
    await held.look()
    assert len(await Jobs(journal).list(kinds=[SEND])) == 1


async def test_the_alerts_that_an_older_journal_had_to_send_are_sent_and_not_raised_again(tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    older = Config()
    older.set_main_option("script_location", "gateway.journal:migrations")
    engine = create_engine(url)
    report = {"report": "rep_1", "study_id": "stu_1", "study": "1.2.3", "received": 5.0}
    digest = hashlib.sha256(b"No fracture.").hexdigest()
    old = report | {"alert": "report.critical", "digest": digest, "channel": "webhook"}
    with engine.begin() as c:
        older.attributes["connection"] = c
        command.upgrade(older, "0003")
        row = {"kind": "report.alert", "subject": "rep_1 x", "state": "waiting", "payload": json.dumps(old)}
        times = dict.fromkeys(("attempts", "created", "since", "next_at"), 0)
        c.execute(
            text(
                "INSERT INTO jobs (kind, subject, state, payload, attempts, created, since, next_at, last_error) "
                "VALUES (:kind, :subject, :state, :payload, :attempts, :created, :since, :next_at, '')"
            ),
            row | times,
        )
    engine.dispose()
    journal = await Journal.open(url)
    delivered = []

    class Channel:
        async def send(self, alert):
            delivered.append(alert)

    (job,) = await Jobs(journal).list(kinds=[SEND])
    await AlertDelivery({"webhook": Channel()})(job)
    assert (delivered[0].kind, delivered[0].facts["reportId"]) == ("report.critical", "rep_1")
    now = critical(FetchReport("rep_1", "stu_1", "1.2.3", True, 5.0, "No fracture."))
    assert not await journal.run(lambda c: raise_alert(c, ["webhook"], now))
    await journal.close()


def test_the_place_that_alerts_had_before_is_understood_and_told_of(tmp_path):
    hook = {"webhook": {"url": "https://alerts.example.org/"}}
    pacs = [{"name": "main", "ae_title": "MAIN", "host": "10.0.0.1", "port": 104}]
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"pacs": pacs, "reports": {"alerts": hook}}))
    config = load(path, {"AVARA_WEBHOOK_KEY": KEY})
    assert config.alerting.webhook.url == "https://alerts.example.org/"
    assert any("reports.alerts" in w for w in config.warnings())
    path.write_text(json.dumps({"pacs": pacs, "reports": {"alerts": hook}, "alerts": hook}))
    with pytest.raises(ConfigError, match="the same setting"):
        load(path, {"AVARA_WEBHOOK_KEY": KEY})
