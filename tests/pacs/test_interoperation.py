"""Our SCP and SCU with other people's implementations: DCMTK, GDCM, pynetdicom, Orthanc.

What is left out: what a PACS is asked for, C-FIND and C-MOVE, which tests/studies does with Orthanc.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from pydicom import dcmread
from pynetdicom import AE

from gateway.demo.sample import sample_study
from gateway.demo.stand_in import without_reactor
from gateway.pacs.errors import PacsUnreachable
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scp.server import StorageScp
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.upper import dimse
from gateway.runtime.spools import Spools
from tests.conftest import data_set
from tests.dicom.test_elements import FILES
from tests.rig.ports import free_port

pytestmark = pytest.mark.slow

STUDY, SAMPLE = sample_study()
CT = SAMPLE[:20]


@pytest.fixture
async def receiver(tmp_path):
    kept = {}

    async def keep(instance):
        kept[instance.sop_instance_uid] = (instance, instance.body.read(0, instance.body.size))
        instance.body.close()
        return 0

    scp = StorageScp(
        ae_title="US",
        host="127.0.0.1",
        port=0,
        handler=keep,
        allows=lambda ae, host: True,
        spools=Spools(tmp_path / "spool"),
    )
    scp.kept = kept
    await scp.start()
    yield scp
    await scp.stop(drain_for=0.5)


async def run(*command):
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=-1, stderr=-2)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()


async def test_dcmtk_echoes(receiver):
    await run("echoscu", "-aec", "US", "127.0.0.1", receiver.port)


@pytest.mark.parametrize("options", [(), ("-xi",), ("-xe",), ("--max-send-pdu", "4096")], ids=" ".join)
async def test_dcmtk_stores(receiver, tmp_path, options):
    path = tmp_path / "ct.dcm"
    path.write_bytes(SAMPLE[0].content)
    await run("storescu", *options, "-aec", "US", "127.0.0.1", receiver.port, path)
    instance, received = receiver.kept[SAMPLE[0].sop_instance_uid]
    assert instance.sop_class_uid == "1.2.840.10008.5.1.4.1.1.2"
    if "-xi" in options:
        assert instance.transfer_syntax_uid == "1.2.840.10008.1.2"
    else:
        assert received == data_set(SAMPLE[0].content)


async def gdcmscu(*options):
    """GDCM 3.0.21 ends by an exception of its own once it was answered A-RELEASE-RP, DCMTK's answer included."""
    process = await asyncio.create_subprocess_exec("gdcmscu", *map(str, options), stdout=-1, stderr=-2)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0 or b"ProtocolStream as nullptr" in output, output.decode()


async def test_gdcm_echoes(receiver, monkeypatch):
    answered, answer = [], receiver._services._answer

    async def noted(caller, proposal, accepted, message):
        answered.append(message.command[dimse.COMMAND_FIELD])
        return await answer(caller, proposal, accepted, message)

    monkeypatch.setattr(receiver._services, "_answer", noted)
    await gdcmscu("--echo", "--call", "US", "127.0.0.1", receiver.port)
    assert answered == [dimse.C_ECHO_RQ]


async def test_gdcm_stores(receiver, tmp_path):
    for n, instance in enumerate(SAMPLE):
        (tmp_path / f"{n}.dcm").write_bytes(instance.content)
    files = [option for n in range(3) for option in ("-i", tmp_path / f"{n}.dcm")]
    await gdcmscu("--store", "--call", "US", *files, "127.0.0.1", receiver.port)
    for instance in SAMPLE[:3]:
        _, received = receiver.kept[instance.sop_instance_uid]
        assert received == data_set(instance.content)


async def test_orthanc_stores(receiver, orthanc):
    await orthanc.add(*(i.content for i in SAMPLE))
    await orthanc.register("US", receiver.port)
    await orthanc._ok("POST", "/modalities/US/store", json=json.loads(await orthanc._ok("GET", "/instances")))
    assert {uid: content for uid, (_, content) in receiver.kept.items()} == {
        i.sop_instance_uid: data_set(i.content) for i in SAMPLE
    }


async def test_several_implementations_at_once_do_not_disturb_each_other(receiver, tmp_path):
    paths = [tmp_path / f"{n}.dcm" for n in range(len(CT))]
    for path, instance in zip(paths, CT, strict=True):
        path.write_bytes(instance.content)

    def pynetdicom():
        ae = AE("THEM")
        ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
        assoc = ae.associate("127.0.0.1", receiver.port, ae_title="US")
        assert assoc.is_established
        with without_reactor(assoc):
            statuses = [assoc.send_c_store(path).Status for path in paths[:5]]
        assoc.release()
        assert statuses == [0] * 5

    await asyncio.gather(
        *(run("storescu", "-xe", "-aec", "US", "127.0.0.1", receiver.port, *paths) for _ in range(3)),
        *(gdcmscu("--store", "--call", "US", "-i", paths[0], "127.0.0.1", receiver.port) for _ in range(2)),
        *(run("echoscu", "--repeat", "5", "-aec", "US", "127.0.0.1", receiver.port) for _ in range(2)),
        *(asyncio.to_thread(pynetdicom) for _ in range(2)),
    )
    assert {uid: content for uid, (_, content) in receiver.kept.items()} == {
        i.sop_instance_uid: data_set(i.content) for i in CT
    }
    async with asyncio.timeout(5):
        while receiver._callers:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
async def test_real_images_sent_by_pynetdicom_arrive_as_they_are(receiver, path, monkeypatch):
    # The bytes of the file itself, in chunks: what pydicom would write anew may differ.
    monkeypatch.setattr("pynetdicom._config.STORE_SEND_CHUNKED_DATASET", True)
    content = path.read_bytes()
    meta = dcmread(path, stop_before_pixels=True).file_meta
    encoded = data_set(content)

    def send():
        ae = AE("THEM")
        ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        assoc = ae.associate("127.0.0.1", receiver.port, ae_title="US")
        assert assoc.is_established
        with without_reactor(assoc):
            status = assoc.send_c_store(path).Status
        assoc.release()
        return status

    assert await asyncio.to_thread(send) == 0
    instance, received = receiver.kept[meta.MediaStorageSOPInstanceUID]
    assert received == encoded
    assert instance.transfer_syntax_uid == meta.TransferSyntaxUID


async def test_our_echo_reaches_dcmtk():
    port = free_port()
    process = await asyncio.create_subprocess_exec("storescp", "--ignore", str(port), stdout=-3, stderr=-3)
    client = PacsClient(Peer("dcmtk", "ANY", "127.0.0.1", port, "US"), advertised="US at here")
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    await client.echo()
                    break
                except PacsUnreachable:
                    await asyncio.sleep(0.05)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("behaviour", ["closes", "silent", "chatters"])
async def test_what_is_no_dicom_peer_is_told_so_in_time(behaviour):
    async def serve(reader, writer):
        if behaviour == "chatters":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        if behaviour == "silent":
            await asyncio.sleep(2)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    peer = Peer("odd", "ODD", "127.0.0.1", port, "US", timeouts=Timeouts(associate=0.3))
    with pytest.raises(Exception, match=r"PACS odd .* (closed|did not answer|sent|lost|answers|is a web server)"):
        await PacsClient(peer, advertised="US at here").echo()
    server.close()
