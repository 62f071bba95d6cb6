"""Fetching a report's PDF from a stranger's URL: where it may lead, how much and how slowly it may come, and that
the URL stays a secret. Real sockets on this machine; DNS alone is played. Not here: whether it is a PDF."""

from __future__ import annotations

import asyncio
import builtins
import gzip
import ipaddress
import logging
import socket
import time
import traceback

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports.errors import ReportError
from gateway.reports.pdf.download import DownloadFailed, NotAllowed, PdfDownload, PdfTooLarge, UrlExpired
from gateway.reports.pdf.fresh_url import CannotAsk, ask_avara
from gateway.reports.pdf.hosts import is_public

SIGNATURE = "X-Amz-Signature=5ec2e7%2Fplus+"
PDF = b"%PDF-1.4 ... %%EOF"


@pytest.fixture
async def serve():
    """Starts a server whose every path is answered by one handler."""
    servers = []

    async def start(handler, tls=None):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, scheme="https" if tls else "http")
        servers.append(server)
        await server.start_server(ssl=tls)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def raw():
    """Starts a server that speaks for itself, byte by byte."""
    servers = []

    async def start(talk):
        async def connected(reader, writer):
            try:
                await reader.readuntil(b"\r\n\r\n")
                await talk(writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    yield start
    for server in servers:
        server.close()


def local(port, **options):
    return PdfDownload(allowed_hosts=[f"127.0.0.1:{port}"], allow_http=True, allow_private=True, **options)


def answers(status=200, body=PDF, headers=None):
    async def handler(request):
        return web.Response(status=status, body=body, headers=headers)

    return handler


async def fails(download, url, kind):
    with pytest.raises(kind) as caught:
        await download.fetch(url)
    # What an operator's log would hold, causes included.
    told = "".join(traceback.format_exception(caught.value, chain=True))
    assert SIGNATURE not in told
    return str(caught.value)


async def test_the_pdf_comes_as_it_is_and_the_url_goes_as_it_was_signed(serve):
    seen = []

    async def handler(request):
        seen.append((request.raw_path, request.headers))
        return web.Response(body=PDF)

    server = await serve(handler)
    assert await local(server.port).fetch(f"http://127.0.0.1:{server.port}/a%2Fb/r.pdf?{SIGNATURE}") == PDF
    path, headers = seen[0]
    assert path == f"/a%2Fb/r.pdf?{SIGNATURE}"
    assert "Cookie" not in headers
    assert "Authorization" not in headers


async def test_https_is_verified_against_the_ca_that_is_configured(serve, tls):
    server = await serve(answers(), tls.server)
    url = f"https://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}"
    hosts = [f"127.0.0.1:{server.port}"]
    assert await PdfDownload(allowed_hosts=hosts, allow_private=True, ca_file=tls.ca_file).fetch(url) == PDF
    told = await fails(PdfDownload(allowed_hosts=hosts, allow_private=True), url, DownloadFailed)
    assert "reports.ca_file" in told


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example.com/r.pdf",
        "https://reports.example.com.evil.com/r.pdf",
        "https://evilreports.example.com/r.pdf",
        "https://files.example.org.evil.com/r.pdf",
        "https://example.org/r.pdf",
        "https://reports.example.com:8443/r.pdf",
        "https://reports.example.com:80/r.pdf",
        "https://reports.example.com./r.pdf",
        "http://reports.example.com/r.pdf",
        "http://reports.example.com:443/r.pdf",
        "ftp://reports.example.com/r.pdf",
        "file:///etc/passwd",
        "//reports.example.com/r.pdf",
        "https://user@reports.example.com/r.pdf",
        "https://user:word@reports.example.com/r.pdf",
        "https://reports.example.com@evil.com/r.pdf",
        "https://evil.com\\@reports.example.com/r.pdf",
        "https://2130706433/r.pdf",
        "https://127.1/r.pdf",
        "https://0x7f.1/r.pdf",
        "https://[::1]/r.pdf",
        "https://169.254.169.254/latest",
        "https://reports.example.com:99999/",
        "https:///r.pdf",
        "https://",
        "",
        "https://reports.example.com/r.pdf\r\nHost: evil.com",
        "https://réports.example.com/r.pdf",
        "https://reports.example.com/" + "a" * 20_000,
    ],
)
async def test_no_url_leads_off_the_list(url, monkeypatch):
    async def looked_up(*args, **options):
        raise AssertionError("a refused host was looked up")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up)
    download = PdfDownload(allowed_hosts=["reports.example.com", "*.example.org"])
    await fails(download, f"{url}?{SIGNATURE}" if len(url) < 1000 else url, NotAllowed)


async def test_the_refusal_names_the_host_and_the_setting():
    told = await fails(PdfDownload(allowed_hosts=[]), f"https://s3.example.com/r.pdf?{SIGNATURE}", NotAllowed)
    assert "s3.example.com" in told
    assert "reports.allowed_hosts" in told
    assert "r.pdf" not in told


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("reports.example.com", "https://REPORTS.example.com/r"),
        ("Reports.Example.com", "https://reports.example.com:443/r"),
        ("reports.example.com:8443", "https://reports.example.com:8443/r"),
        ("*.example.com", "https://a.b.example.com/r"),
        (".example.com:8443", "https://a.example.com:8443/r"),
        ("s3_bucket.example.com", "https://s3_bucket.example.com/r"),
    ],
)
async def test_what_an_entry_means_is_let_through(entry, url, monkeypatch):
    async def getaddrinfo(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "not in a test")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    await fails(PdfDownload(allowed_hosts=[entry]), f"{url}?{SIGNATURE}", DownloadFailed)


@pytest.mark.parametrize("entry", ["127.0.0.1:{}", "[127.0.0.1]:{}"])
async def test_an_address_may_be_listed_and_is_still_not_public(serve, entry):
    server = await serve(answers())
    listed = [entry.format(server.port)]
    url = f"http://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}"
    assert await PdfDownload(allowed_hosts=listed, allow_http=True, allow_private=True).fetch(url) == PDF
    told = await fails(PdfDownload(allowed_hosts=listed, allow_http=True), url, NotAllowed)
    assert "inside the hospital" in told


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        ".",
        "*.com",
        "https://a.com",
        "a.com/x",
        "a b",
        "a.com:0",
        "a.com:99999",
        "a.com:x",
        "a.com.",
        "::1:x",
        "127.1",
        "*.1.2.3.4",
        "[a.com]",
    ],
)
def test_an_entry_that_is_no_host_is_refused_at_start(entry):
    with pytest.raises(ValueError, match="is no host"):
        PdfDownload(allowed_hosts=[entry])


def plays_dns(monkeypatch, *answers_in_turn):
    """Every look-up has the next answer, the last one for ever."""
    asked = []

    async def getaddrinfo(host, port, **options):
        addresses = answers_in_turn[min(len(asked), len(answers_in_turn) - 1)]
        asked.append(host)
        return [
            (
                socket.AF_INET6 if ":" in a else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (a, port, 0, 0) if ":" in a else (a, port),
            )
            for a in addresses
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fec0::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::",
        "2001::1", "2001:db8::1", "::127.0.0.1",
    ],
)  # fmt: skip
async def test_a_listed_name_that_leads_inside_is_not_connected_to(address, monkeypatch):
    plays_dns(monkeypatch, [address])
    download = PdfDownload(allowed_hosts=["reports.example.com"])
    told = await fails(download, f"https://reports.example.com/r.pdf?{SIGNATURE}", NotAllowed)
    assert address not in told
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "52.216.0.1", "2a05:d000::1", "2600:1f00::1"])
def test_what_the_internet_has_is_public(address):
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}", "::{}"]))
def test_no_ipv4_address_hides_in_an_ipv6_one(address, form):
    assert not is_public(ipaddress.ip_address(form.format(address)))


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(serve, tls, monkeypatch):
    """A name that is public when asked first and this machine when asked again."""
    hits = []

    async def handler(request):
        hits.append(request)
        return web.Response(body=PDF)

    server = await serve(handler, tls.server)
    connected = []

    async def start_connection(addr_infos, **options):
        connected.extend(info[4][0] for info in addr_infos)
        raise OSError("not in a test")

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", start_connection)
    asked = plays_dns(monkeypatch, ["203.0.114.7"], ["127.0.0.1"])
    download = PdfDownload(allowed_hosts=[f"reports.example.com:{server.port}"], ca_file=tls.ca_file)
    await fails(download, f"https://reports.example.com:{server.port}/r.pdf?{SIGNATURE}", DownloadFailed)
    assert asked == ["reports.example.com"]
    assert connected == ["203.0.114.7"]
    # The second time the name leads here, where a server with a good certificate waits.
    await fails(download, f"https://reports.example.com:{server.port}/r.pdf?{SIGNATURE}", NotAllowed)
    assert not hits


async def test_only_the_public_ones_of_several_addresses_are_tried(monkeypatch):
    connected = []

    async def start_connection(addr_infos, **options):
        connected.extend(info[4][0] for info in addr_infos)
        raise OSError("not in a test")

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", start_connection)
    plays_dns(monkeypatch, ["10.0.0.1", "203.0.114.7", "::1"])
    download = PdfDownload(allowed_hosts=["reports.example.com"])
    await fails(download, f"https://reports.example.com/r.pdf?{SIGNATURE}", DownloadFailed)
    assert set(connected) == {"203.0.114.7"}


async def test_a_name_that_nobody_knows_is_transient_and_names_dns(monkeypatch):
    async def getaddrinfo(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    download = PdfDownload(allowed_hosts=["reports.example.com"])
    assert "DNS" in await fails(download, f"https://reports.example.com/r?{SIGNATURE}", DownloadFailed)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
async def test_a_url_that_has_died_is_told_from_a_server_that_fails(serve, status):
    server = await serve(answers(status, b"<Code>AccessDenied</Code>"))
    await fails(local(server.port), f"http://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}", UrlExpired)
    assert not UrlExpired.transient


@pytest.mark.parametrize("status", [204, 206, 304, 408, 429, 500, 502, 503, 504])
async def test_a_server_that_fails_is_tried_again(serve, status):
    server = await serve(answers(status, b""))
    await fails(local(server.port), f"http://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}", DownloadFailed)
    assert DownloadFailed.transient


async def test_a_redirect_to_a_listed_host_is_followed_and_no_more_than_three(serve):
    async def handler(request):
        left = int(request.path.strip("/"))
        return web.Response(body=PDF) if not left else web.Response(status=302, headers={"Location": f"/{left - 1}"})

    server = await serve(handler)
    download = local(server.port)
    assert await download.fetch(f"http://127.0.0.1:{server.port}/3?{SIGNATURE}") == PDF
    await fails(download, f"http://127.0.0.1:{server.port}/4?{SIGNATURE}", DownloadFailed)


@pytest.mark.parametrize(
    "location",
    ["https://evil.example.com/r.pdf", "//evil.example.com/r.pdf", "file:///etc/passwd", "http://u@127.0.0.1/", "é"],
)
async def test_a_redirect_to_elsewhere_is_not_followed(serve, location):
    server = await serve(answers(307, b"", {"Location": location}))
    await fails(local(server.port), f"http://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}", NotAllowed)


async def test_a_redirect_from_https_to_http_is_not_followed(serve, tls):
    plain = await serve(answers())
    server = await serve(answers(302, b"", {"Location": f"http://127.0.0.1:{plain.port}/r.pdf"}), tls.server)
    download = PdfDownload(
        allowed_hosts=[f"127.0.0.1:{server.port}", f"127.0.0.1:{plain.port}"],
        allow_http=True,
        allow_private=True,
        ca_file=tls.ca_file,
    )
    await fails(download, f"https://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}", NotAllowed)


async def test_a_body_is_read_no_further_than_the_limit(raw):
    sent = 0

    async def announced(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(30)

    async def endless(writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()
            sent += 65536

    for talk in (announced, endless):
        port = await raw(talk)
        began = time.monotonic()
        told = await fails(local(port, max_size=1_000_000), f"http://127.0.0.1:{port}/r?{SIGNATURE}", PdfTooLarge)
        assert "reports.max_size" in told
        assert time.monotonic() - began < 10
    assert sent < 30_000_000  # what the sockets hold, and no more


@pytest.mark.slow
async def test_a_server_that_falls_silent_or_drips_is_given_up(raw):
    async def silent(writer):
        await asyncio.sleep(30)

    async def silent_within(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n%PDF")
        await asyncio.sleep(30)

    async def drips(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"%")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def drips_headers(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    for talk in (silent, silent_within, drips, drips_headers):
        port = await raw(talk)
        began = time.monotonic()
        download = local(port, timeout=1.0, idle_timeout=0.3)
        await fails(download, f"http://127.0.0.1:{port}/r?{SIGNATURE}", DownloadFailed)
        assert time.monotonic() - began < 10


async def test_a_connection_that_breaks_is_transient_and_gives_no_half_pdf(raw):
    async def breaks(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n%PDF")
        await writer.drain()

    async def garbage(writer):
        writer.write(b"\x00\x01 SSH-2.0\r\n\r\n")
        await writer.drain()

    for talk in (breaks, garbage):
        port = await raw(talk)
        await fails(local(port), f"http://127.0.0.1:{port}/r?{SIGNATURE}", DownloadFailed)
    await fails(local(1), f"http://127.0.0.1:1/r?{SIGNATURE}", DownloadFailed)


async def test_nothing_is_decompressed(serve):
    bomb = gzip.compress(bytes(10_000_000))
    server = await serve(answers(200, bomb, {"Content-Encoding": "gzip"}))
    await fails(local(server.port), f"http://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}", DownloadFailed)


async def test_no_proxy_of_the_environment_is_used_and_no_cookie_is_kept(serve, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    seen = []

    async def handler(request):
        seen.append(request.headers.get("Cookie"))
        return web.Response(body=PDF, headers={"Set-Cookie": "a=b"})

    server = await serve(handler)
    download = local(server.port)
    for _ in range(2):
        assert await download.fetch(f"http://127.0.0.1:{server.port}/r.pdf") == PDF
    assert seen == [None, None]


async def test_the_url_is_in_no_log(serve, caplog):
    caplog.set_level(logging.DEBUG)
    server = await serve(answers())
    await local(server.port).fetch(f"http://127.0.0.1:{server.port}/r.pdf?{SIGNATURE}")
    ours = [r.getMessage() for r in caplog.records if r.name != "aiohttp.access"]  # the stand-in's own
    assert not [line for line in ours if "Signature" in line]


# -- asking Avara


def avara_says(**changes):
    return {
        "reportId": "rep_1", "studyId": "stu_1", "studyInstanceUid": "1.2.3", "isCritical": False,
        "presignedUrl": "https://s3.example.com/fresh", "snapshotMetadata": {}, **changes,
    }  # fmt: skip


async def test_avara_is_asked_for_a_fresh_url_by_its_own_sdk(serve):
    seen = []

    async def handler(request):
        seen.append((request.path, dict(request.query), request.headers["Authorization"]))
        return web.json_response(avara_says())

    server = await serve(handler)
    url = await ask_avara("key", "stu_1", "rep_1", base_url=f"http://127.0.0.1:{server.port}")
    assert url == "https://s3.example.com/fresh"
    assert seen == [("/v1/autoScribe/reports/pdf", {"reportId": "rep_1"}, "Bearer key")]


async def test_of_a_list_of_reports_the_right_one_is_taken(serve):
    async def handler(request):
        other = avara_says(reportId="rep_2", presignedUrl="https://s3.example.com/other")
        return web.json_response({"studyId": "stu_1", "studyInstanceUid": "1.2.3", "reports": [other, avara_says()]})

    server = await serve(handler)
    url = await ask_avara("key", "stu_1", "rep_1", base_url=f"http://127.0.0.1:{server.port}")
    assert url == "https://s3.example.com/fresh"


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, CannotAsk, "avara.api_key"),
        (403, CannotAsk, "avara.api_key"),
        (404, CannotAsk, "does not know"),
        (422, CannotAsk, "422"),
        (302, DownloadFailed, "302"),
        (429, DownloadFailed, "429"),
        (500, DownloadFailed, "500"),
    ],
)
async def test_what_avara_refuses_is_told_from_where_it_fails(serve, status, kind, said):
    server = await serve(answers(status, b'{"error": "secret"}', {"Location": "https://elsewhere.example.com/"}))
    with pytest.raises(kind, match=said) as caught:
        await ask_avara("key", "stu_1", "rep_1", base_url=f"http://127.0.0.1:{server.port}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    ["{}", "null", "[]", "not JSON", '{"reports": 3}', '{"reports": [null, 1]}',
     '{"reportId": "rep_2", "studyId": "stu_1", "presignedUrl": "https://s3.example.com/other"}',
     '{"reportId": "rep_1", "studyId": "stu_2", "presignedUrl": "https://s3.example.com/other"}',
     '{"reportId": "rep_1", "studyId": "stu_1", "presignedUrl": null}'],
)  # fmt: skip
async def test_an_answer_of_avaras_without_this_reports_url_is_refused(serve, body):
    server = await serve(answers(200, body.encode(), {"Content-Type": "application/json"}))
    with pytest.raises(ReportError):
        await ask_avara("key", "stu_1", "rep_1", base_url=f"http://127.0.0.1:{server.port}")


@pytest.mark.slow
async def test_an_avara_that_does_not_answer_is_given_up(raw):
    async def drips(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nContent-Type: application/json\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    port = await raw(drips)
    with pytest.raises(DownloadFailed):
        await ask_avara("key", "stu_1", "rep_1", base_url=f"http://127.0.0.1:{port}", timeout=0.5)
    with pytest.raises(DownloadFailed):
        await ask_avara("key", "stu_1", "rep_1", base_url="http://127.0.0.1:1")


async def test_without_avaras_sdk_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **options):
        if name == "avara":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(CannotAsk, match=r"pip install 'avara-gateway\[avara\]'"):
        await ask_avara("key", "stu_1", "rep_1")
