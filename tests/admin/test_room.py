"""Whether a busy week fits into the cache: by what came of late, else by what is assumed, and said so."""

from __future__ import annotations

from gateway.admin.room import ASSUMED_STUDIES, DAY, BusyWeek, busiest_week, told
from gateway.journal import Journal
from gateway.journal.events import EventKind, EventLog
from tests.clock import ManualClock
from tests.rig.journal import with_journal


def test_a_week_that_fits_is_well():
    fits, said = told(BusyWeek(100, False), cached=10**9, cached_studies=10, capacity=11 * 10**9)
    assert fits is True
    assert "a week brings 10.0 GB (100 studies of 100 MB, as in the busiest of the last four weeks)" in said


def test_one_that_does_not_says_for_how_long_there_is_room_and_what_to_do():
    fits, said = told(BusyWeek(100, False), cached=10**9, cached_studies=10, capacity=5 * 10**9)
    assert fits is None
    assert "after 3.5 days" in said
    assert "cache.max_size" in said


def test_what_is_assumed_is_said_to_be():
    _, said = told(BusyWeek(ASSUMED_STUDIES, True), cached=0, cached_studies=0, capacity=10**12)
    assert f"{ASSUMED_STUDIES} studies of 150 MB, assumed, since none was fetched yet" in said


async def test_the_busiest_seven_days_of_the_last_four_weeks_count(tmp_path):
    clock = ManualClock()
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}", clock=clock)
    try:
        assert (await journal.run(busiest_week)).assumed
        log = EventLog(journal, secret=b"x", keep_for=100 * DAY, clock=clock)
        for fetched in [1] * 10 + [5] * 7 + [1] * 9:
            for _ in range(fetched):
                log.note(EventKind.FETCH, "complete", ["study:1.2"])
            await log.flush()
            clock.jump(DAY)
        assert await journal.run(busiest_week) == BusyWeek(35, False)
    finally:
        await journal.close()
