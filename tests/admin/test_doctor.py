"""``check`` names the cause and the mend: each usual mistake is made for real, and what is said of it is read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from gateway import app
from gateway.admin import checks
from gateway.admin.for_pacs import for_pacs
from gateway.admin.outside import ORIGIN, Outside
from gateway.admin.results import Result
from gateway.admin.verdict import Expected, verdict
from gateway.app.pacs import tls_context
from gateway.config import Config, load, revealed
from gateway.config.dicom import TlsConfig
from gateway.demo.sample import sample_study, synthetic_ct
from gateway.objects import Presigner
from gateway.pacs.errors import PacsError
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scp.acceptance import Seen
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.upper.negotiation import (
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
)
from gateway.studies.cache import Budget
from tests.conftest import AE_TITLE, KEY, describe
from tests.rig.ports import free_port

SECRET = "hunter2-hunter2"


# -- what our listener saw


EXPECTED = Expected("pacs.0", {"ORTHANC"}, "AVARAGW", "0.0.0.0:11112", "AVARAGW at 10.1.2.3:11112", False)


@pytest.mark.parametrize(
    ("seen", "cure"),
    [
        ([], "no connection from it reached 0.0.0.0:11112"),
        ([], "register AVARAGW at 10.1.2.3:11112 in it as a C-MOVE destination"),
        ([("ORTHANC", "avaragw", CALLED_AE_NOT_RECOGNIZED)], "in these letters, or set dicom.ae_title_case: ignore"),
        ([("ORTHANC", "OTHER", CALLED_AE_NOT_RECOGNIZED)], "or set dicom.ae_title: OTHER"),
        ([("PACSSEND", "AVARAGW", CALLING_AE_NOT_RECOGNIZED)], "set pacs.0.sending_ae_titles: [PACSSEND]"),
        ([("Orthanc", "AVARAGW", CALLING_AE_NOT_RECOGNIZED)], "which you wrote ORTHANC: correct it"),
        ([("ORTHANC", "AVARAGW", CALLING_AE_NOT_RECOGNIZED)], "set pacs.0.sending_addresses: [10.1.2.9]"),
        ([("ORTHANC", "AVARAGW", LOCAL_LIMIT_EXCEEDED)], "raise dicom.max_associations"),
        ([("ORTHANC", "AVARAGW", None)], "was let in, and no instance followed: its own log says why"),
        ([("", "", None)], "10.1.2.9 connected, and asked for no association: does it speak TLS?"),
        ([("", "", None), ("PACSSEND", "AVARAGW", CALLING_AE_NOT_RECOGNIZED)], "pacs.0.sending_ae_titles"),
    ],
)
def test_what_the_listener_saw_decides_what_is_said_of_a_move(seen, cure):
    callers = [Seen("10.1.2.9", 0.0, calling, called, rejected) for calling, called, rejected in seen]
    assert cure in verdict(callers, EXPECTED)


async def said_of_move(gateway):
    results = {r.name: r async for r in gateway.checked()}
    [move] = [r for name, r in results.items() if name.endswith("C-MOVE")]
    return move


def fill(simulator):
    simulator.add(*(i.content for i in synthetic_ct("1.2.3.4", 2, 16, 16)))


async def test_a_pacs_that_sends_under_another_title_is_told_by_that_title(simulator, start):
    fill(simulator)
    simulator.behaviour.calling_ae_title = "PACSSEND"
    move = await said_of_move(await start(simulator))
    assert move.ok is False
    assert "pacs.0.sending_ae_titles: [PACSSEND]" in move.text
    assert "firewall" not in move.text


async def test_a_pacs_that_sends_from_another_address_is_told_by_that_address(simulator, start):
    fill(simulator)
    move = await said_of_move(await start(simulator, pacs_options={"sending_addresses": ["10.9.9.9"]}))
    assert move.ok is False
    assert "pacs.0.sending_addresses: [127.0.0.1]" in move.text


async def test_a_pacs_that_connects_elsewhere_is_told_by_nothing_having_come(simulator, start):
    fill(simulator)
    gateway = await start(simulator)
    simulator.destinations[AE_TITLE] = ("127.0.0.1", free_port())
    move = await said_of_move(gateway)
    assert move.ok is False
    assert "no connection from it reached" in move.text


async def test_a_gateway_registered_in_other_letters_is_told_by_the_letters(orthanc, start):
    await orthanc.add(*(i.content for i in sample_study()[1]))
    gateway = await start(orthanc)
    modality = {"AET": AE_TITLE.lower(), "Host": "127.0.0.1", "Port": gateway.parts.scp.port}
    await orthanc._ok("PUT", f"/modalities/{AE_TITLE}", json=modality)
    move = await said_of_move(gateway)
    await orthanc.register(AE_TITLE, gateway.parts.scp.port)
    assert move.ok is False
    assert f"calls us {AE_TITLE.lower()}, and we are {AE_TITLE}" in move.text


# -- what a PACS's port answers


async def said_by(port, *, tls=None, title="PACS"):
    peer = Peer("main", title, "127.0.0.1", port, AE_TITLE, timeouts=Timeouts(connect=5, associate=5), tls=tls)
    with pytest.raises(PacsError) as e:
        await PacsClient(peer, advertised="us").echo()
    return str(e.value)


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


@contextlib.asynccontextmanager
async def listening(answer, **options):
    async def serve(reader, writer):
        await reader.read(1)
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, **options) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html><body>400</body></html>"])
async def test_a_web_server_on_the_port_is_told_as_that(answer):
    async with listening(answer) as port:
        assert "is a web server on this port: write its DICOM port" in await said_by(port)


async def test_the_http_port_of_an_orthanc_is_told_as_a_web_servers(one_orthanc):
    assert "is a web server" in await said_by(one_orthanc.http_port)


async def test_tls_where_none_is_configured_is_told(certificate_of):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_of(30))
    async with listening(b"", ssl=context) as port:
        assert "tls" in (await said_by(port)).lower()
    async with listening(bytes((0x15, 3, 3, 0, 2, 2, 70))) as port:
        assert "speaks TLS on this port: give it tls" in await said_by(port)


async def test_a_plain_port_where_tls_is_configured_is_told(simulator):
    said = await said_by(simulator.port, tls=unverified())
    assert "TLS" in said
    assert "leave its tls out" in said or "does this port speak TLS" in said
    async with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "does not speak TLS on this port" in await said_by(port, tls=unverified())
    async with listening(b"") as port:
        assert "does this port speak TLS?" in await said_by(port, tls=unverified())


@pytest.fixture
def certificate_of(tmp_path):
    """A self-signed certificate with its key, that is valid for so many days from now."""
    assert shutil.which("openssl"), "apt-get install openssl"

    def make(days):
        file = tmp_path / f"certificate{days}.pem"
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
             key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days",
             str(days)],
            check=True, capture_output=True,
        )  # fmt: skip
        file.write_bytes(key.read_bytes() + certificate.read_bytes())
        return file

    return make


async def test_a_certificate_that_is_trusted_by_nobody_is_told(certificate_of):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_of(30))
    async with listening(b"", ssl=context) as port:
        assert "tls.ca_file has not the authority that signed it" in await said_by(port, tls=unverified())


@pytest.fixture
def forbidding():
    """A PACS that answers a C-ECHO, and hangs up on a C-FIND: as Orthanc does on whom it may not answer."""

    def hang_up(event):
        event.assoc.abort()
        yield 0x0000, None

    ae = AE("STRICT")
    ae.add_supported_context(Verification)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, hang_up)])
    yield {"name": "strict", "ae_title": "STRICT", "host": "127.0.0.1", "port": port}
    server.shutdown()


async def test_a_pacs_that_echoes_and_hangs_up_on_a_query_is_told_to_allow_it(forbidding, start):
    results = {r.name: r async for r in (await start(forbidding)).checked()}
    assert results["PACS strict: C-ECHO"].ok is True
    said = results["PACS strict: C-FIND"]
    assert said.ok is False
    assert f"register {AE_TITLE} at" in said.text
    assert "AllowFind" in said.text


# -- the file that was named


async def test_the_file_is_checked_and_what_of_it_does_not_run_yet_is_told_without_a_secret(simulator, start):
    gateway = await start(simulator)
    document = revealed(gateway.config)
    document["pacs"][0]["port"] = closed = free_port()
    document["store"]["secret_key"] = SECRET
    changed = Config.model_validate(document)
    results = [r async for r in gateway.checked(changed)]
    told = "\n".join(r.text for r in results)
    assert "this checks the file; the running gateway has 2 settings otherwise" in told
    assert f"pacs.0.port: {simulator.port} runs, {closed} is in the file" in told
    assert "store.secret_key: ********" in told
    assert SECRET not in told
    by_name = {r.name: r for r in results}
    assert by_name["store"].ok is False  # by the key in the file, which is wrong
    assert "correct store.access_key and its secret" in by_name["store"].text
    assert by_name[f"PACS {gateway.config.pacs[0].name}: C-ECHO"].ok is False


async def test_the_same_file_differs_in_nothing(simulator, start):
    gateway = await start(simulator)
    assert not [r async for r in gateway.checked() if r.name == "configuration"]


# -- without a running gateway


@pytest.fixture
def write(tmp_path):
    def write(pacs, **sections):
        document = {
            "http": {"port": free_port()},
            "avara": {"webhook_keys": [KEY]},
            "dicom": {"host": "127.0.0.1", "port": free_port()},
            "pacs": [pacs],
            "cache": {"min_free": "0"},
            "state_dir": str(tmp_path / "state"),
            **sections,
        }
        path = tmp_path / "gateway.yaml"
        path.write_text(json.dumps(document))
        return load(path, {})

    return write


async def looked(config):
    async with app.looking(config) as lines:
        return {told.name: told async for told in lines if isinstance(told, Result)}


def s3(endpoint, **options):
    return {"endpoint": endpoint, "access_key": "a", "secret_key": SECRET, "secure": False} | options


async def test_a_store_that_never_answers_holds_up_nobody_and_the_pacs_is_asked_all_the_same(
    simulator, write, monkeypatch
):
    monkeypatch.setattr(checks, "STORE_WITHIN", 1.0)

    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        results = await looked(write(describe(simulator), store=s3(f"127.0.0.1:{port}")))
    assert "does not answer within 1 s" in results["store"].text
    assert results[f"PACS {describe(simulator)['name']}: C-ECHO"].ok is True


@pytest.mark.parametrize(
    ("store", "cure"),
    [
        (lambda: s3(f"127.0.0.1:{free_port()}"), "nothing listens on that port"),
        (lambda: s3("no-such-host.invalid:9000"), "its host name is not known (DNS)"),
    ],
)
async def test_a_store_that_cannot_be_reached_is_told_with_the_cause(simulator, write, store, cure):
    results = await looked(write(describe(simulator), store=store()))
    assert results["store"].ok is False
    assert cure in results["store"].text
    for of_a_library in ("MaxRetry", "Client", "Error"):
        assert of_a_library not in results["store"].text


async def test_a_store_without_tls_where_it_is_expected_names_the_key(simulator, write, weed):
    results = await looked(write(describe(simulator), store=s3(weed.endpoint, secure=True)))
    assert "store.secure: false" in results["store"].text


async def test_ports_that_others_have_are_told_by_their_keys_and_the_rest_is_checked(simulator, write, weed):
    async def nobody(reader, writer):
        writer.close()

    async with AsyncExitStack() as stack:
        taken = {}
        for key in ("http", "metrics", "dicom"):
            server = await stack.enter_async_context(await asyncio.start_server(nobody, "127.0.0.1", 0))
            taken[key] = server.sockets[0].getsockname()[1]
        config = write(
            describe(simulator),
            http={"port": taken["http"]},
            metrics={"port": taken["metrics"]},
            dicom={"host": "127.0.0.1", "port": taken["dicom"]},
            store=s3(weed.endpoint)
            | {"access_key": weed.credentials.access_key, "secret_key": weed.credentials.secret_key},
        )
        results = await looked(config)
        for name, key in (("http.port", "http"), ("metrics.port", "metrics"), ("DICOM listener", "dicom")):
            assert results[name].ok is False
            assert f"{key}.port: another program listens on {taken[key]}" in results[name].text
        assert results[f"PACS {describe(simulator)['name']}: C-ECHO"].ok is True
        with pytest.raises(app.CANNOT_START, match=r"dicom\.port: another program"):
            async with app.open_gateway(config):
                pass


async def test_an_address_of_another_machine_is_told_by_its_key(simulator, write, weed):
    results = await looked(
        write(describe(simulator), http={"host": "192.0.2.1", "port": 8080}, store=s3(weed.endpoint))
    )
    assert "http.host: 192.0.2.1 is no address of this machine" in results["http.port"].text


def command(*arguments):
    """A command as people run it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AVARA_")}
    full = [*_everybody_can_read_python(), sys.executable, "-m", "gateway", *map(str, arguments)]
    return subprocess.run(full, capture_output=True, text=True, timeout=120, env=environment)


def _everybody_can_read_python():
    """Where this Python lies in somebody's home, it is bound to its place anew, with a way there that all may go: a
    program that becomes another user goes on to read it."""
    prefix = Path(sys.base_prefix)
    shut = [p for p in prefix.parents if not p.stat().st_mode & 0o001]
    if not shut or os.geteuid() != 0:
        return []
    script = (
        'set -e; kept=$(mktemp -d); mount --bind "$1" "$kept"; mount -t tmpfs -o mode=755 tmpfs "$2"; mkdir -p "$1"; '
        'mount --bind "$kept" "$1"; shift 2; exec "$@"'
    )
    return ["unshare", "-m", "sh", "-c", script, "sh", str(prefix), str(shut[-1])]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another")
def test_root_leaves_nothing_that_the_service_could_not_open():
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        state, path = directory / "state", directory / "gateway.yaml"
        state.mkdir(mode=0o700)
        os.chown(state, 23456, 23456)
        document = {
            "http": {"port": free_port()},
            "avara": {"webhook_keys": [KEY]},
            "dicom": {"host": "127.0.0.1", "port": free_port()},
            "pacs": [{"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 1}],
            "state_dir": str(state),
        }
        path.write_text(json.dumps(document))
        done = command("check", "-c", path)
        assert "store: " in done.stdout, done.stdout + done.stderr
        left = [state, *state.rglob("*")]
        assert len(left) > 3
        assert {(p.lstat().st_uid, p.lstat().st_gid) for p in left} == {(23456, 23456)}
        # And a service as root is refused there.
        served = command("serve", "-c", path)
        assert served.returncode == 1
        assert "is user 23456's" in served.stderr
    finally:
        shutil.rmtree(directory)


@pytest.mark.slow
def test_a_state_dir_that_is_not_there_is_not_made_by_looking(write, tmp_path):
    write({"name": "main", "ae_title": "A", "host": "127.0.0.1", "port": 1})
    done = command("check", "-c", tmp_path / "gateway.yaml", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert not (tmp_path / "state").exists()
    assert told["ok"] is False
    assert told["failed"] == sum(r["ok"] is False for r in told["results"]) > 0
    names = {r["name"]: r for r in told["results"]}
    assert "is not there yet" in next(r["text"] for r in told["results"] if r["name"] == "state_dir")
    assert names["store"]["ok"] is True
    assert names["PACS main: C-ECHO"]["ok"] is False


# -- for the PACS's administrator


def test_what_the_pacs_has_to_have_is_ready_to_send(write):
    config = write(
        {"name": "main", "ae_title": "ORTHANC", "host": "10.1.2.4", "port": 4242, "sending_ae_titles": ["SEND"]},
        dicom={"ae_title": "AVARAGW", "port": 11112, "advertised_host": "10.1.2.3"},
        store=s3("10.1.2.5:9000"),
    )
    letter = for_pacs(config, config.pacs[0])
    for said in (
        "AE title     AVARAGW",
        "Address      10.1.2.3",
        "Port         11112",
        "C-MOVE, C-STORE to it",
        "from 10.1.2.3 to 10.1.2.4:4242",
        "from 10.1.2.4 to 10.1.2.3:11112",
        "ORTHANC or SEND",
    ):
        assert said in letter
    entry = json.loads("{" + letter.splitlines()[-1] + "}")["DicomModalities"]["avara"]
    assert (entry["AET"], entry["Host"], entry["Port"], entry["AllowFind"]) == ("AVARAGW", "10.1.2.3", 11112, True)
    assert SECRET not in letter
    assert KEY not in letter


def test_a_pacs_that_is_stored_in_by_stow_rs_is_asked_to_let_our_user_store_and_for_no_c_store(write):
    url = "https://pacs.example.org/dicom-web"
    config = write(
        {
            "name": "main", "ae_title": "ORTHANC", "host": "10.1.2.4", "port": 4242, "dicomweb_url": url,
            "store": "stow-rs", "dicomweb_user": "gateway", "dicomweb_password": SECRET,
        },
        store=s3("10.1.2.5:9000"),
    )  # fmt: skip
    letter = for_pacs(config, config.pacs[0])
    assert f"by STOW-RS, at {url}/studies:" in letter
    assert "C-STORE" not in letter
    assert '"AllowStore": false' in letter
    assert SECRET not in letter


# -- from outside in


async def test_a_public_url_that_somebody_else_answers_is_told(simulator, start):
    async def other(request):
        return web.Response(status=404, headers={"Server": "nginx"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", other)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        gateway = await start(simulator)
        document = revealed(gateway.config)
        document["http"]["public_url"] = f"http://127.0.0.1:{port}"
        results = {r.name: r async for r in gateway.checked(Config.model_validate(document))}
        assert results["public URL"].ok is False
        assert "answered by somebody else (status 404, server nginx)" in results["public URL"].text
        document["http"]["public_url"] = f"http://127.0.0.1:{free_port()}"
        results = {r.name: r async for r in gateway.checked(Config.model_validate(document))}
        assert "cannot be reached from here (nothing listens on that port)" in results["public URL"].text
        document = revealed(gateway.config)
        document["store"]["public_endpoint"] = f"http://127.0.0.1:{port}"
        results = {r.name: r async for r in gateway.checked(Config.model_validate(document))}
        assert (
            "with status 404: let it lead to the store, or correct store.public_endpoint" in results["image URLs"].text
        )
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("at_the_viewer", "ok"), [(True, None), (False, False)])
async def test_image_urls_that_lead_to_the_viewer_s_own_machine_are_a_fault_only_where_that_is_this_one(
    store, at_the_viewer, ok
):
    url = f"http://localhost:{free_port()}"
    urls = Presigner(
        endpoint_url=url, region=store.region, bucket=store.bucket, credentials=store.credentials
    )  # fmt: skip
    outside = Outside(None, "/webhooks/avara", url, ORIGIN, None, store, urls, False, at_the_viewer)
    [told] = [r async for r in outside.run(store_works=True) if isinstance(r, Result)]
    assert (told.name, told.ok) == ("image URLs", ok)
    assert "store.public_endpoint" in told.text
    assert f"curl {url}" in told.text


async def test_what_avara_and_browsers_need_is_proven_through_the_public_url(simulator, start):
    results = {r.name: r async for r in (await start(simulator)).checked()}
    for name in ("public URL", "webhook", "browsers"):
        assert results[name].ok is True, results[name]


# -- what the log teaches


async def test_a_webhook_under_a_wrong_path_is_told_once_a_minute(simulator, start, caplog):
    gateway = await start(simulator)
    url = f"http://127.0.0.1:{gateway.config.http.port}"
    for _ in range(3):
        async with gateway.http.post(f"{url}/webhook/avara?token=hidden", data=b"{}") as answer:
            assert answer.status == 404
    [line] = [r.getMessage() for r in caplog.records if "no such path" in r.getMessage()]
    assert "POST /webhook/avara from 127.0.0.1: there is no such path; Avara's webhook is /webhooks/avara" in line
    assert "hidden" not in caplog.text


async def test_a_webhook_that_is_asked_for_by_get_is_told(simulator, start, caplog):
    gateway = await start(simulator)
    async with gateway.http.get(f"http://127.0.0.1:{gateway.config.http.port}/webhooks/avara") as answer:
        assert answer.status == 405
    assert "GET of the webhook from 127.0.0.1: Avara POSTs its events" in caplog.text


# -- disks and the cache


async def test_a_disk_that_has_less_than_the_cache_keeps_free_is_seen_by_check_and_health(
    simulator, start, monkeypatch
):
    monkeypatch.setattr("gateway.admin.health.FRESH", 0.0)
    gateway = await start(simulator)
    budget = Budget(10**9, 10**15, lambda: 10**9)
    monkeypatch.setattr(gateway.parts.cache, "_budget", budget)
    results = {r.name: r async for r in gateway.checked()}
    assert results["cache"].ok is False
    assert "free space on it, or lower cache.min_free" in results["cache"].text
    async with gateway.http.get(f"http://127.0.0.1:{gateway.config.http.port}/health") as answer:
        assert answer.status == 503
        assert "cache.min_free" in (await answer.json())["reasons"]["cache"]


# -- certificates in files


def test_files_that_are_no_certificates_are_told_by_their_keys(tmp_path, certificate_of):
    good, other = certificate_of(30).read_bytes(), certificate_of(31).read_bytes()
    files = {name: tmp_path / name for name in ("certificate_file", "key_file", "ca_file")}

    def said(**contents):
        for name, file in files.items():
            file.write_bytes(contents.get(name, good))
        with pytest.raises(app.Misconfigured) as e:
            tls_context(TlsConfig.model_validate(files), ssl.Purpose.SERVER_AUTH)
        return str(e.value)

    assert "tls.ca_file" in said(ca_file=b"nothing")
    assert "tls.certificate_file" in said(certificate_file=b"nothing")
    assert "is not its key" in said(key_file=other)
