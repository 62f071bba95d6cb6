"""The synthetic canary: what goes into the PACS is proven with a patient who does not exist, nothing of anybody else is
touched, and nothing of it is left where it would be taken for work. Not here: how a study is opened (test_canary.py),
and dcm4chee itself, of which only the request is looked at."""

from __future__ import annotations

import asyncio
import gzip
import json
from io import BytesIO

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from prometheus_client import generate_latest
from pydicom import dcmread, dcmwrite

from gateway.admin.canary import CanaryFailed
from gateway.admin.synthetic import Own
from gateway.admin.synthetic_study import MARK, PATIENT_ID, SyntheticStudy
from gateway.app.canary import song
from gateway.cli.canary import test as command
from gateway.config import Config
from gateway.config.operation import CanaryConfig
from gateway.demo.sample import sample_study
from gateway.journal import Jobs, events, slots
from gateway.journal.events import EventKind
from gateway.pacs.dicomweb import DicomWeb, WebPeer, remove_study
from gateway.pacs.errors import RequestRefused
from tests.conftest import AE_TITLE, KEY, describe

STUDY = SyntheticStudy(AE_TITLE)
UID = STUDY.study_instance_uid


def removing(orthanc):
    """Orthanc as a PACS that can be asked to remove a study."""
    return describe(orthanc) | {"dicomweb_url": orthanc.dicomweb_url, "retrieve": "c-move"}


@pytest.fixture
async def hospital(orthanc, start):
    """A gateway before an Orthanc that has a study of a patient's."""
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample[:2]))
    running = await start(
        removing(orthanc), avara={"answer": "listed"}, canary={"synthetic": True, "remove": "orthanc"}
    )
    await orthanc.register(AE_TITLE, running.parts.scp.port)
    running.patients_study = study
    return running


async def listed(orthanc):
    """The Study Instance UIDs that Orthanc has."""
    async with orthanc._session.get("/studies?expand") as answer:
        return {study["MainDicomTags"]["StudyInstanceUID"] for study in await answer.json()}


async def test_study_capture_and_report_are_stored_found_and_removed_and_nobody_elses(hospital, orthanc):
    steps = []
    for _ in range(2):  # the same objects again, as if they had never been there
        said = await hospital.parts.synthetic.sing(steps.append)
        assert said.endswith("it was removed from PACS orthanc"), said
        assert await listed(orthanc) == {hospital.patients_study}
    assert [step.split(" in PACS")[0] for step in steps[:4] if "opened" not in step] == [
        "image stored", "capture uploaded as a viewer does, and found", "report stored",
    ]  # fmt: skip
    assert steps[4] == "removed from PACS orthanc"


async def test_nothing_of_it_is_left_in_cache_jobs_events_or_figures(hospital):
    parts = hospital.parts
    await parts.synthetic.sing()
    assert await parts.cache.index(UID) is None
    assert await parts.journal.cached_study(UID) is None
    assert [job for job in await Jobs(parts.journal).list(cleaning=False) if job.kind.startswith("capture")] == []
    assert await parts.journal.run(slots.open_slots) == []
    await parts.events.flush()
    for kind in (EventKind.WEBHOOK, EventKind.FETCH):
        kept = await parts.journal.run(lambda c, kind=kind: events.latest(c, kind, 10))
        assert [event for event in kept if UID in str(event)] == []
    figures = generate_latest(parts.measures.registry).decode()
    assert "avara_gateway_fetch_seconds_count" not in figures
    assert "avara_gateway_webhook_seconds_count" not in figures


async def test_its_copies_leave_the_store_at_once_and_not_after_a_day(hospital):
    parts = hospital.parts
    await parts.synthetic.sing()
    async with asyncio.timeout(20):
        while [info.key async for info in parts.store.list("") if info.key.startswith(("inbox", "outbox", "studies"))]:
            await asyncio.sleep(0.2)


async def test_the_audit_trail_tells_of_it_and_marks_it_as_the_canarys(hospital):
    await hospital.ask(hospital.patients_study)
    await hospital.parts.synthetic.sing()
    await hospital.parts.trail.flush()
    entries = [
        json.loads(line)
        for file in sorted((hospital.config.state_dir / "audit").glob("audit-*"))
        for line in (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).splitlines()
    ]
    by_what = {entry["what"] for entry in entries if entry.get("canary")}
    assert by_what >= {"study_access", "upload_access", "job"}
    assert [e for e in entries if e.get("study") == hospital.patients_study and e.get("canary")] == []
    assert [e for e in entries if UID in json.dumps(e) and not e.get("canary")] == []


async def test_a_study_of_anybody_elses_under_its_uid_is_left_as_it_is(hospital, orthanc):
    _, sample = sample_study(UID)
    await orthanc.add(sample[0].content)
    with pytest.raises(CanaryFailed, match="has something else under the UID of the synthetic study"):
        await hospital.parts.synthetic.sing()
    async with orthanc._session.get("/instances") as answer:
        assert len(await answer.json()) == 3


async def test_an_instance_that_somebody_added_to_it_saves_it_from_removal(hospital, orthanc):
    _, sample = sample_study(UID)
    read = dcmread(BytesIO(sample[0].content))
    read.PatientID, read.StudyID = PATIENT_ID, "CANARY"
    out = BytesIO()
    dcmwrite(out, read)
    await orthanc.add(out.getvalue())
    with pytest.raises(CanaryFailed, match="it was left as it is"):
        await hospital.parts.synthetic.sing()
    assert UID in await listed(orthanc)


async def test_what_fails_half_way_is_told_and_taken_away_all_the_same(hospital, orthanc, monkeypatch):
    async def fail(*_, **__):
        raise CanaryFailed("a URL cannot be opened")

    monkeypatch.setattr(hospital.parts.canary, "open", fail)
    with pytest.raises(CanaryFailed, match="a URL cannot be opened"):
        await hospital.parts.synthetic.sing()
    assert await listed(orthanc) == {hospital.patients_study}


async def test_a_capture_that_is_held_is_told_and_waits_for_nobody(hospital, monkeypatch):
    singer = hospital.parts.synthetic
    monkeypatch.setattr(singer._study.capture.attributes, "PatientID", "OTHER")
    with pytest.raises(CanaryFailed, match="uploaded and is not stored: its patient is not the study's"):
        await singer.sing()
    assert [job.kind for job in await Jobs(hospital.parts.journal).list(cleaning=False)] == []


async def test_where_nothing_can_be_removed_it_stays_and_never_becomes_more(orthanc, start):
    running = await start(orthanc, avara={"answer": "listed"}, canary={"synthetic": True})
    steps = []
    for _ in range(2):
        said = await running.parts.synthetic.sing(steps.append)
        assert "it stays in PACS orthanc, always the same objects" in said
        async with orthanc._session.get("/instances") as answer:
            assert len(await answer.json()) == 3
    assert "no capture was uploaded, since PACS orthanc has that of an earlier time" in "".join(steps)
    assert await Jobs(running.parts.journal).list(cleaning=False) == []


async def test_the_command_tells_each_step_and_ends_with_what_came_of_it(hospital):
    file = next(hospital.config.state_dir.parent.glob("gateway-*.yaml"))
    done = await asyncio.to_thread(CliRunner().invoke, command, ["-c", str(file)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == "image stored in PACS orthanc, and found there"
    assert done.output.splitlines()[-1].endswith("it was removed from PACS orthanc")


def test_the_command_without_a_gateway_says_so(tmp_path):
    config = {"avara": {"webhook_keys": [KEY]}, "state_dir": str(tmp_path / "state"), "canary": {"synthetic": True},
              "pacs": [{"name": "main", "ae_title": "A", "host": "h", "port": 1}]}  # fmt: skip
    (tmp_path / "gateway.yaml").write_text(json.dumps(config))
    done = CliRunner().invoke(command, ["-c", str(tmp_path / "gateway.yaml")])
    assert (done.exit_code, "no gateway runs" in done.output) == (1, True), done.output


async def test_one_at_a_time(hospital):
    first = asyncio.ensure_future(hospital.parts.synthetic.sing())
    await asyncio.sleep(0)
    with pytest.raises(CanaryFailed, match="under way already"):
        await hospital.parts.synthetic.sing()
    await first


@pytest.mark.parametrize(
    ("section", "said", "within"),
    [
        ({"study_uid": "1.2.3"}, "opened 1.2.3", 300),
        ({"synthetic": True}, "stored and removed", 600),
        ({"study_uid": "1.2.3", "synthetic": True}, "opened 1.2.3; stored and removed", 900),
    ],
)
async def test_again_and_again_is_done_what_is_configured(section, said, within):
    class Sings:
        async def open(self, study):
            return f"opened {study}"

        async def sing(self):
            return "stored and removed"

    pacs = [{"name": "main", "ae_title": "A", "host": "h", "port": 1}]
    sing, bound = song(Config.model_validate({"pacs": pacs, "canary": section | {"every": "1h"}}), Sings(), Sings())
    assert (await sing(), bound) == (said, within)


async def test_a_gateway_that_is_to_do_it_by_schedule_has_a_loop_for_it(simulator, start):
    def loops(running):
        return {state.name for state in running.parts.loops.states()}

    assert "canary" in loops(await start(simulator, canary={"synthetic": True, "every": "1h"}))
    assert "canary" not in loops(await start(simulator, canary={"synthetic": True}))


# -- what it is made of


def test_what_is_opened_and_uploaded_is_known_as_its_own_by_study_and_by_slot():
    own = Own(UID, {"inbox/5107", "5107"})
    assert own.has({"key": f"studies/{UID}/1/2.dcm", "status": 200})
    assert own.has({"key": "inbox/5107", "method": "PUT"})
    assert own.has({"slot": "5107"})
    assert not own.has({"study": "1.2.3", "key": "inbox/5108", "bytes": 5107})


def test_its_objects_are_the_same_each_time_and_another_gateways_are_others():
    again, other = SyntheticStudy(AE_TITLE), SyntheticStudy("ELSEWHERE")
    assert [o.file for o in (again.image, again.capture, again.report)] == [
        o.file for o in (STUDY.image, STUDY.capture, STUDY.report)
    ]
    assert not other.sop_instance_uids & STUDY.sop_instance_uids
    assert all(MARK in o.file and b"NOT A PATIENT" in o.file for o in (STUDY.image, STUDY.capture, STUDY.report))


@pytest.mark.parametrize(
    ("how", "method", "path"),
    [
        ("dcm4chee", "POST", f"/arc/rs/studies/{UID}/reject/113039%5EDCM"),
        ("dicomweb", "DELETE", f"/arc/rs/studies/{UID}"),
    ],
)
@pytest.mark.parametrize("status", [200, 404, 403])
async def test_each_pacs_is_asked_to_remove_it_by_its_own_request(how, method, path, status):
    seen = []

    async def answer(request):
        seen.append((request.method, request.raw_path))
        return web.Response(status=status)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        service = DicomWeb(WebPeer("main", f"http://127.0.0.1:{server.port}/arc/rs"))
        try:
            if status == 403:
                with pytest.raises(RequestRefused, match=r"is canary\.remove right for it"):
                    await remove_study(service, UID, PATIENT_ID, how)
            else:
                await remove_study(service, UID, PATIENT_ID, how)
        finally:
            await service.close()
    assert seen == [(method, path)]


def test_who_wants_it_removed_names_the_service_and_who_wants_it_often_says_what():
    pacs = [{"name": "main", "ae_title": "A", "host": "h", "port": 1}]
    with pytest.raises(ValueError, match="needs dicomweb_url of PACS main"):
        Config.model_validate({"pacs": pacs, "canary": {"synthetic": True, "remove": "orthanc"}})
    assert CanaryConfig(every=600, synthetic=True).every == 600
    assert Config.model_validate({"pacs": pacs}).canary.synthetic is False
