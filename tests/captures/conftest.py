"""What the tests of captures share: a gateway that has a study's PACS, and a viewer that uploads."""

from __future__ import annotations

import secrets
import subprocess

import pytest

from gateway.demo.orthanc import dies_with_us
from gateway.demo.sample import sample_study
from gateway.journal import Jobs
from tests.conftest import ended
from tests.rig.ports import free_port

STUDY, SAMPLE = sample_study()


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


class Viewer:
    """What Avara and its viewer do with a gateway."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.jobs = Jobs(gateway.parts.journal)

    async def ask(self, study=STUDY, *, webhook_id=None, **uids):
        """The answer to a secondary_capture.access_requested."""
        status, answer = await self.gateway.post(
            {
                "id": f"whe_{secrets.token_hex(16)}",
                "type": "secondary_capture.access_requested",
                "data": {"studyId": "stu_1", "studyInstanceUid": study} | uids,
            },
            webhook_id=webhook_id,
        )
        assert status == 200, answer
        return answer

    async def put(self, url, content):
        """Uploads as a browser does; the status."""
        async with self.gateway.http.put(url, data=content, headers={"Content-Type": "application/dicom"}) as answer:
            return answer.status

    async def upload(self, content, study=STUDY, **uids):
        """Asks for an URL and uploads to it."""
        answer = await self.ask(study, **uids)
        assert answer["authorized"], answer
        for url in answer["uploadUrls"]:
            assert await self.put(url, content) == 200
        return answer

    async def ended(self, kind, *states, **options):
        """The jobs of a kind once they stand in one of *states*."""
        return await ended(self.jobs, kind, *states, **options)

    async def stored(self, **options):
        """The capture.store job that is done."""
        return (await self.ended("capture.store", "done", **options))[0]

    async def held(self, kind="capture.check", **options):
        """Why the job that waits for an operator does."""
        return (await self.ended(kind, "quarantined", **options))[0].last_error


@pytest.fixture
async def viewer_of(start):
    async def begin(*pacs, **sections):
        gateway = await start(*pacs, **sections)
        return Viewer(gateway)

    return begin


@pytest.fixture
async def viewer(pacs, viewer_of):
    return await viewer_of(pacs)


@pytest.fixture
def dcmqrscp(tmp_path):
    """DCMTK's query and retrieve SCP, empty: its directory, and how a configuration describes it."""
    directory, port = tmp_path / "dcmqrscp", free_port()
    directory.mkdir()
    settings = directory.parent / "dcmqrscp.cfg"
    settings.write_text(
        f"""
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
DCMTK {directory} RW (200, 1024mb) ANY
AETable END
"""
    )
    process = subprocess.Popen(
        ["dcmqrscp", "-c", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=dies_with_us,
    )
    yield directory, {"name": "dcmtk", "ae_title": "DCMTK", "host": "127.0.0.1", "port": port}
    process.terminate()
    process.wait(10)
