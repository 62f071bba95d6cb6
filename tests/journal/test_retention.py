"""What the journal knows of studies and reports is forgotten in its time: together with all that it is needed for, in
small steps, and never what work that is not over needs. Not here: jobs and alerts (tests/admin/test_tidy.py)."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import func, insert, select, text

from gateway.journal import EventKind, EventLog, Jobs, ReportVersion, StudyReport, jobs, retention
from gateway.journal import reports as versions
from gateway.journal import study_reports as table
from gateway.journal.events import MOST_REFUSED, latest
from gateway.journal.tables import event_keys, metadata, studies
from gateway.reports import HL7
from gateway.reports.jobs import MAX_SHOWN, subject
from tests.clock import ManualClock
from tests.untyped import Untyped

DAY = 86400.0
KEPT = 1000 * DAY


@pytest.fixture
def clock():
    return ManualClock()


async def report(journal, name, study="1.2.3", version=1):
    """A report came, and goes out."""

    def deliver(c):
        table.settle(c, StudyReport(name, f"stu_{study}", study, c.now))
        versions.add(c, ReportVersion(name, version, f"{name} {version}", study, True, True, c.now))

    await journal.run(deliver)
    await journal.remember_study(f"stu_{study}", study)


async def forget(journal, **changes):
    asked = {"kinds": [HL7]} | changes
    return await journal.run(lambda c: retention.forget(c, before=c.now - KEPT, **asked))


async def known(journal):
    """The reports that are known."""
    return {r for r in ("first", "addendum", "other") if await journal.run(lambda c, r=r: table.get(c, r)) is not None}


async def test_an_addendum_finds_its_original_for_as_long_as_any_report_of_the_study_is_young(journal, clock):
    await report(journal, "first")
    clock.jump(KEPT - DAY)
    await report(journal, "addendum")
    clock.jump(KEPT - DAY)  # the original alone is twice as old as what is kept
    assert await forget(journal) == 0
    await journal.run(lambda c: table.settle(c, StudyReport("other", "stu_1.2.3", "1.2.3", c.now)))
    before = await journal.run(lambda c: table.before(c, "other"))
    assert [r.report_id for r in before] == ["first", "addendum"]


async def test_once_none_is_the_reports_their_versions_and_the_study_are_forgotten(journal, clock):
    await report(journal, "first")
    await report(journal, "addendum")
    clock.jump(KEPT + DAY)
    await report(journal, "other", study="9.9")
    assert await forget(journal) == 2 + 2 + 1
    assert await known(journal) == {"other"}
    for name, left in (("first", 0), ("addendum", 0), ("other", 1)):
        assert len(await journal.run(lambda c, name=name: versions.versions(c, name))) == left
    rows = await journal.run(lambda c: c.execute(select(studies.c.study_id)).scalars().all())
    assert rows == ["stu_9.9"]
    assert await forget(journal) == 0


async def test_a_new_version_of_an_old_report_keeps_it(journal, clock):
    await report(journal, "first")
    clock.jump(KEPT + DAY)
    await report(journal, "first", version=2)
    await forget(journal)
    assert await known(journal) == {"first"}


@pytest.mark.parametrize("name", ["addendum", "a" * 250, "100%_"])
async def test_what_waits_for_an_operator_keeps_what_its_study_had_however_old_it_is(journal, clock, name):
    await report(journal, "first")
    await report(journal, name)
    held = subject(name, "1", "ris")
    await journal.run(lambda c: jobs.add(c, HL7, held, Untyped(), quarantined="no"))
    clock.jump(10 * KEPT)
    assert await forget(journal) == 0
    (job,) = await Jobs(journal).list()
    await Jobs(journal).discard(job.id, "no")
    assert await forget(journal) == 5


async def test_work_on_another_report_of_a_like_name_keeps_nothing(journal, clock):
    await report(journal, "first")
    await journal.run(lambda c: jobs.add(c, HL7, subject("first2", "1", "ris"), Untyped(), quarantined="no"))
    clock.jump(KEPT + DAY)
    assert await forget(journal) == 3


def test_subjects_begin_with_as_much_of_a_reports_id_as_is_looked_for():
    assert retention.SHOWN == MAX_SHOWN


async def test_a_study_is_known_for_as_long_as_it_is_opened(journal, clock):
    for opened_again in (True, False):
        await journal.remember_study("stu_1", "1.2.3")
        clock.jump(KEPT - DAY if opened_again else KEPT + DAY)
        assert await forget(journal) == (0 if opened_again else 1)


@pytest.mark.slow
async def test_a_large_table_is_emptied_in_steps_and_what_is_kept_stops_none(journal, clock):
    await report(journal, "first")
    await journal.run(lambda c: jobs.add(c, HL7, subject("first", "1", "ris"), Untyped(), quarantined="no"))
    for n in range(25):
        await journal.remember_study(f"stu_{n}", f"1.2.{n}")
    clock.jump(KEPT + DAY)
    assert [await forget(journal, at_once=10) for _ in range(4)] == [10, 10, 5, 0]


async def test_what_is_old_is_found_by_an_index(journal):
    for query in (
        "SELECT study_id FROM studies WHERE last_seen < 1", "SELECT report_id FROM reports WHERE received < 1",
        "SELECT report_id FROM study_reports WHERE received < 1",
        "SELECT id FROM jobs WHERE state IN ('done', 'discarded') AND ended < 1",
    ):  # fmt: skip
        plan = await journal.run(lambda c, q=query: c.execute(text(f"EXPLAIN QUERY PLAN {q}")).all())
        assert re.search("(_by_time|_by_last_seen|_by_end) ", str(plan)), plan


BOUNDED = {
    "studies": "retention", "reports": "retention", "study_reports": "retention", "jobs": "retention.finished",
    "job_history": "jobs", "job_objects": "jobs", "removals": "jobs", "commitments": "jobs",
    "cached_studies": "cache.max_size", "prefetches": "14 days", "upload_slots": "90 days",
    "alerts": "retention.finished",
    "deliveries": "as long as a signature is good",
    "events": "events.keep", "event_keys": "events", "paused_lanes": "emptied at each start", "marks": "one a name",
}  # fmt: skip
"""What bounds each table; ``jobs`` and ``events`` are rows that go with theirs."""


def test_every_table_of_the_journal_has_a_bound():
    assert set(metadata.tables) == set(BOUNDED)
    for table_name, other in BOUNDED.items():
        if other in ("jobs", "events"):
            (key,) = metadata.tables[table_name].foreign_keys
            assert key.column.table.name == other
            assert key.ondelete == "CASCADE"


async def test_a_flood_of_refusals_does_not_fill_the_journal_and_is_told(journal, clock):
    log = EventLog(journal, secret=b"x", keep_for=KEPT, clock=clock)
    for _ in range(MOST_REFUSED + 500):
        log.note(EventKind.REFUSED, "webhook refused", ["peer:192.0.2.1"])
    log.note(EventKind.WEBHOOK, "a good one", ["avara:stu_1"])
    await log.flush()
    assert len(await journal.run(lambda c: latest(c, EventKind.REFUSED, 5000))) == MOST_REFUSED
    assert len(await journal.run(lambda c: latest(c, EventKind.WEBHOOK, 5))) == 1
    clock.jump(3600)
    log.note(EventKind.REFUSED, "webhook refused", ["peer:192.0.2.1"])
    await log.flush()
    told, _ = await journal.run(lambda c: latest(c, EventKind.REFUSED, 2))
    assert told.text == "500 more were refused in an hour, and not noted"


async def test_events_that_are_forgotten_take_their_keys_along(journal, clock):
    log = EventLog(journal, secret=b"x", keep_for=KEPT, clock=clock)
    log.note(EventKind.FETCH, "came", ["study:1.2.3", "pacs:main"])
    await log.flush()
    await journal.run(lambda c: c.execute(text("DELETE FROM events")))
    assert await journal.run(lambda c: c.execute(select(func.count()).select_from(event_keys)).scalar_one()) == 0


async def test_the_size_is_that_of_the_file(journal, tmp_path):
    before = await Jobs(journal).size()
    rows = [{"study_id": f"stu_{n:0200d}", "study_instance_uid": "1.2", "first_seen": 0.0, "last_seen": 0.0}
            for n in range(2000)]  # fmt: skip
    await journal.run(lambda c: c.execute(insert(studies), rows))
    assert await Jobs(journal).size() > before + 200 * 2000
