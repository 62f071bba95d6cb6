"""What became of each alert is known: since when, how often people were reminded, how long it lasted. How the page
shows it: tests/page."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from gateway.alerts import Alert, end_alert, history, raise_alert
from gateway.alerts.jobs import remind
from gateway.cli.main import main
from gateway.journal import EventKind, Journal, events
from tests.clock import ManualClock
from tests.rig.journal import with_journal

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def journal(tmp_path, clock):
    opened = await Journal.open(f"sqlite:///{with_journal(tmp_path / 'state') / 'journal.db'}", clock=clock)
    yield opened
    await opened.close()


def an_alert(clock, **changes):
    alert = Alert("disk.low", "/srv", "The disk is nearly full", "Make room.", clock.now(), lasts=True)
    return dataclasses.replace(alert, **changes)


async def told(journal):
    return await journal.run(lambda c: history(c, 10))


async def stood(journal, clock, seconds, **changes):
    """An alert stood for so long."""
    alert = an_alert(clock, **changes)
    await journal.run(lambda c: raise_alert(c, [], alert))
    for _ in range(int(seconds // DAY)):
        clock.jump(DAY + 1)
        await journal.run(lambda c: remind(c, []))
    clock.jump(seconds % DAY)
    over = dataclasses.replace(alert, at=clock.now())
    await journal.run(lambda c: end_alert(c, [], over))


async def test_each_time_that_it_came_up_is_told_with_its_reminders_and_its_end(journal, clock):
    began = clock.now()
    await stood(journal, clock, HOUR)
    clock.jump(HOUR)
    await stood(journal, clock, 2 * DAY + HOUR)
    last, first = await told(journal)
    assert (first.raised, first.ended, first.reminders) == (began, began + HOUR, 0)
    assert (last.raised, last.ended, last.reminders) == (began + 2 * HOUR, began + 2 * (DAY + 1) + 3 * HOUR, 2)
    assert first.text == "The disk is nearly full. Make room."
    assert first.to_dict(clock.now())["lasted"] == HOUR


async def test_what_stands_comes_first_and_is_known_however_old_it_is(journal, clock):
    await journal.run(lambda c: raise_alert(c, [], an_alert(clock, subject="stands")))
    clock.jump(60 * DAY)
    await journal.run(lambda c: events.forget(c, c.now - 30 * DAY))
    await stood(journal, clock, HOUR)
    stands, over = await told(journal)
    assert (stands.stands, over.stands) == (True, False)
    assert stands.to_dict(clock.now())["lasted"] == 60 * DAY + HOUR


async def test_one_that_is_told_once_does_not_stand(journal, clock):
    await journal.run(lambda c: raise_alert(c, [], an_alert(clock, lasts=False)))
    (story,) = await told(journal)
    assert (story.stands, story.lasts, story.to_dict(clock.now())["lasted"]) == (False, False, None)


async def test_the_search_for_a_study_finds_its_alerts(journal, clock):
    await journal.run(lambda c: raise_alert(c, [], an_alert(clock, facts={"studyInstanceUid": "1.2.3"})))
    (event,) = await journal.run(lambda c: events.find(c, ["study:1.2.3"], 5))
    assert event.kind is EventKind.ALERT
    assert "The disk is nearly full" in event.text


async def test_an_alert_that_an_older_version_raised_is_told_of(journal, clock):
    await journal.run(lambda c: raise_alert(c, [], an_alert(clock)))
    await journal.run(lambda c: c.execute(text("DELETE FROM events")))
    (story,) = await told(journal)
    assert story.stands


async def test_an_older_version_meets_no_event_that_it_does_not_know(journal, clock, tmp_path):
    await journal.run(lambda c: raise_alert(c, [], an_alert(clock)))
    await journal.roll_back("0015")
    assert await journal.run(lambda c: c.execute(text("SELECT count(*) FROM events")).scalar_one()) == 0
    assert await journal.run(lambda c: c.execute(text("SELECT count(*) FROM event_keys")).scalar_one()) == 0


@pytest.fixture
async def config(journal, clock, tmp_path):
    """The configuration of a gateway that has told of two things, of which one is over."""
    await stood(journal, clock, HOUR, kind="pacs.away", title="PACS main does not answer", subject="main")
    await journal.run(lambda c: raise_alert(c, [], an_alert(clock)))
    pacs = {"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 1}
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"state_dir": str(tmp_path / "state"), "pacs": [pacs]}))
    return str(path)


def test_the_command_tells_it_in_words_and_to_machines_and_ends_with_one_where_one_stands(config):
    said = CliRunner().invoke(main, ["alerts", "-c", config])
    assert said.exit_code == 1
    assert said.output.index("disk.low") < said.output.index("pacs.away")
    assert "over after 1 h" in said.output
    assert "stands for" in said.output
    found = json.loads(CliRunner().invoke(main, ["alerts", "-c", config, "--json"]).output)
    assert [(one["kind"], one["stands"]) for one in found] == [("disk.low", True), ("pacs.away", False)]
    assert found[1]["lasted"] == HOUR
    assert len(json.loads(CliRunner().invoke(main, ["alerts", "-c", config, "--json", "--limit", "1"]).output)) == 1
