"""What is wrong and stays so: told of once when it has lasted, once when it is over, every day in between; and what
cannot be told changes nothing. Not here: what is looked at (tests/admin/test_watches.py)."""

from __future__ import annotations

import pytest

from gateway.alerts import Alert
from gateway.alerts.jobs import KEPT_FOR, SEND, SendAlert
from gateway.alerts.standing import CALM, LOOKS_EVERY, StandingAlerts, Watch
from gateway.journal import Jobs, Journal
from gateway.journal import alerts as table
from gateway.runtime.errors import GatewayError
from tests.clock import ManualClock
from tests.rig.journal import with_journal

AWAY = Alert("", "main", "A PACS does not answer", "See that it runs.", 0.0, {"pacs": "main"})
AFTER = 300.0


class Desk:
    """A journal, a clock, and what is wrong now."""

    def __init__(self, journal, clock):
        self.journal, self.clock = journal, clock
        self.wrong: list[Alert] | Exception = []
        self.afresh()

    def afresh(self):
        """As after a restart."""
        watch = Watch("pacs.away", self.look, AFTER)
        self.standing = StandingAlerts(
            [Watch("broken", self.fail), watch], journal=self.journal, channels=["webhook"], added=lambda: None,
            clock=self.clock,
        )  # fmt: skip

    async def look(self):
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong

    async def fail(self):
        raise RuntimeError("one that fails does not blind the others")

    async def passes(self, seconds):
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            await self.standing.look()
            await self.clock.pass_time(LOOKS_EVERY, step=LOOKS_EVERY)
        await self.standing.look()

    async def told(self):
        listed = await Jobs(self.journal).list(kinds=[SEND], limit=1000)
        return [Alert.from_json(job.read(SendAlert).alert) for job in reversed(listed)]

    async def states(self):
        return [alert.told()["state"] for alert in await self.told()]


@pytest.fixture
async def desk(tmp_path):
    clock = ManualClock()
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}", clock=clock)
    yield Desk(journal, clock)
    await journal.close()


async def test_what_is_wrong_for_a_moment_is_not_told(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER - 2 * LOOKS_EVERY)
    desk.wrong = []
    await desk.passes(LOOKS_EVERY)
    desk.wrong = [AWAY]
    await desk.passes(AFTER - 2 * LOOKS_EVERY)
    assert await desk.told() == []


@pytest.mark.slow
async def test_what_stays_wrong_is_told_once_since_when_and_ended_once(desk):
    began, desk.wrong = desk.clock.now(), [AWAY]
    await desk.passes(3 * AFTER)
    desk.wrong = []
    await desk.passes(3 * CALM)
    raised, ended = await desk.told()
    assert (raised.kind, raised.at, raised.headline) == ("pacs.away", began, "A PACS does not answer: main")
    assert (ended.ended, ended.headline) == (True, "Over: A PACS does not answer: main")


@pytest.mark.slow
async def test_what_is_well_for_a_moment_is_not_over(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    desk.wrong = []
    await desk.passes(CALM - 2 * LOOKS_EVERY)
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    desk.wrong = []
    await desk.passes(CALM - 2 * LOOKS_EVERY)
    assert await desk.states() == ["raised"]


@pytest.mark.slow
async def test_what_cannot_be_told_ends_nothing_and_raises_nothing(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    desk.wrong = GatewayError("the journal is busy")
    await desk.passes(10 * CALM)
    assert await desk.states() == ["raised"]


@pytest.mark.slow
async def test_a_restart_neither_tells_again_nor_forgets_to_end(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    desk.afresh()
    await desk.passes(2 * AFTER)
    assert await desk.states() == ["raised"]
    desk.afresh()
    desk.wrong = []
    await desk.passes(2 * CALM)
    assert await desk.states() == ["raised", "ended"]


@pytest.mark.slow
async def test_people_are_reminded_every_day_for_as_long_as_it_lasts_each_time_by_another_key(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    for _ in range(3):
        desk.clock.jump(86_401.0)
        for _ in range(5):
            await desk.standing.look()
    assert await desk.states() == ["raised", "still", "still", "still"]
    alerts = await desk.told()
    assert len({alert.key for alert in alerts}) == 4
    assert alerts[-1].headline == "Still: A PACS does not answer: main"
    desk.wrong = []
    await desk.passes(2 * CALM)
    desk.clock.jump(10 * 86_400.0)
    await desk.standing.look()
    assert (await desk.states())[4:] == ["ended"]


@pytest.mark.slow
async def test_what_lasts_longer_than_alerts_are_remembered_is_not_forgotten(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    desk.clock.jump(KEPT_FOR + 1)
    desk.wrong = [AWAY, Alert("", "other", "A PACS does not answer", "See that it runs.", 0.0)]
    await desk.passes(AFTER)
    known = await desk.journal.run(lambda c: table.get(c, "pacs.away", "main"))
    assert (known.occasion, known.ended) == (1, None)


@pytest.mark.slow
async def test_the_latest_alerts_can_be_listed_those_that_stand_first(desk):
    desk.wrong = [AWAY]
    await desk.passes(AFTER)
    desk.wrong = [Alert("", "other", "A PACS does not answer", "See that it runs.", 0.0)]
    await desk.passes(AFTER)
    listed = await desk.journal.run(lambda c: table.latest(c, 10))
    assert [(record.subject, record.ended is None) for record in listed] == [("other", True), ("main", False)]
