"""Journals that older versions wrote: everything that was under way goes on, and is never migrated beneath them.

``schema-0003.sql`` is a journal of that schema, made by the code of its time: jobs of every kind in every state.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from gateway.alerts import SEND, Alert, SendAlert
from gateway.app.kinds import PAYLOADS, about
from gateway.journal import (
    Jobs,
    JobState,
    Journal,
    JournalError,
    OlderSchema,
    commitments,
    leases,
    migrations,
    objects,
)
from gateway.journal.commitments import CommitmentAnswer
from gateway.journal.schema import newest
from gateway.outbox.jobs import StoreObject
from gateway.reports.jobs import FETCH, FOLDER, HL7, PACS, DeliverReport, FetchReport
from tests.clock import ManualClock

pytestmark = pytest.mark.slow  # each goes through many schemas

OLD = Path(__file__).with_name("schema-0003.sql")

ALIVE = (JobState.WAITING, JobState.RUNNING, JobState.QUARANTINED)


@pytest.fixture
def old(tmp_path):
    """The file of an older journal."""
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as db:
        db.executescript(OLD.read_text())
    db.close()
    return path


@pytest.fixture
async def journal(old):
    opened = await Journal.open(f"sqlite:///{old}")
    yield opened
    await opened.close()


def rows(path, statement):
    db = sqlite3.connect(path)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


async def test_no_job_and_none_of_its_history_is_lost(old):
    jobs, history = "SELECT id, kind, subject, state FROM jobs ORDER BY id", "SELECT count(*) FROM job_history"
    before, lines = rows(old, jobs), rows(old, history)
    await (await Journal.open(f"sqlite:///{old}")).close()
    moved = [
        (n, "alert.send" if kind == "report.alert" else kind, subject, state) for n, kind, subject, state in before
    ]
    assert rows(old, jobs) == moved
    assert rows(old, history) == lines
    assert rows(old, "PRAGMA foreign_key_check") == []


async def test_every_job_that_is_not_over_can_be_read(journal):
    found = await Jobs(journal).list(ALIVE)
    assert {j.kind for j in found} >= set(PAYLOADS)
    for job in found:
        job.read(PAYLOADS[job.kind])
        assert about(job) or job.kind == "alert.send"


async def test_what_an_old_store_job_says_means_the_same_today(journal):
    (job, *_) = await Jobs(journal).list(ALIVE, ["report.store"])
    stored = job.read(StoreObject)
    old = json.loads(job.kept)
    assert (stored.target, stored.key, stored.sha256) == ("main", old["key"], old["sha256"])
    assert (stored.study_instance_uid, stored.sop_instance_uid) == ("1.2.3", old["sop_instance"])
    assert stored.source == {"report": old["report"], "study_id": "stu_1"}
    assert (stored.stored, stored.stored_in_vain) == (False, 0)
    assert StoreObject.load(stored.dump()) == stored


async def test_what_an_old_report_or_alert_says_means_the_same_today(journal):
    for kind in (PACS, HL7, FOLDER):
        (job, *_) = await Jobs(journal).list(ALIVE, [kind])
        report = job.subject.partition(" ")[0]
        assert job.read(DeliverReport) == DeliverReport(
            "place", report, "stu_1", "1.2.3", 1, False, 1700000000.0, "Befund", f"reports/{report[4:]}.pdf"
        )
    (job, *_) = await Jobs(journal).list(ALIVE, [FETCH])
    assert job.read(FetchReport) == FetchReport(
        job.subject.partition(" ")[0], "stu_1", "1.2.3", True, 1700000000.0, "Befund", "https://avara.example/x"
    )
    (job, *_) = await Jobs(journal).list(ALIVE, [SEND])
    send = job.read(SendAlert)
    assert (send.channel, Alert.from_json(send.alert).kind) == ("email", "report.critical")


async def test_jobs_are_taken_by_the_lane_of_their_place(journal):
    lanes = {(kind, lane) for kind, lane, _ in await journal.run(lambda c: leases.waiting(c, ["report.hl7"]))}
    assert lanes == {("report.hl7", "place")}
    await journal.run(lambda c: leases.release(c, "new", alone=True))
    assert not await Jobs(journal).list([JobState.RUNNING])


async def test_objects_have_their_users(journal):
    for job in await Jobs(journal).list():
        key = json.loads(job.kept).get("key")
        if job.kind == "object.clean" or not key:
            continue
        needed = job.state in ALIVE
        assert await journal.run(lambda c, key=key: objects.user_of(c, key)) == (job.id if needed else None)


async def test_commitments_that_were_open_are_open_and_what_was_answered_counts(journal):
    answers = {}
    for job in await Jobs(journal).list(kinds=["capture.store"]):
        if json.loads(job.kept).get("stored"):
            vain = job.read(StoreObject).stored_in_vain
            answers[json.loads(job.kept)["sop_instance"]] = await journal.run(
                lambda c, job=job, vain=vain: commitments.state(c, job.id, stored_before=vain)
            )
    assert {uid: known.answer for uid, known in answers.items()} == {
        "1.2.3.900": CommitmentAnswer.NONE, "1.2.3.901": CommitmentAnswer.COMMITTED,
        "1.2.3.902": CommitmentAnswer.FAILED,
    }  # fmt: skip
    assert answers["1.2.3.902"].reason == "no such object instance (0112)"
    for transaction in ("2.25.900", "2.25.903"):  # one that waits, one that is done
        assert await journal.run(lambda c, t=transaction: commitments.instance_of(c, t)) is not None


async def test_a_long_wait_keeps_its_time(old):
    ((since, due),) = rows(old, "SELECT since, next_at FROM jobs WHERE subject = '1.2.3.900 main'")
    assert due == since + 900
    journal = await Journal.open(f"sqlite:///{old}", clock=ManualClock(since + 1))
    await journal.run(leases.correct_times)
    await journal.close()
    assert rows(old, "SELECT next_at FROM jobs WHERE subject = '1.2.3.900 main'") == [(due,)]


async def test_a_journal_is_left_as_it_is_where_it_is_not_to_be_migrated(old):
    before = rows(old, "SELECT * FROM alembic_version")
    with pytest.raises(OlderSchema, match="older version"):
        await Journal.open(f"sqlite:///{old}", migrate=False)
    assert rows(old, "SELECT * FROM alembic_version") == before


REVISIONS = [f"{n:04d}" for n in range(1, 1 + len(list(Path(migrations.__path__[0]).glob("versions/[0-9]*.py"))))]


def schema(path):
    """What a database has, whatever the order of its columns and the spaces in what made them."""
    tables = rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {
        table: (
            sorted((name, kind, bool(required), key) for _, name, kind, required, _, key in columns),
            sorted(name for (_, name, *_) in rows(path, f"PRAGMA index_list({table})") if "autoindex" not in name),
        )
        for (table,) in tables
        for columns in [rows(path, f"PRAGMA table_info({table})")]
    }


async def at_revision(path, revision):
    """A new journal of that schema."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "gateway.journal:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
async def test_from_every_schema_that_ever_was_there_is_a_way_up_and_a_way_back(tmp_path, revision):
    path, fresh = tmp_path / "journal.db", tmp_path / "fresh.db"
    await at_revision(path, revision)
    before = schema(path)
    journal = await Journal.open(f"sqlite:///{path}")
    await (await Journal.open(f"sqlite:///{fresh}")).close()
    assert schema(path) == schema(fresh)
    await journal.roll_back(revision)
    await journal.close()
    assert schema(path) == before
    await (await Journal.open(f"sqlite:///{path}")).close()
    assert schema(path) == schema(fresh)


def comparable(job, revision):
    """What a job works with. Schema 0003 knew alerts by digests of what they were about, and those cannot be undone."""
    payload = job.read(PAYLOADS[job.kind])
    if isinstance(payload, SendAlert) and revision == "0003":
        return dataclasses.replace(payload, alert={**payload.alert, "subject": None})
    return payload


@pytest.mark.parametrize("revision", REVISIONS[2:])
async def test_no_job_and_none_of_its_history_is_lost_on_the_way_back_and_up_again(old, revision):
    journal = await Journal.open(f"sqlite:///{old}")
    before = await Jobs(journal).list()
    lines = rows(old, "SELECT count(*) FROM job_history")
    await journal.roll_back(revision)
    assert rows(old, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert rows(old, "SELECT count(*) FROM job_history") == lines
    assert rows(old, "PRAGMA foreign_key_check") == []
    await journal.migrate()
    after = await Jobs(journal).list()
    assert [(j.id, j.kind, j.state, j.attempts, j.next_at, j.lane) for j in after] == [
        (j.id, j.kind, j.state, j.attempts, j.next_at, j.lane) for j in before
    ]
    for was, now in zip(before, after, strict=True):
        assert comparable(now, revision) == comparable(was, revision)
    await journal.close()


async def test_what_the_present_version_keeps_means_the_same_to_an_older_one(tmp_path):
    path = tmp_path / "journal.db"
    journal = await Journal.open(f"sqlite:///{path}")
    stored = StoreObject(
        "main", "outbox/1", 10, "ab", "1.2.3", "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", "1.2.840.10008.1.2.1",
        source={"slot": "s"}, stored=True, stored_in_vain=1,
    )  # fmt: skip
    job, _ = await Jobs(journal).add("capture.store", "it", stored)
    await journal.run(lambda c: commitments.ask(c, job.id, "2.25.7", "1.2.3.4", stored_before=1))
    await journal.roll_back("0003")
    ((payload, token),) = rows(path, "SELECT payload, token FROM jobs")
    old = json.loads(payload)
    assert token == "2.25.7"
    assert {
        "study": "1.2.3",
        "sop_instance": "1.2.3.4",
        "slot": "s",
        "tries": 1,
        "target": "main",
    }.items() <= old.items()
    await journal.migrate()
    (again,) = await Jobs(journal).list()
    assert again.read(StoreObject) == stored
    await journal.close()


@pytest.mark.parametrize("revision", ["0011x", "", "9999", "head"])
async def test_a_schema_that_is_not_known_is_refused_and_nothing_changed(old, revision):
    journal = await Journal.open(f"sqlite:///{old}")
    with pytest.raises(JournalError, match="cannot be rolled back"):
        await journal.roll_back(revision)
    await journal.close()
    assert rows(old, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]


def test_the_number_of_the_last_migrations_file_is_the_schema_of_this_version():
    config = Config()
    config.set_main_option("script_location", "gateway.journal:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == newest()
