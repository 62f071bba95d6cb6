"""The cache follows a PACS of another make: DCMTK's dcmqrscp, whose lists say less than Orthanc's."""

from __future__ import annotations

import asyncio

import pytest

from gateway.demo.orthanc import dies_with_us
from gateway.demo.sample import sample_study
from gateway.objects.embedded import free_port
from tests.studies.test_truth import EVERY_TIME, changed, patients, status


class Archive:
    """A dcmqrscp: what is stored in it, and the configuration of a gateway that asks it."""

    def __init__(self, directory, port):
        self.directory = directory
        self.port = port
        self.described = {
            "name": "dcmtk", "ae_title": "DCMTK", "host": "127.0.0.1", "port": port, "retrieve": "c-get"
        }  # fmt: skip

    async def add(self, *files):
        paths = []
        for number, content in enumerate(files):
            paths.append(self.directory / f"{number}.dcm")
            paths[-1].write_bytes(content)
        async with asyncio.timeout(30):
            while await self._store(paths):  # until it listens
                await asyncio.sleep(0.1)

    async def _store(self, paths):
        store = await asyncio.create_subprocess_exec(
            "storescu", "-xe", "-aec", "DCMTK", "127.0.0.1", str(self.port), *paths, stdout=-3, stderr=-3
        )
        return await store.wait()


@pytest.fixture
async def archive(tmp_path):
    port, storage = free_port(), tmp_path / "storage"
    storage.mkdir()
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMTK {storage} RW (100, 1024mb) ANY\nAETable END\n"
    )
    server = await asyncio.create_subprocess_exec(
        "dcmqrscp", "-c", config, "+xe", stdout=-3, stderr=-3, preexec_fn=dies_with_us
    )
    try:
        yield Archive(tmp_path, port)
    finally:
        server.terminate()
        await server.wait()


async def test_a_study_that_was_sent_again_as_another_patients_is_theirs(archive, start):
    study, sample = sample_study()
    old = [changed(i.content, PatientID="OLD", PatientName="Old^Patient") for i in sample[:3]]
    await archive.add(*old)
    gateway = await start(archive.described, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert await patients(gateway, before) == {"OLD"}
    await archive.add(*(changed(content, PatientID="NEW", PatientName="New^Patient") for content in old))
    after = await gateway.ask(study)
    assert await patients(gateway, after) == {"NEW"}
    assert len(after["urls"]) == 3
    assert {await status(gateway, url) for url in before["urls"]} <= {403, 404}
