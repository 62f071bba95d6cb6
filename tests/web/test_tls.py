"""HTTPS on our own listener: only TLS is spoken, and a certificate that was renewed is shown without a restart."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess

import aiohttp
import pytest
from aiohttp import web

from gateway.web.clients import Clients
from gateway.web.cors import Cors
from gateway.web.server import Bounds, WebServer
from gateway.web.tls import ServerCertificate
from tests.rig.ports import free_port


def make(folder, name):
    assert shutil.which("openssl"), "apt-get install openssl"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem",
         "-out", folder / "cert.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip


@pytest.fixture
async def served(tmp_path):
    make(tmp_path, "first")
    certificate = ServerCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    server, port = WebServer(Bounds.of(connections=64, descriptors=1024, kept=100), Clients(), Cors(["*"])), free_port()

    async def hello(request):
        return web.Response(text=request.scheme)

    server.application.router.add_get("/", hello)
    await server.start("127.0.0.1", port, drain_for=1, tls=certificate.context)
    yield certificate, port, tmp_path
    await server.stop()


async def shown(port):
    """The subject of the certificate that is shown."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return [name for name in ("first", "second") if name.encode() in der]


async def test_https_is_spoken_and_plain_http_is_not(served):
    _, port, folder = served
    trusted = ssl.create_default_context(cafile=folder / "cert.pem")
    async with aiohttp.ClientSession() as http:
        async with http.get(f"https://127.0.0.1:{port}/", ssl=trusted) as answer:
            assert (answer.status, await answer.text()) == (200, "https")
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://127.0.0.1:{port}/")


async def test_a_renewed_certificate_is_shown_and_open_connections_stay(served, caplog):
    certificate, port, folder = served
    old = ssl.create_default_context(cafile=folder / "cert.pem")
    connector = aiohttp.TCPConnector(limit=1, ssl=old)
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.get(f"https://127.0.0.1:{port}/") as answer:
            await answer.text()
        assert await shown(port) == ["first"]
        make(folder, "second")
        certificate.look()
        assert await shown(port) == ["second"]
        async with http.get(f"https://127.0.0.1:{port}/") as answer:  # on the connection that it has
            assert answer.status == 200


async def test_one_that_cannot_be_used_is_told_and_the_one_before_stays(served, caplog):
    certificate, port, folder = served
    (folder / "cert.pem").write_text("half of a")
    certificate.look()
    assert "cannot be used" in caplog.text
    assert await shown(port) == ["first"]
    make(folder, "second")
    certificate.look()
    assert await shown(port) == ["second"]


def test_files_that_do_not_belong_together_are_told_at_start(tmp_path):
    make(tmp_path, "first")
    kept = (tmp_path / "key.pem").read_bytes()
    make(tmp_path, "second")
    (tmp_path / "key.pem").write_bytes(kept)
    with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
        ServerCertificate(tmp_path / "cert.pem", tmp_path / "key.pem")
