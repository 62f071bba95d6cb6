"""Prefetch on the first screen: what waits and for what, and of what use it was today; nothing where it is off."""

from __future__ import annotations

import asyncio
import datetime
import re

import pytest

from gateway.journal import Cause, PrefetchState, Task, prefetches
from gateway.page.prefetched import PrefetchSeen, in_words
from gateway.page.standing import Mark
from gateway.runtime.supervise import LoopState
from tests.page.test_standing import NOW, standing

SAID = {
    "idle": (PrefetchSeen({}, {"main": ""}, 0, 0), "No studies wait. No studies opened today were warm thanks to it."),
    "window": (
        PrefetchSeen({"main": (12, 0)}, {"main": "outside its windows"}, 0, 7),
        "12 studies wait (held up: main, outside its windows). 7 studies opened today were warm thanks to it.",
    ),
    "rate": (
        PrefetchSeen({"CT": (1, 0)}, {"CT": "its studies_per_hour are used up", "MR": ""}, 0, 1),
        "One study waits (held up: CT, its studies_per_hour are used up). "
        "One study opened today was warm thanks to it.",
    ),
    "interactive": (
        PrefetchSeen({"main": (2, 1)}, {"main": "somebody waits for a study"}, 0, 0),
        "3 studies wait, 1 of them not due yet, since new or to be tried again (held up: main, somebody waits for a "
        "study). No studies opened today were warm thanks to it.",
    ),
    "running": (
        PrefetchSeen({}, {"main": ""}, 1, 2),
        "One study comes now. 2 studies opened today were warm thanks to it.",
    ),
}


@pytest.mark.parametrize("how", SAID)
def test_it_is_said_what_waits_and_for_what_and_of_what_use_it_was(how):
    seen, said = SAID[how]
    assert in_words(seen) == said


def prefetch_part(said):
    return next((part for part in said.parts if part.name == "Prefetch"), None)


def test_it_is_there_only_where_it_is_on_and_is_trouble_only_where_its_loop_is_down():
    seen = SAID["idle"][0]
    assert prefetch_part(standing()) is None
    assert prefetch_part(standing(prefetch=seen)).mark is Mark.WELL
    down = [LoopState("prefetch", False, NOW - 9, "it ended", "a bug")]
    assert prefetch_part(standing(prefetch=seen, loops=down)).mark is Mark.TROUBLE


async def test_the_first_screen_tells_what_waits_for_a_window_and_what_was_warm_today(open_page):
    sections = {
        "prefetch": {"enabled": True, "poll": False, "time_zone": "UTC"},
        "pacs_options": {"prefetch": {"windows": [_closed_now()]}},
    }
    gateway, browser = await open_page(sections=sections)

    def listed(c):
        for n in range(5):
            prefetches.want(c, f"1.2.840.5.{n}", Task.STUDY, pacs="simulator", cause=Cause.POLL)
        for n in (3, 4):
            prefetches.end(c, f"1.2.840.5.{n}", Task.STUDY, PrefetchState.DONE, "prefetched", size=9)
        prefetches.opened(c, "1.2.840.5.4")

    await gateway.parts.journal.run(listed)
    async with asyncio.timeout(20):
        while "3 studies wait" not in (said := await _said(browser)) or "held up" not in said:
            await asyncio.sleep(0.2)
    assert said == (
        "3 studies wait (held up: simulator, outside its windows). One study opened today was warm thanks to it."
    )


async def test_the_first_screen_says_nothing_of_prefetch_where_it_is_off(open_page):
    _, browser = await open_page()
    _, text = await browser.get("/")
    assert "Loops" in text
    assert "Prefetch" not in text


def _closed_now():
    """A window of an hour that begins in six hours."""
    hour = (datetime.datetime.now(datetime.UTC).hour + 6) % 23
    return f"{hour:02}:00-{hour + 1:02}:00"


async def _said(browser):
    _, text = await browser.get("/")
    return re.search(r"Prefetch</h3>\s*<p>(.*?)</p>", text)[1]
