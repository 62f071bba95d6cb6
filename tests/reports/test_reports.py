"""From ``report.delivered`` to where the hospital looks: kept, once, by version, with faults, and for Orthanc."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import sqlite3
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydicom import dcmread

from gateway.app import Misconfigured
from gateway.avara.signature import sign
from gateway.demo.sample import sample_study, small_pdf
from gateway.journal import JobState, JournalError
from gateway.objects import ObjectStore, StoreUnavailable
from gateway.reports.folder import deliver as folder_deliver
from gateway.reports.folder.deliver import Folder
from gateway.reports.jobs import FetchReport
from tests.conftest import KEY
from tests.rig.ports import free_port

from .conftest import PDF, SAMPLE, STUDY

PDF_CLASS, SR_CLASS = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.88.11"
SAMPLE_UIDS = {i.sop_instance_uid for i in SAMPLE}


def reports_in(pacs, study=STUDY):
    """What a PACS simulator holds of a study that was not there before."""
    return [dcmread(io.BytesIO(c)) for uid, c in pacs.instances(study).items() if uid not in SAMPLE_UIDS]


def files_with(marker, folder):
    """The files in it, at whatever depth, in which *marker* stands."""
    return [path for path in folder.rglob("*") if path.is_file() and marker in path.read_bytes()]


def document(d):
    return d.EncapsulatedDocument[: d.EncapsulatedDocumentLength]


# -- acknowledging


async def test_it_is_acknowledged_in_time_while_the_pacs_and_the_internet_are_down(pacs, hospital):
    hospital.avara.status["/report.pdf"] = 503
    pacs.behaviour.refuse_calling_ae = True
    began = time.monotonic()
    await hospital.deliver()
    assert time.monotonic() - began < 2
    (job,) = await hospital.jobs.list(kinds=["report.fetch"])
    assert job.read(FetchReport).report == "rep_1"
    pacs.behaviour.refuse_calling_ae = False


async def test_what_cannot_be_kept_is_not_acknowledged(hospital, monkeypatch):
    async def fails(call):
        raise JournalError("its disk is full")

    monkeypatch.setattr(hospital.journal, "run", fails)
    body = json.dumps({
        "id": "whe_1", "type": "report.delivered",
        "data": {"studyId": "s", "reportId": "r", "isCritical": False, "presignedUrl": hospital.avara.url()},
    }).encode()  # fmt: skip
    async with hospital.gateway.http.post(hospital.gateway.url, data=body, headers=sign(KEY, "m", body)) as answer:
        assert answer.status == 503
        assert "disk" not in await answer.text()


async def test_a_gateway_that_takes_no_reports_never_acknowledges_one(pacs, hospital_of):
    hospital = await hospital_of(pacs, enabled=False)
    with pytest.raises(AssertionError, match="501"):
        await hospital.deliver()


# -- the way into the PACS


async def test_the_report_is_in_the_pacs_with_the_studys_own_attributes(pacs, hospital):
    await hospital.deliver(isCritical=True)
    await hospital.ended("report.store", "done")
    (d,) = reports_in(pacs)
    assert d.SOPClassUID == PDF_CLASS
    assert document(d) == PDF
    assert (d.PatientID, d.PatientName, d.PatientBirthDate, d.PatientSex) == (
        "DEMO-001",
        "Müller^Renée",
        "19700101",
        "F",
    )
    assert (d.AccessionNumber, d.StudyID, d.StudyDate, d.StudyInstanceUID) == ("DEMO-1", "DEMO", "20260105", STUDY)
    assert d.Modality == "DOC"
    assert "CRITICAL" in d.DocumentTitle


async def test_the_next_access_shows_the_report(pacs, hospital):
    await hospital.gateway.ask(STUDY)
    await hospital.deliver()
    await hospital.ended("report.store", "done")
    answer = await hospital.gateway.ask(STUDY)
    assert len(answer["urls"]) == len(SAMPLE) + 1
    pdfs = [await hospital.gateway.open(m["url"]) for m in answer["mediaUrls"] if m["mimeType"] == "application/pdf"]
    assert PDF in pdfs


async def test_with_the_text_as_a_structured_report_both_are_stored(pacs, hospital_of):
    hospital = await hospital_of(pacs, pacs={"structured_report": True})
    await hospital.deliver(plainText="Größe unverändert.")
    await hospital.ended("report.store", "done", count=2)
    assert {d.SOPClassUID for d in reports_in(pacs)} == {PDF_CLASS, SR_CLASS}


async def test_what_is_done_keeps_nothing_of_the_patient_and_our_copy_goes(pacs, hospital_of):
    hospital = await hospital_of(pacs, keep_after_delivered="1s")
    state = hospital.gateway.config.state_dir
    await hospital.deliver(plainText="Very private finding. " * 500)
    assert files_with(b"private", state)
    await hospital.ended("object.clean", "done", count=2)
    async with asyncio.timeout(10):
        while [o for p in ("reports/", "outbox/") async for o in hospital.gateway.parts.store.list(p)]:
            await asyncio.sleep(0.1)
    for job in await hospital.jobs.list():
        assert "private" not in job.kept
        assert "X-Amz-Signature" not in job.kept
    # Nor has any table of the journal it, what happened to jobs and the events of `trace` included.
    await hospital.gateway.parts.events.flush()
    with contextlib.closing(sqlite3.connect(state / "journal.db")) as journal:
        tables = "\n".join(journal.iterdump())
    assert "report.delivered" in tables
    assert "private" not in tables
    assert "X-Amz-Signature" not in tables
    # Nor, after the night, any file.
    await hospital.gateway.parts.journal.tidy()
    assert files_with(b"private", state) == files_with(b"X-Amz-Signature", state) == []


# -- once, and versions


async def test_the_same_webhook_twice_is_one_report(pacs, hospital):
    for _ in range(3):
        await hospital.deliver(webhook_id="msg_1")
    await hospital.ended("report.store", "done")
    assert len(await hospital.jobs.list(kinds=["report.fetch"])) == 1
    assert len(reports_in(pacs)) == 1


async def test_the_same_report_by_another_webhook_is_delivered_once(pacs, hospital):
    await hospital.deliver()
    await hospital.ended("report.store", "done")
    await hospital.deliver()
    jobs = await hospital.ended("report.fetch", "done", count=2)
    assert (await hospital.said(jobs[0]))[-1] == "done: the same as version 1, which is delivered once"
    assert len(pacs.storage.received) == 1


async def test_a_report_with_new_content_is_a_new_version_that_names_the_one_before(pacs, hospital):
    await hospital.deliver()
    await hospital.ended("report.store", "done")
    hospital.avara.documents["/report.pdf"] = addendum = small_pdf("An addendum")
    await hospital.deliver(plainText="No fracture. Addendum: a fracture.")
    await hospital.ended("report.store", "done", count=2)
    first, second = sorted(reports_in(pacs), key=lambda d: int(d.InstanceNumber))
    assert document(second) == addendum
    assert "version 2" in second.DocumentTitle
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


# -- which study it is


async def test_a_study_that_was_opened_before_is_known_by_avaras_id(pacs, hospital):
    await hospital.gateway.ask(STUDY, "stu_77")
    await hospital.deliver(studyId="stu_77", studyInstanceUid=None)
    await hospital.ended("report.store", "done")
    assert len(reports_in(pacs)) == 1


async def test_a_report_of_an_unknown_study_waits_with_its_pdf_until_somebody_says_which_it_is(pacs, hospital):
    await hospital.deliver(studyId="stu_new", studyInstanceUid=None)
    async with asyncio.timeout(15):
        while not (job := (await hospital.jobs.list(kinds=["report.fetch"]))[0]).last_error:
            await asyncio.sleep(0.05)
        while job.state is JobState.RUNNING:  # it is tried again, and cannot be assigned meanwhile
            await asyncio.sleep(0.05)
            job = (await hospital.jobs.list(kinds=["report.fetch"]))[0]
    assert f"avara-gateway jobs assign {job.id} STUDY_INSTANCE_UID" in job.last_error
    hospital.avara.status["/report.pdf"] = 403  # its URL dies meanwhile
    from gateway.reports.release import assign

    await hospital.journal.run(lambda c: assign(c, job.id, STUDY))
    await hospital.ended("report.store", "done")
    assert document(reports_in(pacs)[0]) == PDF


# -- PDFs that cannot be had


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (403, PDF, "the report's URL has expired"),
        (404, PDF, "the report's URL has expired"),
        (200, b"<html>log in</html>", "does not begin with %PDF-"),
        (200, PDF[:300], "is cut off"),
        (200, b"%PDF-1.4\nnonsense\n%%EOF", "is broken"),
    ],
)
async def test_without_its_pdf_the_text_goes_out_and_an_operator_is_waited_for(pacs, hospital, status, content, said):
    hospital.avara.status["/report.pdf"] = status
    hospital.avara.documents["/report.pdf"] = content
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "quarantined")
    assert said in job.last_error
    await hospital.ended("report.store", "done")
    (d,) = reports_in(pacs)
    assert d.SOPClassUID == SR_CLASS
    assert "No fracture." in str(d)


async def test_a_host_that_is_not_allowed_is_never_asked_and_the_fix_is_named(pacs, hospital_of):
    hospital = await hospital_of(pacs, allowed_hosts=["*.example.com"])
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "quarantined")
    assert "add it to reports.allowed_hosts" in job.last_error
    assert "X-Amz-Signature" not in job.last_error
    assert hospital.avara.asked == []


async def test_a_server_that_fails_for_a_while_is_asked_again(pacs, hospital):
    hospital.avara.status["/report.pdf"] = 503
    await hospital.deliver()
    async with asyncio.timeout(15):
        while len(hospital.avara.asked) < 2:
            await asyncio.sleep(0.05)
    hospital.avara.status.clear()
    await hospital.ended("report.store", "done")
    assert document(reports_in(pacs)[0]) == PDF


async def test_an_operators_retry_brings_the_pdf_as_a_later_version(pacs, hospital):
    hospital.avara.status["/report.pdf"] = 404
    await hospital.deliver()
    (job,) = await hospital.ended("report.fetch", "quarantined")
    hospital.avara.status.clear()
    await hospital.jobs.retry(job.id)
    await hospital.ended("report.fetch", "done")
    await hospital.ended("report.store", "done", count=2)
    assert {d.SOPClassUID for d in reports_in(pacs)} == {PDF_CLASS, SR_CLASS}


@pytest.mark.parametrize("blank", [" ", "\r\n\t ", "\ufeff", "\0", "\u200b\u2060", "\u00a0\u2028\0 "])
async def test_a_text_without_a_word_is_no_text_and_keeps_nothing_from_the_pacs(pacs, hospital_of, blank):
    hospital = await hospital_of(pacs, pacs={"structured_report": True})
    await hospital.deliver(plainText=blank)
    await hospital.ended("report.store", "done")
    await hospital.ended("report.pacs", "done")
    assert [d.SOPClassUID for d in reports_in(pacs)] == [PDF_CLASS]


# -- PACS and folders that fail


async def test_a_pacs_that_is_down_for_a_while_gets_it_once_it_is_back(pacs, hospital):
    pacs.storage.behaviour.statuses = [0xA700, 0xA700]
    await hospital.deliver()
    (job,) = await hospital.ended("report.store", "done")
    assert "A700" in " ".join(await hospital.said(job))
    assert len(reports_in(pacs)) == 1


async def test_a_study_that_is_not_in_the_pacs_yet_is_waited_for(pacs, hospital):
    study, sample = sample_study()
    await hospital.deliver(studyInstanceUid=study)
    async with asyncio.timeout(15):
        while not any(j.last_error for j in await hospital.jobs.list(kinds=["report.pacs"])):
            await asyncio.sleep(0.05)
    pacs.add(*(i.content for i in sample))
    await hospital.ended("report.store", "done")


async def test_a_folder_gets_it_and_one_that_is_missing_keeps_no_other_from_it(pacs, hospital_of, tmp_path):
    (tmp_path / "there").mkdir()
    folders = [{"name": n, "path": str(tmp_path / n)} for n in ("there", "missing")]
    hospital = await hospital_of(pacs, folders=folders)
    await hospital.deliver()
    await hospital.ended("report.folder", "done")
    await hospital.ended("report.store", "done")
    sidecar = json.loads(next((tmp_path / "there").glob("*.json")).read_text())
    assert sidecar["accessionNumber"] == "DEMO-1"
    assert next((tmp_path / "there").glob("*.pdf")).read_bytes() == PDF
    async with asyncio.timeout(10):
        while not any(j.last_error for j in await hospital.jobs.list([JobState.WAITING], ["report.folder"])):
            await asyncio.sleep(0.05)
    (tmp_path / "missing").mkdir()
    (job,) = await hospital.jobs.list([JobState.WAITING], ["report.folder"])
    await hospital.jobs.retry(job.id)
    await hospital.ended("report.folder", "done", count=2)


async def test_a_share_that_hangs_is_given_up_and_holds_nothing_else_up(pacs, hospital_of, tmp_path, monkeypatch):
    hung = threading.Event()
    (tmp_path / "share").mkdir()
    monkeypatch.setattr("gateway.reports.folder.deliver.FOLDER_WITHIN", 0.3)
    monkeypatch.setattr("gateway.reports.folder.deliver.write_report", lambda *_: hung.wait(30))
    hospital = await hospital_of(pacs, folders=[{"name": "share", "path": str(tmp_path / "share")}])
    try:
        for n in range(3):
            await hospital.deliver(reportId=f"rep_{n}")
        await hospital.ended("report.store", "done", count=3)
        async with asyncio.timeout(15):
            while not all(j.last_error for j in await hospital.jobs.list(kinds=["report.folder"])):
                await asyncio.sleep(0.05)
        (job, *_) = await hospital.jobs.list(kinds=["report.folder"])
        assert "the share that it is on hangs" in job.last_error
    finally:
        hung.set()


async def test_a_share_that_hangs_keeps_no_other_folder_from_its_reports(tmp_path, monkeypatch):
    hung = threading.Event()
    check = folder_deliver.check_folder
    monkeypatch.setattr(folder_deliver, "check_folder", lambda d: hung.wait(60) if d.name == "hangs" else check(d))
    hangs, works = (Folder(name, tmp_path / name) for name in ("hangs", "works"))
    (tmp_path / "works").mkdir()
    asked = [asyncio.create_task(hangs.check()) for _ in range(50)]
    try:
        for _ in range(50):
            await works.check()
        assert not any(task.done() for task in asked)
        assert sum(t.name == "folder hangs" for t in threading.enumerate()) == folder_deliver.AT_ONCE
    finally:
        hung.set()
        await asyncio.gather(*asked)


@pytest.mark.slow
async def test_a_call_that_hangs_for_ever_does_not_keep_the_process_from_ending():
    script = """
import asyncio, threading
from gateway.reports.folder import deliver
async def main():
    deliver.FOLDER_WITHIN = 0.1
    deliver.check_folder = lambda _: threading.Event().wait()
    try:
        await deliver.Folder("share", "/share").check()
    except deliver.FolderUnavailable as e:
        print(e)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0
    assert b"the share that it is on hangs" in said


async def test_check_proves_where_reports_go_and_tells_what_waits(pacs, hospital_of, tmp_path):
    (tmp_path / "there").mkdir()
    folders = [{"name": n, "path": str(tmp_path / n)} for n in ("there", "missing")]
    hospital = await hospital_of(pacs, folders=folders, hl7=[{"name": "ris", "host": "127.0.0.1", "port": free_port()}])
    hospital.avara.documents["/report.pdf"] = b"<html>"
    await hospital.deliver(plainText=None)
    await hospital.ended("report.fetch", "quarantined")
    results = {r.name: r async for r in hospital.gateway.checked()}
    assert results["report folder there"].ok is True
    assert "mount the share" in results["report folder missing"].text
    assert "cannot be reached" in results["HL7 receiver ris"].text
    assert results["jobs"].ok is None
    assert "1 wait for you" in results["jobs"].text
    assert list((tmp_path / "there").iterdir()) == []


# -- logs


async def test_nothing_of_the_patient_and_no_url_is_in_the_log(pacs, hospital, caplog):
    caplog.set_level("INFO")
    await hospital.deliver(isCritical=True, plainText="Aneurysm of Mrs. Müller.")
    await hospital.ended("report.store", "done")
    # The other sides run in this process, too, and log what they like.
    said = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("gateway"))
    assert "alert report.critical: Critical report: rep_1." in said
    for secret in ("Aneurysm", "Müller", "DEMO-001", "X-Amz-Signature"):
        assert secret not in said


# -- Orthanc


async def test_orthanc_holds_it_and_it_opens(orthanc, hospital_of):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    hospital = await hospital_of(orthanc, pacs={"structured_report": True, "storage_commitment": True})
    await hospital.deliver(studyInstanceUid=study)
    await hospital.ended("report.store", "done", count=2)
    held = [dcmread(io.BytesIO(c)) for c in (await orthanc.instances(study)).values()]
    (d,) = [
        d for d in held if d.SOPClassUID == PDF_CLASS and d.SOPInstanceUID not in {i.sop_instance_uid for i in sample}
    ]
    assert document(d) == PDF
    assert d.PatientName == "Müller^Renée"


async def test_orthanc_gets_it_by_stow_rs_where_that_is_how_it_is_stored_in(orthanc, hospital_of):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    by_web = {"dicomweb_url": orthanc.dicomweb_url, "store": "stow-rs"}
    hospital = await hospital_of(orthanc, pacs={"structured_report": True}, sections={"pacs_options": by_web})
    await hospital.deliver(studyInstanceUid=study)
    jobs = await hospital.ended("report.store", "done", count=2)
    told = [(await hospital.jobs.history(job.id))[-1].text for job in jobs]
    assert all(f"stored in PACS orthanc (DICOMweb at {orthanc.dicomweb_url})" in text for text in told)
    held = [dcmread(io.BytesIO(c)) for c in (await orthanc.instances(study)).values()]
    assert [document(d) for d in held if d.SOPClassUID == PDF_CLASS and document(d) == PDF] == [PDF]


# -- HL7


async def test_an_hl7_receiver_gets_it_and_one_that_is_down_keeps_no_other_from_it(pacs, hospital_of):
    taken = []

    async def receive(reader, writer):
        block = await reader.readuntil(b"\x1c\r")
        taken.append(block[1:-2].decode())
        identity = taken[-1].split("|")[9]
        ack = f"MSH|^~\\&|RIS||AVARA-GATEWAY||20260101||ACK|1|P|2.5.1\rMSA|AA|{identity}\r"
        writer.write(b"\x0b" + ack.encode() + b"\x1c\r")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receivers = [
        {"name": "ris", "host": "127.0.0.1", "port": port, "fields": {"PID-3.4": "HOSP"}},
        {"name": "down", "host": "127.0.0.1", "port": free_port()},
    ]
    async with server:
        hospital = await hospital_of(pacs, hl7=receivers)
        await hospital.deliver(isCritical=True, plainText="Größe: unverändert.")
        await hospital.ended("report.hl7", "done")
        await hospital.ended("report.store", "done")
    (message,) = taken
    assert "DEMO-001^^^HOSP" in message
    assert "DEMO-1" in message
    assert "Größe: unverändert." in message
    assert base64.b64encode(PDF).decode() in message
    assert "|AA|" in message
    (waiting,) = await hospital.jobs.list([JobState.WAITING], ["report.hl7"])
    assert "cannot be reached" in waiting.last_error


async def test_a_receiver_that_refuses_it_is_permanent_and_quotes_nobody(pacs, hospital_of, caplog):
    async def refuse(reader, writer):
        identity = (await reader.readuntil(b"\x1c\r")).split(b"|")[9].decode()
        ack = f"MSH|^~\\&|RIS||A||20260101||ACK|1|P|2.5.1\rMSA|AE|{identity}|Unknown patient Müller\r"
        writer.write(b"\x0b" + ack.encode() + b"\x1c\r")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        hospital = await hospital_of(pacs, hl7=[{"name": "ris", "host": "127.0.0.1", "port": port}])
        await hospital.deliver()
        (job,) = await hospital.ended("report.hl7", "quarantined")
    assert job.attempts == 1
    assert "AE" in job.last_error
    assert "Müller" not in "".join(r.getMessage() for r in caplog.records if r.name.startswith("gateway"))


async def test_a_wrong_field_is_told_at_the_start(pacs, hospital_of):
    with pytest.raises(Misconfigured, match=r"reports.hl7 of ris: .*OBR-99"):
        await hospital_of(pacs, hl7=[{"name": "ris", "host": "ris", "port": 1, "fields": {"OBR-99": "x"}}])


# -- alerts


@pytest.fixture
async def pager():
    """A receiver of alerts that fails as often as it is told to."""
    told, failures = [], []

    async def take(request):
        told.append((request.headers["Idempotency-Key"], await request.json()))
        return web.Response(status=failures.pop() if failures else 200)

    application = web.Application()
    application.router.add_post("/", take)
    async with TestServer(application, host="127.0.0.1") as server:
        yield SimpleNamespace(told=told, failures=failures, url=f"http://127.0.0.1:{server.port}/")


async def test_a_critical_report_is_told_at_once_before_its_pdf_is_in_and_again_until_it_is_taken(
    pacs, hospital_of, pager
):
    hospital = await hospital_of(pacs, sections={"alerts": {"webhook": {"url": pager.url}}})
    hospital.avara.status["/report.pdf"] = 503
    pager.failures.append(500)
    await hospital.deliver(isCritical=True, plainText="Aneurysm of Mrs. Müller.")
    await hospital.ended("alert.send", "done")
    (first, told), (again, _) = pager.told
    assert first == again
    assert (told["kind"], told["reportId"], told["studyInstanceUid"]) == ("report.critical", "rep_1", STUDY)
    assert "Aneurysm" not in json.dumps(told)
    assert hospital.gateway.parts.reports.critical == 1
    await hospital.deliver(isCritical=True, plainText="Aneurysm of Mrs. Müller.")
    await hospital.deliver(isCritical=True, plainText="Another aneurysm.")
    await hospital.ended("alert.send", "done", count=2)
    assert len(pager.told) == 3


async def test_what_waits_and_what_was_critical_is_counted_for_prometheus(pacs, hospital_of):
    port = free_port()
    hospital = await hospital_of(pacs, sections={"metrics": {"port": port}})
    hospital.avara.documents["/report.pdf"] = b"<html>"
    await hospital.deliver(isCritical=True, plainText=None)
    await hospital.ended("report.fetch", "quarantined")
    async with hospital.gateway.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        said = await answer.text()
    assert 'avara_gateway_jobs{kind="report.fetch",state="quarantined"} 1.0' in said
    assert "avara_gateway_jobs_quarantined 1.0" in said
    assert "avara_gateway_critical_reports_total 1.0" in said


async def test_a_dead_url_is_asked_for_anew_where_there_is_an_api_key(pacs, hospital_of, monkeypatch, api):
    asked = []

    async def ask(api_key, study_id, report_id, *, base_url, outbound):
        asked.append((api_key, study_id, report_id))
        return hospital.avara.url("/fresh.pdf")

    monkeypatch.setattr("gateway.app.reports.ask_avara", ask)
    hospital = await hospital_of(pacs, sections=api.section)
    hospital.avara.status["/report.pdf"] = 403
    hospital.avara.documents["/fresh.pdf"] = PDF
    await hospital.deliver()
    await hospital.ended("report.store", "done")
    assert asked == [(api.KEY, "stu_1", "rep_1")]
    assert document(reports_in(pacs)[0]) == PDF


async def test_people_are_told_of_a_report_that_waits_for_them(pacs, hospital_of, pager):
    hospital = await hospital_of(pacs, sections={"alerts": {"webhook": {"url": pager.url}}})
    await hospital.deliver(studyId="stu_new", studyInstanceUid=None)
    await hospital.ended("alert.send", "done")
    hospital.avara.documents["/other.pdf"] = b"<html>"
    await hospital.deliver(reportId="rep_2", path="/other.pdf")
    await hospital.ended("alert.send", "done", count=2)
    assert {t["kind"] for _, t in pager.told} == {"report.unknown_study", "report.waiting"}


async def test_a_pdf_that_was_put_by_an_attempt_that_was_killed_is_not_left_behind(hospital, monkeypatch):
    store = hospital.gateway.parts.store
    put, put_before = ObjectStore.put, []

    async def dies_after_it(self, key, *args, **options):
        await put(self, key, *args, **options)
        if key.startswith("reports/") and not put_before:
            put_before.append(key)
            hospital.avara.documents["/report.pdf"] = small_pdf("The report, made anew")
            raise StoreUnavailable("killed")

    monkeypatch.setattr(ObjectStore, "put", dies_after_it)
    await hospital.deliver()
    await hospital.ended("report.fetch", "done")
    [first] = put_before
    async with asyncio.timeout(20):
        while first in [info.key async for info in store.list("reports/")]:
            await asyncio.sleep(0.1)
    assert [info.key async for info in store.list("reports/")] != []  # the one that is delivered, for a while
