"""What the tests of reports share: a report and its study, a certificate, a stand-in for Avara that serves PDFs, and a
gateway that takes them."""

from __future__ import annotations

import dataclasses
import secrets
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.demo.sample import sample_study, small_pdf
from gateway.journal import Jobs
from gateway.pacs.scu.results import StudyRecord
from gateway.reports.report import Report
from tests.conftest import ended
from tests.reports.tls import certificate

STUDY, SAMPLE = sample_study()
PDF = small_pdf("A signed report")

STUDY_UID = "1.2.826.0.1.3680043.10.1"


def a_report(**changes):
    report = Report(
        report_id="rep_0123456789abcdef0123456789abcdef",
        study_id="stu_0123456789abcdef0123456789abcdef",
        study_instance_uid=STUDY_UID,
        version=1,
        is_critical=False,
        plain_text="FINDINGS\nNo pneumothorax.",
        pdf=b"%PDF-1.4 not looked at %%EOF",
        received=1_795_500_000.0,
    )
    return dataclasses.replace(report, **changes)


def a_study(**changes):
    study = StudyRecord(
        study_instance_uid=STUDY_UID,
        instances=2,
        series=1,
        patient_id="MRN0001",
        patient_name="Doe^Jane^Ann^Dr.^Jr.",
        patient_birth_date="19700131",
        patient_sex="F",
        issuer_of_patient_id="HOSP",
        accession_number="ACC0001",
        study_id="S1",
        study_date="20261120",
        study_time="101530.250",
        study_description="CT chest",
        referring_physician="House^Gregory",
    )
    return dataclasses.replace(study, **changes)


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


class AvaraStandIn:
    """Serves what reports' presigned URLs point at, and counts who asks."""

    def __init__(self):
        self.documents = {"/report.pdf": PDF}
        self.status = {}
        """Path → status to answer with instead."""
        self.asked = []
        application = web.Application()
        application.router.add_get("/{name}", self._give)
        self.server = TestServer(application, host="127.0.0.1")

    async def _give(self, request):
        self.asked.append(request.path)
        status = self.status.get(request.path, 200 if request.path in self.documents else 404)
        if status != 200:
            return web.Response(status=status)
        return web.Response(body=self.documents[request.path], content_type="application/pdf")

    def url(self, path="/report.pdf"):
        return f"http://127.0.0.1:{self.server.port}{path}?X-Amz-Signature={secrets.token_hex(8)}"


@pytest.fixture
async def avara():
    stand_in = AvaraStandIn()
    await stand_in.server.start_server()
    yield stand_in
    await stand_in.server.close()


class FakeApi:
    """Avara's REST API, as far as docs/contract.md has it, with what it is told to know."""

    KEY = "key-of-the-api"

    def __init__(self):
        self.studies = {}
        """By Avara's id: studyInstanceUid and reports."""
        self.users = {"usr_1": {"firstName": "Joan", "lastName": "O'Hara", "suffix1": "MD", "npiNumber": "1234567890"}}
        self.failing = {}
        """By the beginning of a path: the status that it is answered with."""
        self.pages = 100
        self.asked = []
        application = web.Application()
        application.router.add_get("/v1/autoScribe/{what:.+}", self._answer)
        self.server = TestServer(application, host="127.0.0.1")

    @property
    def section(self):
        return {"avara": {"api_key": self.KEY, "api_url": f"http://127.0.0.1:{self.server.port}"}}

    def sign(self, report_id="rep_1", *, study=None, study_id="stu_1", addendum=False, patient=None, **more):
        """A report was signed."""
        known = self.studies.setdefault(study_id, {"studyInstanceUid": study or STUDY, "reports": []})
        snapshot = {"patientName": "Renée Müller", "mrn": "DEMO-001", "dateOfBirth": "1970-01-01"} | (patient or {})
        known["reports"].append({
            "reportId": report_id, "studyId": study_id, "isAddendum": addendum, "userId": "usr_1",
            "signedAt": f"2026-11-24T0{len(known['reports'])}:00:00.000Z", "isCritical": False, "status": "completed",
            "snapshotMetadata": snapshot, "somethingNew": [1],
        } | more)  # fmt: skip

    async def _answer(self, request):
        what = request.match_info["what"]
        self.asked.append(what)
        if request.headers.get("Authorization") != f"Bearer {self.KEY}":
            return web.json_response({"error": "no"}, status=401)
        for beginning, status in self.failing.items():
            if what.startswith(beginning):
                return web.json_response({"error": "Jane Doe is known here"}, status=status)
        if what == "reports" and (known := self.studies.get(request.query.get("studyId"))):
            return web.json_response({"studyId": request.query["studyId"], **known})
        if what.startswith("users/") and (user := self.users.get(what[6:])):
            return web.json_response(user | {"userId": what[6:]})
        if what == "studies":
            begin = int(request.query.get("cursor", 0))
            listed = [
                {
                    "studyId": name, "studyInstanceUid": s["studyInstanceUid"],
                    "updatedAt": s.get("updatedAt", datetime.now(UTC).isoformat()),
                    "reportIds": [{"reportId": r["reportId"], "status": r["status"]} for r in s["reports"]],
                }
                for name, s in self.studies.items()
            ]  # fmt: skip
            page = listed[begin : begin + self.pages]
            more = begin + self.pages < len(listed)
            return web.json_response(
                {"studies": page, "hasMore": more, "cursor": str(begin + self.pages) if more else None}
            )
        return web.json_response({"error": "not found"}, status=404)


@pytest.fixture
async def api():
    fake = FakeApi()
    await fake.server.start_server()
    yield fake
    await fake.server.close()


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


class Hospital:
    """A gateway, and Avara as it delivers reports to it."""

    def __init__(self, gateway, avara):
        self.gateway = gateway
        self.avara = avara
        self.journal = gateway.parts.journal
        self.jobs = Jobs(self.journal)

    async def deliver(self, *, webhook_id=None, path="/report.pdf", **data):
        """Sends report.delivered; the answer."""
        event = {
            "id": f"whe_{secrets.token_hex(16)}",
            "type": "report.delivered",
            "data": {
                "studyId": "stu_1", "reportId": "rep_1", "isCritical": False, "presignedUrl": self.avara.url(path),
                "plainText": "No fracture.", "studyInstanceUid": STUDY,
            } | data,
        }  # fmt: skip
        event["data"] = {k: v for k, v in event["data"].items() if v is not None}
        status, answer = await self.gateway.post(event, webhook_id=webhook_id)
        assert (status, answer) == (200, {"success": True})

    async def ended(self, kind, *states, **options):
        """The jobs of a kind once they stand in one of *states*."""
        return await ended(self.jobs, kind, *states, **options)

    async def said(self, job):
        """What happened to a job."""
        return [e.text for e in await self.jobs.history(job.id)]


@pytest.fixture
async def hospital_of(start, avara):
    async def begin(*pacs, **reports):
        allowed = {
            "allowed_hosts": [f"127.0.0.1:{avara.server.port}"], "allow_http": True, "allow_private_addresses": True,
        }  # fmt: skip
        sections = reports.pop("sections", {})
        return Hospital(await start(*pacs, reports=allowed | reports, **sections), avara)

    return begin


@pytest.fixture
async def hospital(pacs, hospital_of):
    return await hospital_of(pacs)
