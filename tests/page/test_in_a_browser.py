"""The page in headless Chromium."""

from __future__ import annotations

import pytest

from tests.page.conftest import STUDY
from tests.rig.chromium import chromium

pytestmark = pytest.mark.slow


@pytest.fixture
async def tab(tmp_path):
    async with chromium(tmp_path / "chromium") as opened:
        yield opened


async def test_the_page_stays_fresh_by_itself_and_its_policy_forbids_nothing_of_its_own(open_page, tab):
    running, browser = await open_page()
    await tab.look(width=1200, height=900)
    await tab.open(browser.url + "/")
    assert await tab.run("document.querySelector('h1').textContent.includes('All is well')")
    assert not await tab.run(f"document.body.textContent.includes('{STUDY}')")
    await running.ask(STUDY)
    await tab.until(f"document.body.textContent.includes('{STUDY}')")
    assert tab.complaints == []
