"""A list that was cut is made whole by Instance Number: pure, against a series in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pacs.scu.numbered import IN_VAIN, MOST_QUERIES, the_others
from gateway.pacs.scu.results import InstanceRef


def ref(n, number):
    return InstanceRef("1.2.3", f"1.2.3.{n}", "", instance_number=number)


class Series:
    """A series of a PACS that ends its answers at *limit*."""

    def __init__(self, refs, limit, *, ignores_number=False):
        self.refs, self.limit, self.ignores_number = refs, limit, ignores_number
        self.asked = []

    @property
    def listed(self):
        return self.refs[: self.limit]

    async def ask(self, number):
        self.asked.append(number)
        matching = [r for r in self.refs if self.ignores_number or r.instance_number == number][: self.limit]
        return matching, len(matching)


@given(st.permutations(range(1, 31)), st.integers(1, 29))
async def test_whatever_was_cut_is_found_where_it_is_counted(numbers, limit):
    series = Series([ref(n, number) for n, number in enumerate(numbers)], limit)
    others = await the_others(series.ask, series.listed, lacks=lambda found: limit + found < 30)
    assert {r.sop_instance_uid for r in (*series.listed, *others.found)} == {r.sop_instance_uid for r in series.refs}
    assert len(series.asked) <= 31
    assert others.certain


@given(st.permutations(range(1, 31)), st.integers(2, 29))
async def test_where_nothing_is_counted_it_ends_behind_the_last(numbers, limit):
    series = Series([ref(n, number) for n, number in enumerate(numbers)], limit)
    others = await the_others(series.ask, series.listed, lacks=lambda found: True)
    assert len(others.found) == 30 - limit
    assert max(series.asked) == 30 + IN_VAIN


@pytest.mark.slow
async def test_a_pacs_that_takes_no_number_for_a_key_is_asked_once():
    series = Series([ref(n, n) for n in range(620)], 500, ignores_number=True)
    others = await the_others(series.ask, series.listed, lacks=lambda found: found < 120)
    assert (others.found, others.certain, len(series.asked)) == ([], False, 1)


async def test_numbers_that_are_missing_or_huge_end_too():
    series = Series([ref(1, None), ref(2, 2_000_000_000)], 2)
    await the_others(series.ask, series.listed, lacks=lambda found: True)
    assert len(series.asked) <= MOST_QUERIES
