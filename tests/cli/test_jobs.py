"""``jobs``: an operator sees what waits, why, and decides. Real processes on a real journal."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from gateway.app import state_dir
from gateway.captures.jobs import CheckUpload
from gateway.cli.common import operator
from gateway.journal import Jobs, JobState, Journal, jobs
from gateway.journal.desk import DISCARDED_KEPT_FOR
from gateway.outbox.jobs import StoreObject
from gateway.reports.jobs import DeliverReport, FetchReport

from .test_commands import run, write  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow

SPECIMEN = StoreObject(
    target="main", key="outbox/1.2.3.4/abc", size=1, sha256="abc", study_instance_uid="1.2.3", sop_class_uid="1.2",
    sop_instance_uid="1.2.3.4", transfer_syntax_uid="1.2.840.10008.1.2.1", source={"slot": "slot"},
)  # fmt: skip


@pytest.fixture
async def desk(write):  # noqa: F811
    """The configuration of a gateway, and its journal with a job that is held and one that is done."""
    path, document = write({"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": 104})
    directory = document["state_dir"]
    Path(directory).mkdir()
    journal = await Journal.open(f"sqlite:///{directory}/journal.db")

    def fill(c):
        held, _ = jobs.add(c, "capture.store", "1.2.3.4 main", SPECIMEN)
        jobs.end(c, held, JobState.QUARANTINED, "PACS main takes no such SOP class: enable it there")
        done, _ = jobs.add(c, "capture.check", "slot etag", CheckUpload("slot", None, 1))
        jobs.end(c, done, JobState.DONE, "checked")

    await journal.run(fill)
    yield path, journal
    await journal.close()


async def test_what_waits_for_an_operator_is_listed_with_its_reason_and_fails_a_monitor(desk):
    path, _ = desk
    code, out, _ = await run("jobs", "list", "-c", path)
    assert code == 1
    assert "quarantined" in out
    assert "PACS main takes no such SOP class: enable it there" in out
    assert "capture.check" not in out
    assert "1 shown; in all: 1 done, 1 quarantined" in out
    _, out, _ = await run("jobs", "list", "-c", path, "--all", "--json")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["done", "quarantined"]


async def test_a_job_is_shown_with_its_history_and_without_patient_data(desk):
    path, journal = desk
    code, out, _ = await run("jobs", "show", "-c", path, "1")
    assert code == 0
    assert "sop instance: 1.2.3.4" in out
    assert "added" in out
    assert "quarantined: PACS main takes no such SOP class" in out
    report, _ = await Jobs(journal).add(
        "report.hl7", "rep_1", DeliverReport("ris", "rep_1", "stu_1", "1.2.3", 1, False, 0.0, "Müller^Renée")
    )
    _, out, _ = await run("jobs", "show", "-c", path, report.id)
    assert "report: rep_1" in out
    assert "Müller" not in out
    _, out, _ = await run("jobs", "show", "-c", path, report.id, "--payload")
    assert "Müller" in out


async def test_a_retried_job_waits_for_a_worker_again(desk):
    path, journal = desk
    code, out, _ = await run("jobs", "retry", "-c", path, "--quarantined")
    assert (code, out) == (0, "job 1 tried again, at once if the gateway runs\n")
    job = await Jobs(journal).get(1)
    assert (job.state, job.attempts) == (JobState.WAITING, 0)
    code, _, error = await run("jobs", "retry", "-c", path, "2")
    assert code == 1
    assert error == "avara-gateway: job 2 is done: there is nothing to retry\n"


async def test_a_discarded_jobs_object_goes_later(desk):
    path, journal = desk
    code, out, _ = await run("jobs", "discard", "-c", path, "1", "--why", "a test image")
    assert (code, out) == (0, "job 1 discarded\n")
    assert (await Jobs(journal).get(1)).state is JobState.DISCARDED
    text = (await Jobs(journal).history(1))[-1].text
    assert text == f"discarded: by an operator ({operator()}): a test image"
    (clean,) = await Jobs(journal).list(kinds=[jobs.CLEAN])
    assert clean.read(jobs.CleanObject).key == SPECIMEN.key
    assert clean.next_at - clean.created == pytest.approx(DISCARDED_KEPT_FOR, abs=1)


async def test_misuse_is_told_and_changes_nothing(desk, write):  # noqa: F811
    path, journal = desk
    for arguments, said in (
        (("show", "-c", path, "99"), "there is no job 99"),
        (("discard", "-c", path, "2", "--why", "x"), "job 2 is done: there is nothing to discard"),
    ):
        code, _, error = await run("jobs", *arguments)
        assert code == 1
        assert said in error
    assert (await run("jobs", "retry", "-c", path))[0] == 2
    assert [j.state for j in await Jobs(journal).list()] == [JobState.DONE, JobState.QUARANTINED]
    other, _ = write({"name": "main", "ae_title": "P", "host": "h", "port": 104}, state_dir=str(path.parent / "none"))
    code, _, error = await run("jobs", "list", "-c", other)
    assert code == 1
    assert "has the gateway run with this configuration?" in error


async def test_a_report_of_an_unknown_study_is_assigned_to_one(desk):
    path, journal = desk
    job, _ = await Jobs(journal).add("report.fetch", "rep_1", FetchReport("rep_1", "stu_1", None, False, 0.0))
    code, out, _ = await run("jobs", "assign", "-c", path, job.id, "1.2.840.7")
    assert code == 0
    assert "continues" in out
    assert (await Jobs(journal).get(job.id)).read(FetchReport).study == "1.2.840.7"
    code, _, error = await run("jobs", "assign", "-c", path, "1", "1.2.840.7")
    assert code == 1
    assert "is no report that waits for its study" in error
    assert (await run("jobs", "assign", "-c", path, job.id, "1.2.*"))[0] == 2


async def test_a_place_that_does_not_answer_is_listed_with_its_reason(desk):
    path, journal = desk
    await journal.run(
        lambda c: c.connection.exec_driver_sql(
            "INSERT INTO paused_lanes VALUES ('report.folder', 'share', 1700000000, 5, 1700000060, 'the share hangs')"
        )
    )
    _, out, _ = await run("jobs", "list", "-c", path)
    assert "report.folder for share: not answered 5 times in a row" in out
    assert "the share hangs" in out


async def test_a_journal_of_an_older_version_is_not_migrated_beneath_a_gateway_that_runs(write, tmp_path):  # noqa: F811
    path, document = write({"name": "main", "ae_title": "PACS", "host": "127.0.0.1", "port": 104})
    directory = Path(document["state_dir"])
    directory.mkdir()
    with sqlite3.connect(directory / "journal.db") as db:
        db.executescript((Path(__file__).parent.parent / "journal" / "schema-0003.sql").read_text())
    schema = "SELECT version_num FROM alembic_version"
    with state_dir(directory):  # as the older gateway holds it
        code, _, error = await run("jobs", "list", "-c", path)
        assert code == 1
        assert "older version" in error
        assert "restart the gateway in this version first" in error
        assert db.execute(schema).fetchall() == [("0003",)]
    code, out, _ = await run("jobs", "list", "-c", path)
    assert "capture.store" in out
    assert db.execute(schema).fetchall() != [("0003",)]
    db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.commit()
    code, _, error = await run("jobs", "retry", "-c", path, "--quarantined")
    db.close()
    assert code == 1
    assert "newer version of the gateway (schema 9999): install that version" in error
