"""Who costs the event loop more than their bytes are worth is read later, and nobody else is."""

from __future__ import annotations

import pytest

from gateway.pacs.upper.cpu import CREDIT, SHARE, TAKEN, WORTH, CpuBudget


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_bytes_that_cost_what_they_are_worth_are_free(clock):
    account = CpuBudget(clock=clock).account()
    assert not account.sound
    for _ in range(1000):
        assert account.spend(1_000_000 * WORTH, 1_000_000) == 0
    assert account.sound


def test_debt_is_paid_off_with_a_share_of_the_loops_time(clock):
    account = CpuBudget(clock=clock).account()
    assert account.spend(CREDIT) == 0
    assert account.spend(0.01) == pytest.approx(0.01 / SHARE)
    assert not account.sound
    clock.now += 0.01 / SHARE
    assert account.spend(0) == 0


@pytest.mark.parametrize("number", [1, 10, 60])
def test_however_many_are_in_debt_they_cost_no_more_than_the_share_together(clock, number):
    budget = CpuBudget(clock=clock)
    accounts = {budget.account(): 0.0 for _ in range(number)}
    spent, end = 0.0, clock.now + 100
    while clock.now < end:
        for account, until in accounts.items():
            if until <= clock.now:
                spent += 0.002
                accounts[account] = clock.now + account.spend(0.002)
        clock.now += 0.01
    assert spent <= number * (CREDIT + 0.002) + SHARE * 100 * 1.1
    assert spent >= SHARE * 100 * 0.5


def test_who_is_not_in_debt_is_not_slowed_by_those_who_are(clock):
    budget = CpuBudget(clock=clock)
    others = [budget.account() for _ in range(60)]
    for other in others:
        other.spend(1.0)
    honest = budget.account()
    assert honest.spend(CREDIT / 2) == 0
    assert honest.spend(1000 * WORTH, 1000) == 0


def test_instances_that_are_taken_pay_for_themselves(clock):
    account = CpuBudget(clock=clock).account()
    for _ in range(1000):
        assert account.spend(TAKEN) == 0
        account.earn(TAKEN)
    assert account.spend(CREDIT) == 0


def test_who_is_gone_is_in_debt_no_more(clock):
    budget = CpuBudget(clock=clock)
    gone, other = budget.account(), budget.account()
    gone.spend(1.0)
    gone.close()
    assert other.spend(CREDIT + 0.01) == pytest.approx(0.01 / SHARE)
