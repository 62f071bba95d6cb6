"""The page over HTTPS on its own port: nothing but TLS is spoken there, the session's cookie is for HTTPS alone, and a
certificate that was renewed is shown. How it is read again: tests/web/test_tls.py."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest

from gateway.admin import certificates
from gateway.app.alerts import certificate_files
from gateway.config.page import PageConfig
from gateway.web import tls
from tests.page.conftest import USERS, Browser
from tests.rig.ports import free_port
from tests.web.test_tls import make, shown


async def test_it_speaks_https_alone_with_a_secure_cookie_and_shows_a_renewed_certificate(
    start, simulator, tmp_path, monkeypatch
):
    monkeypatch.setattr(tls, "LOOKS_EVERY", 0.05)
    make(tmp_path, "first")
    files = {"certificate_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}
    port = free_port()
    running = await start(simulator, page={"port": port, "users": USERS, "tls": files})
    trusted = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as http:
        browser = Browser(http, f"https://127.0.0.1:{port}")
        assert await browser.log_in("ann") == 303
        assert "Secure" in browser.headers["Set-Cookie"].split("; ")
        assert (await browser.get("/"))[0] == 200
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://127.0.0.1:{port}/")
    assert await shown(port) == ["first"]
    make(tmp_path, "second")
    async with asyncio.timeout(30):
        while await shown(port) != ["second"]:
            await asyncio.sleep(0.05)
    read = certificate_files(running.parts.config)
    assert read["page.tls.certificate_file"] == tmp_path / "cert.pem"  # told of before it ends, as the others are
    assert [end.what for end in await certificates.ends(read, {}, 0.0)] == ["page.tls.certificate_file"]


@pytest.mark.parametrize("https", [True, False])
def test_only_a_page_without_https_that_others_can_reach_is_warned_of(https):
    files = {"tls": {"certificate_file": "c.pem", "key_file": "k.pem"}} if https else {}
    page = PageConfig.model_validate({"host": "0.0.0.0", "port": 9465, "users": USERS} | files)
    assert [("page.tls" in told) for told in page.warnings()] == ([] if https else [True])
