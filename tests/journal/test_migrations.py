"""Journals that older versions wrote: everything that was under way goes on, and is never migrated beneath them.

``schema-0003.sql`` is a journal of that schema, made by the code of its time: jobs of every kind in every state.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.app.kinds import PAYLOADS, about
from gateway.journal import Jobs, JobState, Journal, OlderSchema, commitments, leases, objects
from gateway.journal.commitments import Answer
from gateway.outbox.jobs import StoreObject
from tests.clock import ManualClock

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
        if job.kind in PAYLOADS:
            job.read(PAYLOADS[job.kind])
        assert about(job) or job.kind == "alert.send"


async def test_what_an_old_store_job_says_means_the_same_today(journal):
    (job, *_) = await Jobs(journal).list(ALIVE, ["report.store"])
    stored = job.read(StoreObject)
    old = job.payload
    assert (stored.target, stored.key, stored.sha256) == ("main", old["key"], old["sha256"])
    assert (stored.study_instance_uid, stored.sop_instance_uid) == ("1.2.3", old["sop_instance"])
    assert stored.source == {"report": old["report"], "study_id": "stu_1"}
    assert (stored.stored, stored.stored_in_vain) == (False, 0)
    assert StoreObject.load(stored.dump()) == stored


async def test_jobs_are_taken_by_the_lane_of_their_place(journal):
    lanes = {(kind, lane) for kind, lane, _ in await journal.run(lambda c: leases.waiting(c, ["report.hl7"]))}
    assert lanes == {("report.hl7", "place")}
    await journal.run(lambda c: leases.release(c, "new", alone=True))
    assert not await Jobs(journal).list([JobState.RUNNING])


async def test_objects_have_their_users(journal):
    for job in await Jobs(journal).list():
        key = job.payload.get("key")
        if job.kind == "object.clean" or not key:
            continue
        needed = job.state in ALIVE
        assert await journal.run(lambda c, key=key: objects.user_of(c, key)) == (job.id if needed else None)


async def test_commitments_that_were_open_are_open_and_what_was_answered_counts(journal):
    answers = {}
    for job in await Jobs(journal).list(kinds=["capture.store"]):
        if job.payload.get("stored"):
            vain = job.read(StoreObject).stored_in_vain
            answers[job.payload["sop_instance"]] = await journal.run(
                lambda c, job=job, vain=vain: commitments.state(c, job.id, stored_before=vain)
            )
    assert {uid: known.answer for uid, known in answers.items()} == {
        "1.2.3.900": Answer.NONE, "1.2.3.901": Answer.COMMITTED, "1.2.3.902": Answer.FAILED,
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
