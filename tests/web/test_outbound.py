"""The way out through a proxy: what goes through it and what does not, TLS with the server behind it, and each way in
which a proxy fails, told apart. The proxy is real (tests/rig/proxy.py); servers have names that only it knows."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gateway.access import DecisionFailed, DecisionPoint, Place
from gateway.alerts.errors import AlertFailed
from gateway.alerts.webhook import WebhookAlert
from gateway.app.outbound import proofs_of_hosts
from gateway.avara.api import ApiUnavailable, AvaraApi
from gateway.config import Config
from gateway.objects import Credentials, ObjectStore
from gateway.reports.pdf.download import DownloadFailed, NotAllowed, PdfDownload
from gateway.reports.pdf.fresh_url import ask_avara
from gateway.web import NoWay, Outbound, Proxy
from tests.alerts.test_channels import an_alert
from tests.reports.test_download import avara_says
from tests.reports.tls import certificate
from tests.rig.proxy import ConnectProxy

NAME = "reports.example.com"
SIGNATURE = "X-Amz-Signature=0123"
PASSWORD = "pa:ss/wörd@"


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def proxy():
    async with ConnectProxy(user="us", password=PASSWORD) as running:
        yield running


@pytest.fixture
async def server(tls, proxy):
    """A server of the internet under :data:`NAME`; gives its base URL."""
    kept = {}

    async def handler(request):
        body = await request.read()
        if request.path.startswith("/v1/autoScribe/reports/pdf"):
            return web.json_response(avara_says())
        if request.path.startswith("/v1/autoScribe/"):
            return web.json_response({"studies": [], "hasMore": False})
        if request.path == "/decide":
            return web.json_response({"allow": False})
        if request.method == "PUT":
            kept[request.path] = body
            return web.Response()
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "https://elsewhere.example.com/r.pdf"})
        return web.Response(body=kept.get(request.path, b"%PDF"))

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    running = TestServer(application, scheme="https")
    await running.start_server(ssl=tls.server)
    proxy.names[NAME] = running.port
    yield f"https://{NAME}:{running.port}"
    await running.close()


def way(proxy, *, password=PASSWORD, ca_file=None):
    return Outbound(Proxy(URL(proxy.url), "us", password), ca_file=ca_file)


def pdf(server, outbound, **options):
    return PdfDownload(allowed_hosts=[f"{NAME}:{URL(server).port}"], outbound=outbound, **options)


@pytest.mark.parametrize(
    ("host", "through"),
    [
        ("api.avarasoftware.com", True), ("8.8.8.8", True), ("[2600::1]", True), ("evilhospital.example", True),
        ("pacs.hospital.example", False), ("hospital.example", False), ("PACS.Hospital.Example.", False),
        ("localhost", False), ("127.0.0.1", False), ("::1", False), ("10.1.2.3", False), ("192.168.0.1", False),
        ("minio", False), ("52.216.0.9", False), ("52.217.0.9", True), ("one.direct.example", False),
    ],
)  # fmt: skip
def test_what_is_inside_or_listed_goes_straight_and_all_else_through_the_proxy(host, through):
    outbound = Outbound(
        Proxy(URL("http://proxy:3128")), no_proxy=["hospital.example", "52.216.0.0/24", "*.direct.example"]
    )
    assert outbound.through_proxy(host) is through
    assert not Outbound().through_proxy(host)


WITH_LISTS = Outbound(Proxy(URL("http://proxy:3128")), no_proxy=["hospital.example", "10.0.0.0/8"])


@given(st.text(max_size=30))
def test_no_host_breaks_the_choice_of_the_way(host):
    WITH_LISTS.through_proxy(host)


async def test_a_report_comes_through_the_proxy_which_sees_a_name_and_nothing_of_the_url(server, proxy, tls):
    assert await pdf(server, way(proxy), ca_file=tls.ca_file).fetch(f"{server}/r.pdf?{SIGNATURE}") == b"%PDF"
    assert proxy.asked == [f"{NAME}:{URL(server).port}"]
    assert b"r.pdf" not in b"".join(proxy.heads)
    assert SIGNATURE.encode() not in b"".join(proxy.heads)


async def test_what_may_not_be_asked_for_is_not_asked_of_the_proxy_either(server, proxy, tls):
    port = URL(server).port
    hosts = [f"{NAME}:{port}", "10.0.0.5", "169.254.169.254", "127.0.0.1"]
    download = PdfDownload(allowed_hosts=hosts, ca_file=tls.ca_file, outbound=way(proxy))
    for url in (
        "https://10.0.0.5/r.pdf", "https://169.254.169.254/latest", "https://127.0.0.1/r.pdf",
        "https://unlisted.example.com/r.pdf", f"http://{NAME}:{port}/r.pdf", "https://0x7f000001/r.pdf",
    ):  # fmt: skip
        with pytest.raises(NotAllowed):
            await download.fetch(url)
    assert not proxy.asked
    with pytest.raises(NotAllowed):
        await download.fetch(f"{server}/moved")
    assert proxy.asked == [f"{NAME}:{port}"]


async def test_all_that_leaves_the_hospital_by_http_goes_through_it(server, proxy, tls):
    outbound = way(proxy, ca_file=tls.ca_file)
    alert = WebhookAlert(f"{server}/hook", outbound=outbound)
    await alert.check()
    await alert.send(an_alert())
    assert (await AvaraApi("key", base_url=server, outbound=outbound).studies(None)).studies == []
    assert (
        await ask_avara("key", "stu_1", "rep_1", base_url=server, outbound=outbound) == "https://s3.example.com/fresh"
    )
    await DecisionPoint(Place(f"{server}/decide"), outbound).check()
    at = f"{NAME}:{URL(server).port}"
    store = ObjectStore(
        endpoint=lambda: at, secure=True, region="us-east-1", bucket="images",
        credentials=Credentials("key", "secret"), ca_file=tls.ca_file, outbound=way(proxy),
    )  # fmt: skip
    async with store:
        await store.ensure_bucket()
        await store.put("small", b"12345", content_type="text/plain")
        assert await store.get("small") == b"12345"
        async with store.with_connections(2) as browsers:
            assert await browsers.get("small") == b"12345"
    assert set(proxy.asked) == {at}
    assert len(proxy.asked) >= 8
    # No key of ours is for the proxy to see: only its own.
    heads = b"".join(proxy.heads).lower()
    assert b"bearer" not in heads
    assert b"\r\nauthorization" not in heads


class Case:
    """How a proxy fails, and what is told of it."""

    def __init__(self, told, *, habit="", password=PASSWORD, name=NAME, trusted=True):
        self.told, self.habit, self.password, self.name, self.trusted = told, habit, password, name, trusted


CASES = {
    "password": Case("407", password="wrong"),
    "forbidden": Case("403", habit="403"),
    "unknown name": Case("502", name="nobody.example.com"),
    "closes": Case("through the proxy", habit="close"),
    "opens TLS": Case("outbound.ca_file", trusted=False),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
async def test_each_way_in_which_a_proxy_fails_is_told_apart_and_without_its_password(server, proxy, tls, caplog, kind):
    case = CASES[kind]
    caplog.set_level(logging.DEBUG)
    proxy.habit = case.habit
    base = server.replace(NAME, case.name)
    outbound = way(proxy, password=case.password, ca_file=tls.ca_file if case.trusted else None)
    said = []
    with pytest.raises(NoWay) as caught:
        await outbound.connect(URL(base), outbound.tls(None))
    said.append(str(caught.value))
    with pytest.raises(AlertFailed) as caught:
        await WebhookAlert(f"{base}/hook", outbound=outbound).send(an_alert())
    said.append(str(caught.value))
    with pytest.raises(ApiUnavailable) as caught:
        await AvaraApi("key", base_url=base, outbound=outbound).studies(None)
    said.append(str(caught.value))
    with pytest.raises(DecisionFailed) as caught:
        await DecisionPoint(Place(f"{base}/decide"), outbound).check()
    said.append(str(caught.value))
    for text in said:
        assert case.told in text
    if case.name == NAME:
        with pytest.raises(DownloadFailed) as caught:
            await pdf(base, outbound).fetch(f"{base}/r.pdf?{SIGNATURE}")
        said.append(str(caught.value))
        assert case.told in said[-1] or kind == "closes"
    for text in [*said, caplog.text, repr(outbound.proxy)]:
        assert PASSWORD not in text
        assert "Basic " not in text
        assert SIGNATURE not in text


@pytest.mark.slow
async def test_a_proxy_that_hangs_is_given_up(server, proxy, tls, monkeypatch):
    proxy.habit = "hang"
    monkeypatch.setattr("gateway.web.outbound.CONNECT_WITHIN", 0.3)
    outbound = way(proxy)
    with pytest.raises(NoWay, match="does not answer in time"):
        await outbound.connect(URL(server), outbound.tls(None))
    with pytest.raises(DownloadFailed):
        await pdf(server, outbound, timeout=0.3).fetch(f"{server}/r.pdf")
    with pytest.raises(AlertFailed, match="in time"):
        await WebhookAlert(f"{server}/hook", outbound=outbound, timeout=0.3).send(an_alert())


async def test_a_proxy_that_is_not_there_is_told_by_its_address(server):
    outbound = Outbound(Proxy(URL("http://127.0.0.1:1")))
    with pytest.raises(NoWay, match=r"the proxy 127\.0\.0\.1:1 cannot be reached: nothing listens"):
        await outbound.connect(URL(server), outbound.tls(None))


async def test_check_proves_each_host_through_the_proxy(server, proxy, tls):
    written = {
        "pacs": [{"name": "main", "ae_title": "MAIN", "host": "127.0.0.1", "port": 104}],
        "avara": {"api_url": server},
        "reports": {"allowed_hosts": ["nobody.example.com", "*.example.org"]},
        "outbound": {"proxy": proxy.url, "user": "us", "password": PASSWORD, "ca_file": tls.ca_file},
    }
    proofs = proofs_of_hosts(Config.model_validate(written))
    assert list(proofs) == [f"through the proxy to {NAME}", "through the proxy to nobody.example.com"]
    works, fails = proofs.values()
    await works()
    with pytest.raises(NoWay, match="does not reach it"):
        await fails()
    assert not proofs_of_hosts(Config.model_validate(written | {"outbound": {}}))
