"""Retention and the nightly tidy: what is over is forgotten in its time and nothing else, and the journal's files stay
small. Not here: objects (tests/outbox), events (tests/admin/test_trace.py)."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from gateway.admin.tidy import HOUR, Tidy, until_night
from gateway.alerts import Alert, end_alert, raise_alert
from gateway.config.operation import RetentionConfig
from gateway.journal import Jobs, JobState, jobs, study_of
from gateway.journal import alerts as table
from tests.clock import ManualClock, settle
from tests.untyped import Untyped

DAY = 86400.0


@pytest.fixture
def clock():
    return ManualClock()


async def test_alerts_that_are_over_are_forgotten_in_their_time_and_those_that_stand_are_not(journal, clock):
    for subject in ("over", "stands"):
        alert = Alert("disk.low", subject, "Low", "Make room.", clock.now(), lasts=True)
        await journal.run(lambda c, alert=alert: raise_alert(c, [], alert))
    over = Alert("disk.low", "over", "Low", "Make room.", clock.now(), lasts=True)
    await journal.run(lambda c: end_alert(c, [], over))
    tidy = Tidy(journal, keep_for=30 * DAY, keep_reports_for=3000 * DAY, clock=clock)
    for days, left in ((29, {"over", "stands"}), (2, {"stands"})):
        clock.jump(days * DAY)
        await tidy.tidy()
        assert {record.subject for record in await journal.run(lambda c: table.latest(c, 10))} == left


async def test_jobs_that_are_over_are_forgotten_in_their_time_and_no_other(journal, clock):
    for subject in ("done", "waits", "held"):
        quarantined = "no" if subject == "held" else ""
        await journal.run(lambda c, s=subject, q=quarantined: jobs.add(c, "report.hl7", s, Untyped(), quarantined=q))
    await journal.run(lambda c: jobs.end(c, jobs.find(c, "report.hl7", "done"), JobState.DONE, ""))
    for days, left in ((29, {"done", "waits", "held"}), (2, {"waits", "held"}), (1000, {"waits", "held"})):
        clock.jump(days * DAY)
        await Jobs(journal).purge(keep_for=30 * DAY)
        assert {job.subject for job in await Jobs(journal).list()} == left


async def test_what_avaras_studies_are_is_forgotten_in_its_own_time(journal, clock):
    await journal.remember_study("stu_1", "1.2.3")
    tidy = Tidy(journal, keep_for=30 * DAY, keep_reports_for=90 * DAY, clock=clock)
    for days, known in ((89, "1.2.3"), (2, None)):
        clock.jump(days * DAY)
        await tidy.tidy()
        assert await journal.run(lambda c: study_of(c, "stu_1")) == known


async def test_the_journals_log_of_changes_does_not_stay_large(journal, clock, tmp_path):
    log = tmp_path / "journal.db-wal"
    for n in range(50):
        await journal.remember_study(f"stu_{n}", "1.2.3")
    assert log.stat().st_size > 0
    await Tidy(journal, keep_for=30 * DAY, keep_reports_for=3000 * DAY, clock=clock).tidy()
    assert log.stat().st_size == 0


@pytest.mark.slow
async def test_it_is_done_every_night_and_only_then(journal, clock):
    tidy = Tidy(journal, keep_for=30 * DAY, keep_reports_for=3000 * DAY, clock=clock)
    nights = []

    async def note():
        nights.append(datetime.fromtimestamp(clock.now()).astimezone())

    tidy.tidy = note
    loop = asyncio.create_task(tidy.watch())
    await settle()
    await clock.pass_time(3 * DAY, step=1800)
    loop.cancel()
    assert len(nights) == 3
    assert all(night.hour == HOUR and night.minute <= 30 for night in nights)


@pytest.mark.parametrize("hour", [0, 2, 3, 4, 12, 23])
def test_the_next_night_is_never_now_and_never_more_than_a_day_away(hour):
    now = datetime(2026, 11, 26, hour).astimezone().timestamp()
    assert 0 < until_night(now) <= DAY
    assert datetime.fromtimestamp(now + until_night(now)).astimezone().hour == HOUR


def test_what_is_over_is_remembered_for_as_long_as_it_may_come_again():
    with pytest.raises(ValueError, match="greater than or equal"):
        RetentionConfig(finished=86400)
