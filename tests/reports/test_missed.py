"""No report is missed: what Avara has signed and no webhook brought is fetched, once, and told of. The API is a
stand-in, and looks are taken by hand, but for the one test that they are taken every quarter of an hour."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from gateway.avara.api import ApiRefused, ApiUnavailable
from gateway.journal import marks
from gateway.reports import missed
from gateway.reports.missed import CURSOR
from tests.clock import ManualClock, settle
from tests.rig.ports import free_port

from .conftest import PDF


def signed_at(minutes=60):
    return {"signedAt": (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()}


@pytest.fixture
async def watched(pacs, hospital_of, api, avara, monkeypatch):
    """A hospital whose gateway has been there for a day, and looks when it is told to."""

    async def ask(api_key, study_id, report_id, *, base_url, **_):
        return avara.url(f"/{report_id}.pdf")

    async def watch(self):
        return None

    monkeypatch.setattr("gateway.app.reports.ask_avara", ask)
    monkeypatch.setattr(missed.MissedReports, "watch", watch)
    hospital = await hospital_of(pacs, sections=api.section | {"metrics": {"port": free_port()}})
    await hospital.journal.run(lambda c: marks.put(c, missed.SINCE, str(c.now - 86400.0)))
    return hospital


async def look(hospital):
    return await hospital.gateway.parts.missed.look()


async def test_a_report_that_no_webhook_brought_is_fetched_once(watched, api, avara):
    api.sign("rep_9", reportPlainText="A fracture.", **signed_at())
    avara.documents["/rep_9.pdf"] = PDF
    assert await look(watched) == 1
    await watched.ended("report.store", "done")
    assert await look(watched) == 0
    assert len(await watched.jobs.list(kinds=["report.fetch"])) == 1


async def test_what_a_webhook_brought_is_not_fetched_again(watched, api):
    api.sign("rep_1", **signed_at())
    await watched.deliver()
    await watched.ended("report.store", "done")
    assert await look(watched) == 0


async def test_a_missed_critical_report_is_told_of_at_once(watched, api, avara, caplog):
    api.sign("rep_9", reportPlainText="An aneurysm.", isCritical=True, **signed_at())
    avara.documents["/rep_9.pdf"] = PDF
    await look(watched)
    assert "alert report.critical: Critical report: rep_9" in caplog.text
    assert "aneurysm" not in caplog.text


@pytest.mark.parametrize(
    "report",
    [
        lambda: {"status": "in_progress", **signed_at()},
        lambda: {"signedAt": None},
        lambda: signed_at(minutes=1),
        lambda: signed_at(minutes=3 * 24 * 60),
    ],
    ids=["in progress", "not signed", "its webhook is on its way", "before this gateway was there"],
)
async def test_what_is_not_signed_or_just_now_or_before_our_time_is_left_alone(watched, api, report):
    api.sign("rep_9", **report())
    assert await look(watched) == 0
    assert await watched.jobs.list(kinds=["report.fetch"]) == []


async def test_every_page_is_looked_at_whatever_its_order_and_a_restart_goes_on_where_it_was(
    watched, api, avara, monkeypatch
):
    api.pages = 2
    for n in range(7):
        api.sign(f"rep_{n}", study_id=f"stu_{n}", reportPlainText="x", **signed_at())
        avara.documents[f"/rep_{n}.pdf"] = PDF
    monkeypatch.setattr(missed, "MAX_PAGES", 1)
    found = []
    for _ in range(4):
        found.append(await look(watched))
        again = missed.MissedReports(
            watched.gateway.parts.missed._api, journal=watched.journal, channels=[], added=lambda: None,
            clock=watched.gateway.parts.missed._clock,
        )  # fmt: skip
        watched.gateway.parts.missed = again  # as after a restart
    assert found == [2, 2, 2, 1]
    assert await watched.journal.run(lambda c: marks.get(c, CURSOR)) is None


async def test_an_api_that_fails_or_forgot_the_cursor_ends_nothing(watched, api, avara):
    api.sign("rep_9", **signed_at())
    avara.documents["/rep_9.pdf"] = PDF
    api.failing = {"studies": 503}
    with pytest.raises(ApiUnavailable):
        await look(watched)
    await watched.journal.run(lambda c: marks.put(c, CURSOR, "5"))
    api.failing = {"studies": 400}
    with pytest.raises(ApiRefused):
        await look(watched)
    api.failing = {}
    assert await look(watched) == 1


async def test_how_many_are_signed_stored_and_sent_is_told_once_a_day_and_to_prometheus(watched, api, avara, caplog):
    caplog.set_level(logging.INFO)
    api.sign("rep_1", **signed_at())
    await watched.deliver()
    await watched.ended("report.store", "done")
    api.sign("rep_9", study_id="stu_2", **signed_at(minutes=1))
    for _ in range(3):
        await look(watched)
    told = [r.getMessage() for r in caplog.records if "signed," in r.getMessage()]
    assert told == ["reports of studies of the last 7 days: 2 signed, 1 in a PACS, 0 in a RIS"]
    port = watched.gateway.config.metrics.port
    async with watched.gateway.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        said = await answer.text()
    for line in ('{where="signed"} 2.0', '{where="pacs"} 1.0', '{where="ris"} 0.0'):
        assert f"avara_gateway_reports{line}" in said


@pytest.mark.slow
async def test_a_look_is_taken_every_quarter_of_an_hour_and_one_that_fails_ends_nothing():
    clock, looks = ManualClock(), []

    class Looks(missed.MissedReports):
        async def look(self):
            looks.append(clock.monotonic())
            if len(looks) == 2:
                raise ApiUnavailable("away")
            return 0

    watching = asyncio.create_task(Looks(None, journal=None, channels=[], added=None, clock=clock).watch())
    try:
        await settle()
        assert len(looks) == 1
        await clock.pass_time(14 * 60, step=60)
        assert len(looks) == 1
        await clock.pass_time(61 * 60 - 14 * 60, step=60)
        assert [b - a for a, b in pairwise(looks)] == [900.0] * 4
    finally:
        watching.cancel()
