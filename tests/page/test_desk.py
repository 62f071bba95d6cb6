"""What an operator does on the page: sees whose a held job is and what it is, and decides; a viewer does not."""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets

import pytest
from click.testing import CliRunner
from PIL import Image
from pydicom import dcmread

from gateway.captures.jobs import CheckUpload
from gateway.cli import main
from gateway.demo.sample import sample_capture, small_pdf
from gateway.journal import Jobs, jobs
from gateway.journal.events import EventKind, latest
from gateway.reports import FETCH, FetchReport
from tests.conftest import ended
from tests.page.conftest import STUDY, USERS
from tests.page.test_preview import pdf_of

OTHER = "SOMEBODY ELSE"


async def held_capture(running):
    """A capture of another patient's, which waits."""
    _, answer = await running.post(
        {
            "id": f"whe_{secrets.token_hex(16)}",
            "type": "secondary_capture.access_requested",
            "data": {"studyId": "stu_1", "studyInstanceUid": STUDY},
        }
    )
    capture = sample_capture(STUDY, PatientID=OTHER)
    async with running.http.put(answer["uploadUrls"][0], data=capture.content) as put:
        assert put.status == 200
    [job] = await ended(Jobs(running.parts.journal), "capture.check", "quarantined")
    return job.id


async def noted(running):
    await running.parts.events.flush()
    return [e.text for e in await running.parts.journal.run(lambda c: latest(c, EventKind.OPERATOR, 50))]


@pytest.fixture
async def held(open_page):
    running, browser = await open_page(users=USERS)
    number = await held_capture(running)
    await browser.log_in("ann")
    return running, browser, number


async def test_a_held_job_speaks_of_its_study_and_the_fault_and_of_no_patient_until_asked(held):
    running, browser, number = held
    _, listed = await browser.get("/jobs")
    _, text = await browser.get(f"/jobs/{number}")
    for shown in (listed, text):
        assert STUDY in shown
        assert "its patient is not the study" in shown
        assert OTHER not in shown
        assert "DEMO" not in shown
    slot = (await Jobs(running.parts.journal).get(number)).read(CheckUpload).slot
    assert slot not in text
    assert await noted(running) == []


async def test_whose_it_is_and_what_it_says_is_shown_when_asked_for_and_that_is_noted(held):
    running, browser, number = held
    status, text = await browser.post(f"/jobs/{number}/patient", {"token": await browser.token()})
    assert status == 200
    assert OTHER in text
    assert "DEMO-1" in text
    assert "Patient ID" in text
    [said] = await noted(running)
    assert said == f"job {number}: ann looked at whose it is, on the page"
    _, found = await browser.get(f"/search?q={number}")
    assert "ann looked at whose it is" in found


async def test_what_somebody_does_on_the_page_is_in_the_audit_trail_with_their_name(held):
    running, browser, number = held
    token = await browser.token()
    await browser.post(f"/jobs/{number}/patient", {"token": token})
    await browser.post(f"/jobs/{number}/discard", {"token": token, "why": "a test"})
    await running.parts.trail.flush()
    [file] = (running.config.state_dir / "audit").glob("*.jsonl")
    told = [entry for entry in map(json.loads, file.read_text().splitlines()) if entry["what"] == "operator"]
    assert [entry["did"] for entry in told] == ["looked at whose it is", "discard"]
    assert all(entry["by"] == "ann, on the page" and entry["jobs"] == [number] for entry in told)
    assert OTHER not in file.read_text()


async def test_who_was_shown_what_on_the_page_is_in_the_audit_trail(held):
    running, browser, number = held
    assert await browser.log_in("ann", "not it") == 401
    await browser.get(f"/jobs/{number}")
    await browser.get("/search?q=DEMO-001")
    await running.parts.trail.flush()
    [file] = (running.config.state_dir / "audit").glob("*.jsonl")
    told = [json.loads(line) for line in file.read_text().splitlines()]
    looked, searched = [entry for entry in told if entry["what"] == "operator"]
    assert (looked["did"], looked["jobs"], looked["study"]) == ("looked at the job", [number], STUDY)
    assert (searched["did"], searched["by"]) == ("search", "ann, on the page")
    assert searched["searched"] == running.parts.events.hidden("DEMO-001")
    assert searched["remote"] == "127.0.0.1"
    assert [entry["by"] for entry in told if entry["what"] == "login"] == ["ann"]
    assert [entry["remote"] for entry in told if entry["what"] == "login_refused"] == ["127.0.0.1"]
    assert "DEMO-001" not in file.read_text()


async def test_the_picture_is_a_jpeg_of_its_own_and_not_the_object(held):
    running, browser, number = held
    status, _ = await browser.get(f"/jobs/{number}/picture")
    assert status == 200
    assert browser.headers["Content-Type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(browser.body)).size) <= 1000
    assert any("looked at a picture" in said for said in await noted(running))


async def test_the_object_is_saved_as_it_was_uploaded(held):
    running, browser, number = held
    status, _ = await browser.post(f"/jobs/{number}/object", {"token": await browser.token()})
    assert status == 200
    assert browser.headers["Content-Disposition"] == f'attachment; filename="job-{number}.dcm"'
    assert dcmread(io.BytesIO(browser.body)).PatientID == OTHER
    assert any("saved its object" in said for said in await noted(running))


async def test_accepting_takes_the_pacss_patient_for_this_one_and_keeps_what_it_said(held, simulator):
    running, browser, number = held
    status, _ = await browser.post(f"/jobs/{number}/accept", {"token": await browser.token()})
    assert status == 303
    await ended(Jobs(running.parts.journal), "capture.store", "done")
    kept = [dcmread(io.BytesIO(content)) for content in simulator.instances(STUDY).values()]
    [stored] = [d for d in kept if "OriginalAttributesSequence" in d]
    assert stored.PatientID != OTHER
    [former] = stored.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert former.PatientID == OTHER
    _, text = await browser.get(f"/jobs/{number}")
    assert "an operator (ann, on the page) has it take the PACS&#39;s patient" in text
    # For this one alone: the next is held again.
    await held_capture(running)


async def test_accepting_by_command_does_the_same_and_only_where_the_patient_is_the_fault(held, tmp_path):
    running, _, number = held
    config = next(tmp_path.glob("gateway-*.yaml"))

    def command(*arguments):
        return CliRunner().invoke(main, ["jobs", *arguments, "-c", str(config)])

    done = await asyncio.to_thread(command, "accept", str(number))
    assert done.exit_code == 0, done.output
    await ended(Jobs(running.parts.journal), "capture.store", "done")
    again = await asyncio.to_thread(command, "accept", str(number))
    assert again.exit_code == 1
    assert "no capture that waits since its patient" in again.output


async def test_discarding_needs_a_reason_and_keeps_it(held):
    running, browser, number = held
    token = await browser.token()
    status, text = await browser.post(f"/jobs/{number}/discard", {"token": token, "why": "  "})
    assert (status, "say why" in text) == (409, True)
    assert (await Jobs(running.parts.journal).get(number)).state.value == "quarantined"
    assert (await browser.post(f"/jobs/{number}/discard", {"token": token, "why": "wrong patient"}))[0] == 303
    _, text = await browser.get(f"/jobs/{number}")
    assert "by an operator (ann, on the page): wrong patient" in text


async def test_what_cannot_be_done_to_a_job_is_said_and_changes_nothing(held):
    running, browser, number = held
    token = await browser.token()
    status, text = await browser.post(f"/jobs/{number}/assign", {"token": token, "study": "1.2.3"})
    assert (status, "no report that waits for its study" in text) == (409, True)
    status, text = await browser.post(f"/jobs/{number}/assign", {"token": token, "study": "1.2.*"})
    assert (status, "no PACS has a study under that" in text) == (409, True)
    assert (await browser.post("/jobs/999/retry", {"token": token}))[0] == 404
    assert (await Jobs(running.parts.journal).get(number)).state.value == "quarantined"


@pytest.mark.parametrize("who", ["bob", None])
async def test_a_viewer_sees_no_patient_and_decides_nothing(held, who):
    running, browser, number = held
    await browser.post("/logout", {"token": await browser.token()})
    if who is None:
        for what in ("patient", "object", "retry", "accept", "discard", "assign"):
            assert (await browser.post(f"/jobs/{number}/{what}", {"token": ""}))[0] == 303, what
        assert browser.headers["Location"] == "/login"
        assert (await browser.get(f"/jobs/{number}/picture"))[0] == 303
    else:
        await browser.log_in(who)
        token = await browser.token()
        for what in ("patient", "object", "retry", "accept", "discard", "assign"):
            fields = {"token": token, "why": "x", "study": "1.2.3"}
            status, text = await browser.post(f"/jobs/{number}/{what}", fields)
            assert (status, OTHER in text) == (403, False), what
        assert (await browser.get(f"/jobs/{number}/picture"))[0] == 403
    assert (await Jobs(running.parts.journal).get(number)).state.value == "quarantined"
    assert await noted(running) == []


async def held_report(running, pdf):
    """A report that waits."""
    await running.parts.store.put("reports/held.pdf", pdf, content_type="application/pdf")
    report = FetchReport("rep_1", "stu_1", STUDY, False, 0.0, key="reports/held.pdf")
    held, _ = await running.parts.journal.run(lambda c: jobs.add(c, FETCH, "rep_1 x", report, quarantined="no"))
    return held


async def test_each_page_of_a_held_reports_pdf_can_be_seen_and_that_is_noted(open_page):
    running, browser = await open_page(users=USERS)
    held = await held_report(running, pdf_of(3))
    await browser.log_in("ann")
    _, text = await browser.post(f"/jobs/{held.id}/patient", {"token": await browser.token()})
    links = re.findall(rf'href="(/jobs/{held.id}/picture\?page=\d)"', text)
    assert links == [f"/jobs/{held.id}/picture?page={n}" for n in range(3)]
    assert (await browser.get(links[2]))[0] == 200
    width, height = Image.open(io.BytesIO(browser.body)).size
    assert round(width / height) == 3  # as the third is
    assert (await browser.get(f"/jobs/{held.id}/picture?page=3"))[0] == 404
    assert "ann looked at a picture of it, page 3, on the page" in " ".join(await noted(running))


async def test_a_held_reports_pdf_is_shown_as_a_picture_of_its_page_when_asked_for_and_that_is_noted(open_page):
    running, browser = await open_page(users=USERS)
    held = await held_report(running, small_pdf("Of somebody"))
    await browser.log_in("ann")
    _, text = await browser.get(f"/jobs/{held.id}")
    assert f"/jobs/{held.id}/picture" not in text
    _, text = await browser.post(f"/jobs/{held.id}/patient", {"token": await browser.token()})
    assert f'src="/jobs/{held.id}/picture"' in text
    status, _ = await browser.get(f"/jobs/{held.id}/picture")
    assert (status, browser.headers["Content-Type"]) == (200, "image/jpeg")
    assert "default-src 'none'" in browser.headers["Content-Security-Policy"]
    assert browser.headers["X-Content-Type-Options"] == "nosniff"
    assert min(Image.open(io.BytesIO(browser.body)).convert("L").getextrema()) < 128  # something is written on it
    assert [said.partition(": ")[2] for said in await noted(running)] == [
        "ann looked at whose it is, on the page", "ann looked at a picture of it, on the page",
    ]  # fmt: skip
    await browser.log_in("bob")
    assert (await browser.get(f"/jobs/{held.id}/picture"))[0] == 403
