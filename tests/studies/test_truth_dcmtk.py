"""The cache follows a PACS of another make: DCMTK's dcmqrscp, whose lists say less than Orthanc's."""

from __future__ import annotations

import asyncio

import pytest
from pydicom import dcmread

from gateway.demo.orthanc import dies_with_us
from gateway.demo.sample import sample_study
from gateway.pacs.scu.kept import KEEP_FOR
from tests.rig.ports import free_port
from tests.studies.test_rejection import note
from tests.studies.test_truth import EVERY_TIME, changed, in_manifest, patients, shown, status
from tests.studies.test_verify import ALWAYS, opens, with_other_pixels
from tests.studies.test_watch import studies


class Archive:
    """A dcmqrscp: what is stored in it, and the configuration of a gateway that asks it."""

    def __init__(self, directory, storage, port):
        self.directory = directory
        self.storage = storage
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

    async def withdraw(self, sop_instance_uid):
        """Takes an instance out: its file goes, and the index, which is read anew for each association, is made of the
        others."""
        (self.storage / "index.dat").unlink()
        for path in self.storage.iterdir():
            if dcmread(path, stop_before_pixels=True).SOPInstanceUID == sop_instance_uid:
                path.unlink()
        left = list(self.storage.iterdir())
        index = await asyncio.create_subprocess_exec("dcmqridx", self.storage, *left, stdout=-3, stderr=-3)
        assert await index.wait() == 0
        await asyncio.sleep(2 * KEEP_FOR)  # an association that is kept sees what was

    async def _store(self, paths):
        store = await asyncio.create_subprocess_exec(
            "storescu", "-xe", "-aec", "DCMTK", "127.0.0.1", str(self.port), *paths, stdout=-3, stderr=-3
        )
        return await store.wait()


@pytest.fixture
async def archive(tmp_path):
    port, storage = free_port(), tmp_path / "storage"
    storage.mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMTK {storage} RW (100, 1024mb) ANY\nAETable END\n"
    )
    server = await asyncio.create_subprocess_exec(
        "dcmqrscp", "-c", tmp_path / "dcmqrscp.cfg", "+xe", stdout=-3, stderr=-3, preexec_fn=dies_with_us
    )
    try:
        yield Archive(tmp_path, storage, port)
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


async def test_what_was_withdrawn_is_not_given_any_more(archive, start):
    study, sample = sample_study()
    await archive.add(*(i.content for i in sample[:3]))
    gateway = await start(archive.described, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert shown(before) == {i.sop_instance_uid for i in sample[:3]}
    await archive.withdraw(sample[0].sop_instance_uid)
    after = await gateway.ask(study)
    assert shown(after) == in_manifest(after) == {i.sop_instance_uid for i in sample[1:3]}
    assert {await status(gateway, url) for url in before["urls"] if sample[0].sop_instance_uid in url} <= {403, 404}


async def test_what_was_added_is_given_and_what_a_rejection_note_names_is_not(archive, start):
    study, sample = sample_study()
    await archive.add(*(i.content for i in sample[:2]))
    gateway = await start(archive.described, cache=EVERY_TIME)
    before = await gateway.ask(study)
    assert shown(before) == {i.sop_instance_uid for i in sample[:2]}
    await archive.add(sample[2].content)
    assert shown(await gateway.ask(study)) == {i.sop_instance_uid for i in sample[:3]}
    _, content = note(sample, sample[0])
    await archive.add(content)
    after = await gateway.ask(study)
    assert shown(after) == in_manifest(after) == {i.sop_instance_uid for i in sample[1:3]}
    assert {await status(gateway, url) for url in before["urls"] if sample[0].sop_instance_uid in url} <= {403, 404}


async def test_pixels_that_were_replaced_under_their_uid_are_noticed(archive, start, monkeypatch):
    monkeypatch.setattr("gateway.studies.verify.ROUND", 3600.0)
    study, sample = sample_study()
    await archive.add(*(i.content for i in sample[:2]))
    gateway = await start(archive.described, cache=ALWAYS)
    old = await opens(gateway, await gateway.ask(study))
    await gateway.parts.verification.round()
    assert await opens(gateway, await gateway.ask(study)) == old
    await archive.add(with_other_pixels(sample[1].content))
    await gateway.parts.verification.round()
    await gateway.quiet()
    there = await opens(gateway, await gateway.ask(study))
    assert {uid for uid in old if there[uid] != old[uid]} == {sample[1].sop_instance_uid}


async def test_many_studies_are_found_by_one_query_and_those_that_it_lacks_are_told(archive, start):
    files = studies(3)
    await archive.add(*files.values())
    gateway = await start(archive.described)
    found = await gateway.parts.pacs[0].finder.find_studies([*files, "1.2.3"])
    assert {uid for uid, record in found.records.items() if record is not None} == files.keys()
    assert found.records["1.2.3"] is None
    assert found.lists_work
