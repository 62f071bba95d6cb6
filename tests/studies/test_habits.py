"""What is learnt of a PACS: how long it counts, and what becomes of what was kept. How it is learnt: test_sloppy.py."""

from __future__ import annotations

import pytest

from gateway.pacs.scu import InstanceList, InstanceRef
from gateway.studies.habits import KEPT_FOR, LONGEST_SETTLE, Habits
from tests.clock import ManualClock

SOME = (InstanceRef("1", "1.1", ""),)
WHOLE = InstanceList(SOME, complete=True)
CUT = InstanceList(SOME, complete=True, cut_at=500)
SHORT = InstanceList(SOME, complete=False, reason="it counts more", short=True)
NONE = InstanceList((), complete=False, reason="it fails")


@pytest.fixture
def clock():
    return ManualClock()


def test_a_pacs_that_sends_late_is_waited_for_longer_and_never_for_ever(clock):
    habits = Habits(5.0, clock=clock)
    habits.came_late(8.0)
    assert habits.settle == 16.0
    habits.came_late(1.0)
    assert habits.settle == 16.0
    habits.came_late(500.0)
    assert habits.settle == LONGEST_SETTLE


def test_a_habit_that_is_not_seen_again_is_forgotten(clock):
    habits = Habits(5.0, clock=clock)
    habits.came_late(8.0)
    habits.listed(CUT)
    clock.jump(KEPT_FOR - 1)
    habits.listed(CUT)
    clock.jump(2)
    assert (habits.settle, habits.cuts_at) == (5.0, 500)
    assert habits.told == "lists 500 instances to a query at most; the others are asked for by Instance Number"


def test_a_list_that_works_again_is_no_habit_any_more(clock):
    habits = Habits(5.0, clock=clock)
    habits.listed(NONE)
    habits.listed(SHORT)
    habits.listed(WHOLE)
    assert "IMAGE level" not in habits.told
    assert "fewer" in habits.told


def test_what_is_kept_comes_back(clock):
    before, after = (Habits(5.0, pacs="PACS main (PACS at 10.1.2.3:104)", clock=clock) for _ in range(2))
    before.came_late(8.0)
    before.listed(NONE)
    after.restore(before.dump())
    assert (after.settle, after.told) == (before.settle, before.told)


@pytest.mark.parametrize(
    "kept", ["", "{", "[]", "null", "{}", '{"pacs": "", "seen": 3}', '{"pacs": "", "seen": {"cut": 3}}']
)
def test_what_cannot_be_read_is_learnt_anew(clock, kept):
    habits = Habits(5.0, clock=clock)
    habits.restore(kept)
    assert (habits.settle, habits.cuts_at, habits.told) == (5.0, None, "")
