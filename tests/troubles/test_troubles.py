"""Twelve troubles that hospitals have, each made for real: one command, and the page, name its cause and its mend."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from standardwebhooks.webhooks import Webhook

from gateway.demo.sample import sample_capture, synthetic_ct
from gateway.journal import Jobs
from tests.conftest import AE_TITLE, KEY, ended
from tests.faults.disks import Disk, why_not
from tests.reports.conftest import avara  # noqa: F401  (a fixture)
from tests.rig.ports import free_port

from .conftest import SAMPLE, STUDY, dropping

disks = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are disks")


def event(event_type="study.access_requested", **data):
    return {
        "id": f"whe_{secrets.token_hex(16)}",
        "type": event_type,
        "data": {"studyId": "stu_1", "studyInstanceUid": STUDY} | data,
    }


async def opened(operator, study=STUDY, study_id="stu_1"):
    """Avara asked for a study, and its fetch has ended."""
    answer = await operator.running.ask(study, study_id)
    await operator.running.quiet()
    return answer


async def test_a_partial_study(troubled, simulator):
    operator = await troubled()
    lost = SAMPLE[3].sop_instance_uid
    simulator.behaviour.drop = {lost}
    await opened(operator, study_id="stu_7")
    for said in (await operator.trace("stu_7"), await operator.search("stu_7")):
        assert f"1 missing ({lost}): the PACS did not send all that it lists" in said
        assert "look why in the log of PACS simulator; a second method in pacs[].retrieve may bring it" in said


async def test_a_study_in_no_pacs(troubled):
    operator = await troubled()
    await opened(operator, "1.2.3.4.5", "stu_8")
    for said in (await operator.trace("stu_8"), await operator.search("stu_8")):
        assert "in no PACS: simulator was asked, and none has it for our AE title" in said
        assert "let it be shown to our title; where it is in another PACS, add that to pacs" in said


async def test_a_slow_pacs(troubled, simulator, monkeypatch):
    monkeypatch.setattr("gateway.app.account.SLOW_AFTER", 2.0)
    operator = await troubled()
    simulator.behaviour.delay_per_instance = 0.1
    await opened(operator, study_id="stu_9")
    for said in (await operator.trace("stu_9"), await operator.search("stu_9"), await operator.front(says="Of late")):
        assert "instances a second, the first after" in said
        assert "so it is PACS simulator or the network to it: look at its load" in said


async def test_a_quarantined_capture(troubled):
    operator = await troubled()
    _, answer = await operator.running.post(event("secondary_capture.access_requested"))
    capture = sample_capture(STUDY, PatientID="SOMEBODY ELSE")
    async with operator.running.http.put(answer["uploadUrls"][0], data=capture.content) as put:
        assert put.status == 200
    [job] = await ended(Jobs(operator.running.parts.journal), "capture.check", "quarantined")
    said = await operator.trace("stu_1")
    assert "waits for you: its patient is not the study's: Patient ID differ" in said
    assert "avara-gateway jobs accept" in said
    said = await operator.search("stu_1")
    assert f"Job {job.id} waits for you: its patient is not the study's: Patient ID differ" in said
    assert "accept it, so that it takes the patient that the PACS has, or discard it" in said
    assert "Look at it, and decide" in await operator.front(says="one job waits for you")
    assert "SOMEBODY ELSE" not in said


async def test_a_dead_report_url(troubled, avara):  # noqa: F811
    reports = {"allowed_hosts": [f"127.0.0.1:{avara.server.port}"], "allow_http": True, "allow_private_addresses": True}
    operator = await troubled(reports=reports)
    avara.status["/report.pdf"] = 403
    report = event("report.delivered", reportId="rep_1", isCritical=False, presignedUrl=avara.url(), plainText="None.")
    assert (await operator.running.post(report))[0] == 200
    await ended(Jobs(operator.running.parts.journal), "report.fetch", "quarantined")
    for said in (await operator.trace("rep_1"), await operator.search("rep_1")):
        assert "127.0.0.1 answers 403: the report's URL has expired" in said
        assert "have Avara deliver the report again; with avara.api_key another URL is asked for by itself" in said
    assert "Look at it, and decide" in await operator.front(says="one job waits for you")


async def test_a_bad_signature(troubled):
    operator = await troubled()
    body, other = json.dumps(event()), Webhook("whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI=")
    await refused(operator, body, other, datetime.now(UTC))
    mend = "compare them with Avara's page"
    said = (await operator.check())["webhooks"]
    assert said.startswith("False: the last one was refused: it is signed by none of the 1 keys")
    assert mend in said
    assert mend in await operator.front(says="the last webhook was refused")
    assert mend in await operator.search("msg_1")


async def test_a_wrong_clock(troubled):
    operator = await troubled()
    await refused(operator, json.dumps(event()), Webhook(KEY), datetime.now(UTC) - timedelta(minutes=10))
    said = (await operator.check())["webhooks"]
    assert "its signature is right, its time is 10 min behind ours: set this clock (timedatectl)" in said
    assert "set this clock (timedatectl)" in await operator.front(says="the last webhook was refused")


async def refused(operator, body, key, signed_at):
    """A webhook that is turned away."""
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": key.sign("msg_1", signed_at, body),
    }
    async with operator.running.http.post(operator.running.url, data=body, headers=headers) as answer:
        assert answer.status == 401


async def test_a_full_cache(troubled, simulator):
    operator = await troubled(cache={"max_size": "1MB", "min_free": "0", "watch_every": "0s"})
    await opened(operator)
    simulator.add(*(i.content for i in synthetic_ct("1.2.3.4", 40, 128, 128)))
    await opened(operator, "1.2.3.4", "stu_2")
    mend = "cache.max_size"
    assert mend in (said := await operator.check())["cache"], said
    assert said["cache"].startswith("False")
    said = await operator.front(says="The cache has no room")
    assert mend in said
    assert mend in await operator.search("stu_2")


async def test_swapped_ae_titles(troubled):
    ae = AE("ORTHANC")
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False)
    try:
        pacs = {"name": "main", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": port}
        operator = await troubled(pacs, dicom={"ae_title": "ORTHANC"})
        mend = f"its AE title is not {AE_TITLE}: correct pacs.ae_title, which may be swapped with dicom.ae_title"
        assert mend in (await operator.check())["PACS main: C-ECHO"]
        assert mend in await operator.front(says="PACS main does not answer")
    finally:
        server.shutdown()


async def test_a_firewall_that_is_silent_before_the_pacs(troubled):
    with dropping() as port:
        operator = await troubled({"name": "main", "ae_title": "MAIN", "host": "127.0.0.1", "port": port})
        mend = "is it up? does a firewall let us through?"
        assert mend in (await operator.check())["PACS main: C-ECHO"]
        assert mend in await operator.front(says="PACS main does not answer")


@pytest.mark.timeout(300)
async def test_a_firewall_that_is_silent_before_us(troubled, simulator):
    operator = await troubled(pacs_options={"idle_timeout": "2s"})
    with dropping() as port:
        simulator.destinations[AE_TITLE] = ("127.0.0.1", port)
        said = (await operator.check())["PACS simulator: C-MOVE"]
        assert "no connection from it reached" in said
        assert "a firewall is closed" in said
        await opened(operator)
        assert "or does a firewall drop it?" in await operator.search("stu_1")


async def test_an_expired_certificate(troubled, tmp_path):
    file, key = expired(tmp_path)
    tls = {"certificate_file": str(file), "key_file": str(key), "ca_file": str(file)}
    operator = await troubled(dicom={"tls": tls})
    said = (await operator.check())["certificate dicom.tls.certificate_file"]
    assert said.startswith("False: it ended on ")
    assert "renew it" in said
    said = await operator.front(says="The certificate of dicom.tls.certificate_file has expired")
    assert "Have a new one made, put it in its place" in said


def expired(directory):
    """A certificate that ended yesterday, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "us")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=90)).not_valid_after(datetime.now(UTC) - timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@disks
@pytest.mark.timeout(300)
async def test_a_share_that_hangs(troubled, avara, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("gateway.reports.folder.deliver.FOLDER_WITHIN", 3.0)
    monkeypatch.setattr("gateway.reports.folder.deliver.CHECK_WITHIN", 3.0)
    async with Disk(tmp_path / "share") as disk:
        (disk.path / "reports").mkdir()
        reports = {
            "allowed_hosts": [f"127.0.0.1:{avara.server.port}"], "allow_http": True, "allow_private_addresses": True,
            "folders": [{"name": "nas", "path": str(disk.path / "reports")}],
        }  # fmt: skip
        operator = await troubled(reports=reports)
        async with disk.hanging():
            mend = "the share that it is on hangs: see that its server answers, or unmount it"
            assert mend in (await operator.check())["report folder nas"]
            report = event(
                "report.delivered", reportId="rep_1", isCritical=False, presignedUrl=avara.url(), plainText="None."
            )
            assert (await operator.running.post(report))[0] == 200
            async with asyncio.timeout(90):
                while mend not in (said := await operator.search("rep_1")):
                    await asyncio.sleep(0.5)
            assert "job" in said
            assert mend in await operator.trace("rep_1")
