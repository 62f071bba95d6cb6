"""The page of a running gateway: what it says, who it says it to, and what it lets a browser do."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

import gateway.page
from gateway.alerts import Alert, end_alert, raise_alert
from gateway.journal.events import EventKind, latest
from tests.page.conftest import SAMPLE, STUDY, USERS

ROOT = Path(gateway.page.__file__).parent


async def test_the_first_screen_says_that_all_is_well_and_shows_every_part(open_page):
    running, browser = await open_page()
    await running.ask(STUDY)
    status, text = await browser.get("/")
    assert status == 200
    assert "All is well." in text
    for part in ("simulator", "Avara", "Store", "DICOM listener", "Journal", "Disk", "Loops"):
        assert re.search(rf"<h3>.*{part}</h3>", text), part
    assert re.search(r"answers in \d+ ms", text)
    assert f"complete: {len(SAMPLE)} instances from PACS simulator" in text


async def test_a_pacs_that_does_not_answer_is_the_sentence_with_what_to_do_and_health_agrees(open_page, simulator):
    running, browser = await open_page()
    simulator.stop()
    async with asyncio.timeout(60):
        # Three failures in a row say it; an echo that was under way as the PACS stopped may end well after the first.
        while "PACS simulator does not answer" not in (await browser.get("/parts/front"))[1]:
            await running.ask(STUDY)
            await running.quiet()
    _, text = await browser.get("/")
    assert "What to do" in text
    assert "a firewall" in text
    async with running.http.get(f"http://127.0.0.1:{running.config.http.port}/health") as health:
        assert (await health.json())["pacs"] == {"simulator": "not answering"}


async def test_the_journey_of_a_study_is_found_by_one_search(open_page):
    running, browser = await open_page()
    await running.ask(STUDY, "stu_42")
    _, text = await browser.get("/search?q=stu_42")
    assert STUDY in text
    assert "authorized" in text
    _, text = await browser.get("/search?q=1.9.9.9")
    assert "Nothing" in text


async def test_a_study_that_was_there_is_told_from_one_that_had_to_be_fetched(open_page):
    running, browser = await open_page()
    await running.ask(STUDY)
    _, text = await browser.get("/studies")
    assert (text.count('"chip cold"'), text.count('"chip warm"')) == (1, 0)
    answer = await running.ask(STUDY)
    assert "cached" not in answer
    _, text = await browser.get("/studies")
    assert (text.count('"chip cold"'), text.count('"chip warm"')) == (1, 1)


async def test_alerts_are_shown_with_how_long_they_stood(open_page):
    running, browser = await open_page()
    journal = running.parts.journal
    assert "Nobody was alerted" in (await browser.get("/alerts"))[1]
    for kind in ("disk.low", "pacs.away"):
        alert = Alert(kind, "it", f"<{kind}> is wrong", "Mend it.", journal.clock.now() - 7200, lasts=True)
        await journal.run(lambda c, alert=alert: raise_alert(c, [], alert))
    over = dataclasses.replace(alert, at=journal.clock.now())
    await journal.run(lambda c: end_alert(c, [], over))
    _, text = await browser.get("/alerts")
    stands, ended = text.index("&lt;disk.low&gt; is wrong. Mend it."), text.index("&lt;pacs.away&gt; is wrong")
    assert stands < ended
    assert "for 2 h" in text[stands:ended]
    assert "after 2 h" in text[ended:]


async def test_whoever_has_not_logged_in_sees_the_login_alone(open_page):
    _, browser = await open_page(users=USERS)
    for path in ("/", "/studies", "/jobs", "/jobs/1", "/alerts", "/search?q=1"):
        assert (await browser.get(path))[0] == 303
        assert browser.headers["Location"] == "/login"
    assert (await browser.get("/parts/front"))[0] == 204
    assert browser.headers["HX-Redirect"] == "/login"
    assert await browser.log_in("ann", "wrong") == 401
    assert await browser.log_in("ann") == 303
    cookie = browser.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert (await browser.get("/"))[0] == 200
    assert (await browser.post("/logout", {"token": await browser.token()}))[0] == 303
    assert (await browser.get("/"))[0] == 303


async def test_a_form_of_another_site_or_without_its_token_does_nothing(open_page):
    _, browser = await open_page(users=USERS)
    await browser.log_in("ann")
    token = await browser.token()
    assert (await browser.post("/logout", {}))[0] == 403
    assert (await browser.post("/logout", {"token": "0" * 64}))[0] == 403
    assert (await browser.post("/logout", {"token": token}, Origin="https://evil.example"))[0] == 403
    assert (await browser.post("/logout", {"token": token}, **{"Sec-Fetch-Site": "cross-site"}))[0] == 403
    assert (await browser.get("/"))[0] == 200


async def test_a_name_of_elsewhere_that_leads_to_this_machine_is_turned_away(open_page):
    _, browser = await open_page()
    for host in ("evil.example", "evil.example:80", "[::1", "127.0.0.1.evil.example"):
        assert (await browser.get("/", Host=host))[0] == 421
    for host in ("localhost", "127.0.0.1:9465", "[::1]:9465"):
        assert (await browser.get("/", Host=host))[0] == 200


async def test_a_proxys_word_counts_from_its_address_alone(open_page):
    _, browser = await open_page(proxy={"addresses": ["127.0.0.1"], "operators": ["ann"]})
    assert (await browser.get("/"))[0] == 403
    status, text = await browser.get("/", **{"X-Remote-User": "ann", "X-Forwarded-For": "198.51.100.7"})
    assert status == 200
    assert "operator" in text


async def test_a_stranger_cannot_name_themselves_where_the_proxy_is_elsewhere(open_page):
    _, browser = await open_page(proxy={"addresses": ["10.9.9.9"]})
    told = {"X-Remote-User": "ann", "X-Forwarded-For": "10.9.9.9"}
    assert (await browser.get("/", **told))[0] == 403


@pytest.mark.parametrize("path", ["/", "/login", "/static/page.css", "/nothing", "/jobs/99"])
async def test_every_answer_forbids_what_is_not_ours(open_page, path):
    _, browser = await open_page()
    await browser.get(path)
    policy = browser.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # By no-referrer, a browser would send the page's own forms as if they were nobody's.
    assert browser.headers["Referrer-Policy"] == "same-origin"
    assert browser.headers["X-Content-Type-Options"] == "nosniff"
    assert browser.headers["Cache-Control"] == "no-store"


def test_no_template_has_anything_inline_or_from_elsewhere():
    for template in (ROOT / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=\"/static/)|https?://|hx-on|\|\s*safe", text
        ), template


async def test_what_strangers_write_is_shown_and_not_run(open_page):
    _, browser = await open_page()
    _, text = await browser.get("/search?q=<script>alert(1)</script>\"'")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


async def test_what_many_who_look_have_written_at_once_is_kept_once(open_page):
    running, _ = await open_page()
    events = running.parts.events
    for n in range(20):
        events.note(EventKind.OPERATOR, f"event {n}", [f"job:{n}"])
    await asyncio.gather(*(events.flush() for _ in range(5)))
    kept = await running.parts.journal.run(lambda c: latest(c, EventKind.OPERATOR, 100))
    assert [e.text for e in kept] == [f"event {n}" for n in range(20)]
