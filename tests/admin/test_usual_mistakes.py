"""Usual mistakes that no other test makes: what is said of each names its cause and its mend."""

from __future__ import annotations

import asyncio
import errno
import sqlite3

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy.exc import OperationalError

from gateway import app
from gateway.admin.pacs_checks import PacsChecks
from gateway.admin.verdict import Expected
from gateway.app.doctor import _destinations
from gateway.app.errors import cannot_listen
from gateway.avara.signature import sign
from gateway.config import Config
from gateway.journal import Journal
from gateway.objects import Credentials, ObjectStore, StoreError
from gateway.pacs.errors import HungUp, OperationFailed, PacsError
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.retrieve import OUT_OF_RESOURCES_SUB_OPERATIONS, SubOperations
from gateway.runtime import GatewayError
from tests.conftest import KEY
from tests.rig.ports import free_port

REFUSED = "nothing listens on that port"


@pytest.mark.parametrize(
    ("code", "status", "cure"),
    [
        ("SignatureDoesNotMatch", 403, "correct store.access_key and its secret"),
        ("InvalidAccessKeyId", 403, "correct store.access_key and its secret"),
        ("AccessDenied", 403, "or allow this key to use the bucket"),
        ("NoSuchBucket", 404, "create it, or correct store.bucket"),
        ("RequestTimeTooSkewed", 403, "set both by NTP"),
        ("XMinioStorageFull", 507, "give it more room, or lower cache.max_size"),
    ],
)
async def test_a_store_that_refuses_us_is_told_with_the_key_to_correct_and_no_secret(code, status, cure):
    async def refuse(request):
        return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(application) as server, ObjectStore(
        endpoint=lambda: f"127.0.0.1:{server.port}", secure=False, region="us-east-1", bucket="bucket",
        credentials=Credentials("key", "a secret of ours"),
    ) as store:  # fmt: skip
        with pytest.raises(StoreError) as e:
            await store.put("probe", b"x", content_type="text/plain")
    assert cure in str(e.value)
    assert "a secret of ours" not in str(e.value)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EADDRINUSE, "page.port: another program listens on 443 (ss -ltnp shows which)"),
        (errno.EACCES, "ports below 1024 are root's, and 443 is one"),
        (errno.EADDRNOTAVAIL, "page.host: gw.example is no address of this machine"),
    ],
)
def test_an_address_that_cannot_be_had_is_told_by_its_key(number, cure):
    assert cure in cannot_listen("page", "gw.example", 443, OSError(number, "text of the system"))


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "run the gateway as the user whose it is, or give it to the gateway's"),
        (errno.ENOSPC, "free space there"),
        (errno.EROFS, "its disk is read-only"),
        (errno.EDQUOT, "the quota of its user is used up"),
        (errno.EIO, "its disk fails"),
    ],
)
def test_a_state_dir_that_cannot_be_used_says_why_and_what_to_do(number, cure):
    said = app.why(OSError(number, "text of the system", "/var/lib/avara-gateway/lock"))
    assert said.startswith("/var/lib/avara-gateway/lock: ")
    assert cure in said


async def test_a_disk_that_is_full_at_the_start_is_told_as_the_journals(tmp_path, monkeypatch):
    def full(*_):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    journal = Journal.at(f"sqlite:///{tmp_path / 'journal.db'}")
    monkeypatch.setattr("gateway.journal.schema.migrate", full)
    with pytest.raises(GatewayError, match=r"database or disk is full.*is its disk full or read-only"):
        await journal.migrate()
    await journal.close()


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        (OUT_OF_RESOURCES_SUB_OPERATIONS, "could it connect to us, and does it know our address?"),
        (0xC000, "status C000"),
    ],
)
def test_a_move_that_the_pacs_ends_says_what_to_look_at(status, cure):
    """dcmqrscp's A702 and Orthanc's C000; A801 is an error of its own."""
    with pytest.raises(OperationFailed) as e:
        SubOperations(status, 0, 1, 0).raise_for_failures(Peer("main", "PACS", "h", 104, "AVARAGW"), "C-MOVE")
    assert cure in str(e.value)


async def said_by(host, port):
    timeouts = Timeouts(connect=1, associate=1)
    with pytest.raises(PacsError) as e:
        await PacsClient(Peer("main", "PACS", host, port, "AVARAGW", timeouts=timeouts), advertised="us").echo()
    return str(e.value)


async def test_a_pacs_whose_port_nobody_listens_on_is_told_to_look_at_host_and_port():
    assert "is it up, are host and port right?" in await said_by("127.0.0.1", free_port())


async def test_a_pacs_whose_name_nobody_knows_is_told_as_that():
    said = await said_by("no-such-pacs.invalid", 104)
    assert "not known" in said or "are host and port right?" in said


@pytest.mark.slow
async def test_a_port_that_takes_connections_and_says_nothing_is_asked_whether_it_is_the_dicom_port():
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        said = await said_by("127.0.0.1", server.sockets[0].getsockname()[1])
    assert "takes connections but did not answer our A-ASSOCIATE-RQ within 1 s: is this its DICOM port?" in said


@pytest.mark.parametrize(
    ("service", "right"), [("C-MOVE", "AllowMove"), ("C-GET", "AllowGet"), ("C-FIND", "AllowFind")]
)
def test_who_hangs_up_at_one_service_alone_is_told_to_allow_it(service, right):
    expected = Expected("pacs.0", {"PACS"}, "AVARAGW", "0.0.0.0:11112", "AVARAGW at 10.1.2.3:11112", False)
    checks = PacsChecks(None, expected, None, None, "")
    said = checks._refused(service, HungUp("gone"), echoes=True)
    assert f"register AVARAGW at 10.1.2.3:11112 in it, and allow it {service}" in said
    assert f"Allow{service[2:].capitalize()}" in said


@pytest.mark.parametrize(
    ("reason", "cures"),
    [
        # dcmqrscp says "called" of a caller that it does not know.
        (7, ["its AE title is not PACS: correct pacs.ae_title", "register AVARAGW in it, since some answer so"]),
        (3, ["register AE title AVARAGW in it"]),
    ],
)
async def test_a_pacs_that_rejects_us_is_told_with_whichever_title_may_be_wrong(reason, cures):
    async def reject(reader, writer):
        await reader.read(10_000)
        writer.write(
            bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, reason))
        )  # A-ASSOCIATE-RJ, permanent, by the user (PS3.8 §9.3.4)
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(reject, "127.0.0.1", 0) as server:
        said = await said_by("127.0.0.1", server.sockets[0].getsockname()[1])
    for cure in cures:
        assert cure in said


async def test_a_pacs_that_has_no_study_is_well_and_what_was_not_tried_is_said(simulator, start):
    results = {result.name: result async for result in (await start(simulator)).checked()}
    assert results["PACS simulator: C-FIND"].ok is True
    move = results["PACS simulator: C-MOVE"]
    assert (move.ok, move.text) == (None, "cannot be tried: the PACS lists nothing that it could send us")


def test_a_public_url_that_is_missing_is_a_note(tmp_path):
    [said] = [note for note in config(tmp_path / "state").warnings() if "http.public_url" in note]
    assert "is not set: URLs that the gateway serves itself work on this machine only" in said


async def test_an_event_that_is_no_json_is_told_in_the_log(simulator, start, caplog):
    gateway = await start(simulator)
    async with gateway.http.post(gateway.url, data=b"no json", headers=sign(KEY, "msg_1", b"no json")) as answer:
        assert answer.status == 400
    assert "which is signed by one of our keys: the body is not JSON" in caplog.text


async def test_a_state_dir_that_is_a_file_names_the_mend(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(app.CANNOT_START) as e:
        async with app.looking(config(tmp_path / "state")):
            pass
    assert "is a file, or below one: name a directory" in app.why(e.value)


@pytest.mark.parametrize(
    ("name", "sections", "cure"),
    [
        ("HL7 receiver ris", {"reports": {"hl7": [{"name": "ris", "host": "127.0.0.1", "port": 0}]}}, REFUSED),
        ("report folder nas", {"reports": {"folders": [{"name": "nas", "path": "/nowhere"}]}}, "mount the share"),
        ("alerts by webhook", {"alerts": {"webhook": {"url": "https://127.0.0.1:0/hook"}}}, REFUSED),
        (
            "alerts by email",
            {"alerts": {"email": {
                "server": "127.0.0.1", "port": 0, "sender": "a@example.org", "recipients": ["b@example.org"],
            }}},
            REFUSED,
        ),
    ],
)  # fmt: skip
async def test_a_place_that_reports_or_alerts_go_to_and_that_is_away_is_told(tmp_path, name, sections, cure):
    port = free_port()

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        return port if value == 0 else value.replace(":0/", f":{port}/") if isinstance(value, str) else value

    proofs = _destinations(config(tmp_path / "state", **filled(sections)), None)
    with pytest.raises(GatewayError) as e:
        await proofs[name]()
    said = str(e.value)
    assert cure in said
    for of_a_library in ("Errno", "Client", "Error", "aiosmtplib"):
        assert of_a_library not in said


def config(state_dir, **sections):
    return Config.model_validate({
        "state_dir": str(state_dir), "avara": {"webhook_keys": [KEY]},
        "dicom": {"host": "127.0.0.1", "port": free_port()},
        "pacs": [{"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 1}], **sections,
    })  # fmt: skip
