"""The page in headless Chromium: fresh by itself, usable by keyboard and on a phone, readable for all (WCAG AA)."""

from __future__ import annotations

import json

import pytest

from tests.page.conftest import PASSWORD, STUDY, USERS
from tests.page.test_desk import held_capture
from tests.rig.chromium import chromium
from tests.rig.npm import package

pytestmark = pytest.mark.slow

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture
async def tab(tmp_path):
    async with chromium(tmp_path / "chromium") as opened:
        await opened.look(width=1200, height=900)
        yield opened


async def log_in(tab, url):
    await tab.open(f"{url}/login")
    await tab.run(
        f"document.querySelector('#name').value = 'ann', document.querySelector('#password').value = '{PASSWORD}'"
    )
    await tab.run("document.querySelector('form button').click()")
    await tab.until("document.querySelector('.hero') !== null")


async def test_the_page_stays_fresh_by_itself_and_its_policy_forbids_nothing_of_its_own(open_page, tab):
    running, browser = await open_page()
    await tab.open(browser.url + "/")
    assert await tab.run("document.querySelector('h1').textContent.includes('All is well')")
    assert not await tab.run(f"document.body.textContent.includes('{STUDY}')")
    await running.ask(STUDY)
    await tab.until(f"document.body.textContent.includes('{STUDY}')")
    assert tab.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
async def test_every_page_is_readable_for_everybody(open_page, tab, dark, width):
    axe = (package("axe-core") / "axe.min.js").read_text()
    running, browser = await open_page(users=USERS)
    await running.ask(STUDY)
    number = await held_capture(running)
    await tab.look(width=width, height=800, dark=dark, phone=width < 500)
    await tab.call("Page.setBypassCSP", enabled=True)  # for axe, which is evaluated in the page
    await tab.open(f"{browser.url}/login")
    found = await violations(tab, axe)
    await log_in(tab, browser.url)
    for path in ("/", "/studies", "/jobs?every=1", f"/jobs/{number}", f"/search?q={STUDY}", "/search"):
        await tab.open(browser.url + path)
        found += await violations(tab, axe)
    await tab.open(f"{browser.url}/jobs/{number}")
    await tab.run("document.querySelector('form[action$=patient] button').click()")
    await tab.until("document.querySelector('#whose') !== null")
    found += await violations(tab, axe)
    assert found == []


async def violations(tab, axe):
    """What axe finds wrong with a page, and whether it has to be scrolled sideways."""
    await tab.run(axe + "; true")
    rules = json.dumps({"runOnly": {"type": "tag", "values": TAGS}})
    told = await tab.run(
        f"axe.run(document, {rules}).then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
    )
    checked = await tab.run(f"axe.run(document, {rules}).then(r => r.passes.length)")
    assert checked > 10
    sideways = await tab.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    where = await tab.run("location.pathname")
    return [(where, *violation) for violation in told] + ([(where, "scrolls sideways")] if sideways else [])


async def test_a_job_is_decided_by_keyboard_alone(open_page, tab):
    running, browser = await open_page(users=USERS)
    number = await held_capture(running)
    await log_in(tab, browser.url)
    await tab.open(f"{browser.url}/jobs/{number}")
    await press_until(tab, "document.activeElement?.id === 'why'")
    await tab.call("Input.insertText", text="uploaded twice")
    await press_until(tab, "document.activeElement?.textContent === 'Discard'")
    outline = await tab.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    await tab.press("Enter", 13)
    await tab.until("document.body.textContent.includes('uploaded twice')")


async def press_until(tab, condition):
    for _ in range(40):
        await tab.press("Tab", 9)
        if await tab.run(condition):
            return
    raise AssertionError(f"not reached by Tab: {condition}")


async def test_what_is_on_its_way_is_seen_to_move(open_page, tab, simulator):
    running, browser = await open_page()
    simulator.behaviour.delay_per_instance = 0.5
    asked = running.parts.fetcher.fetch(STUDY)
    await tab.look(width=360, height=800, phone=True)
    await tab.open(browser.url + "/")
    await tab.until(
        "document.querySelector('progress') !== null && document.body.textContent.includes('instances from')"
    )
    await tab.until("document.querySelector('progress').value > 0")
    assert await tab.run("document.body.textContent.includes('MB') || document.body.textContent.includes('kB')")
    assert not await tab.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    await asked.ended(60)
    await tab.until("document.body.textContent.includes('No study is being fetched')")
