"""Our SCP and SCU with other people's implementations: DCMTK, pynetdicom, Orthanc (which tests/studies uses)."""

from __future__ import annotations

import asyncio

import pytest
from pydicom import dcmread
from pynetdicom import AE

from gateway.demo.sample import sample_study
from gateway.demo.simulator import without_reactor
from gateway.objects.embedded import free_port
from gateway.pacs.client import PacsClient
from gateway.pacs.errors import PacsUnreachable
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scp import StorageScp
from tests.conftest import data_set
from tests.pacs.test_elements import FILES

STUDY, SAMPLE = sample_study()


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
        spool_dir=tmp_path / "spool",
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
    with pytest.raises(Exception, match=r"PACS odd .* (closed|did not answer|sent|lost|answers)"):
        await PacsClient(peer, advertised="US at here").echo()
    server.close()
