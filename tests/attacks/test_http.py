"""Strangers and slow browsers on the HTTP side, with honest work beside them: nobody else is kept from being served."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from urllib.parse import urlsplit

import pytest

from gateway.avara.signature import sign
from tests.attacks.conftest import DESCRIPTORS, SAMPLE, honest
from tests.conftest import KEY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LARGE = 8_000_000
"""Bytes: more than all buffers between store and browser hold."""


class Horde:
    """Many connections from many addresses that each say something and then nothing."""

    def __init__(self, port, tls=None):
        self._port, self._tls = port, tls
        self._held = []
        self.answers = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for _, writer in self._held:
            writer.transport.abort()
        await asyncio.sleep(0.1)

    async def add(self, number, head, *, addresses=20, sips=False):
        for n in range(number):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(f"127.0.1.{1 + n % addresses}", 0), ssl=self._tls, limit=1024
                )
                writer.transport.pause_reading()
                writer.write(head)
                self._held.append((reader, writer))

    async def statuses(self, within=20):
        """The status of each answer that came."""
        found = []
        for reader, writer in self._held:
            with contextlib.suppress(OSError, TimeoutError, RuntimeError):
                writer.transport.resume_reading()
                async with asyncio.timeout(within):
                    found.append(int((await reader.readline()).split()[1]))
        return found


async def honest_work(gateway, content):
    """What others do meanwhile: open a study and an image of it, fetch something large, upload."""
    async with honest() as http:
        answer = await gateway.webhook(http)
        assert len(answer["urls"]) == len(SAMPLE)
        status, _ = await gateway.get(http, random.choice(answer["urls"]))
        assert status == 200
        [url] = gateway.presigner.get_urls(["studies/large"], expires_in=600)
        assert await gateway.get(http, url) == (200, content)
        assert await gateway.put(http, f"inbox/honest-{time.monotonic_ns()}", b"an upload") == 200


@pytest.fixture(scope="module")
async def large(besieged):
    content = bytes(range(256)) * (LARGE // 256)
    async with honest() as http:
        await besieged.webhook(http)
        assert await besieged.put(http, "studies/large", content) == 200
    return content


def request(method, url, *lines):
    parts = urlsplit(url)
    return "\r\n".join(
        (f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *lines, "", "")
    ).encode()


async def test_a_thousand_browsers_that_read_nothing_hold_up_nobody(besieged, large, besiege):
    [url] = besieged.presigner.get_urls(["studies/large"], expires_in=600)

    @contextlib.asynccontextmanager
    async def reading_nothing():
        before = besieged.resident()
        async with Horde(besieged.port) as horde:
            await horde.add(DESCRIPTORS - 24, request("GET", url))
            yield
            assert besieged.resident() - before < 200_000_000

    await besiege(reading_nothing, lambda: honest_work(besieged, large))
    await honest_work(besieged, large)
    assert besieged.log.stat().st_size < 1_000_000
    assert b"Traceback" not in besieged.log.read_bytes()


async def test_uploads_with_a_made_up_signature_are_refused_before_a_byte_goes_to_the_store(besieged, large, besiege):
    url = besieged.presigner.put_url("inbox/x", expires_in=600)
    forged = url[:-1] + ("0" if url[-1] != "0" else "1")

    @contextlib.asynccontextmanager
    async def forging():
        async with Horde(besieged.port) as horde:
            await horde.add(300, request("PUT", forged, "Content-Length: 100000") + b"x")
            yield
            answers = await horde.statuses()
            assert answers
            assert set(answers) == {403}

    await besiege(forging, lambda: honest_work(besieged, large))


async def test_slow_uploads_by_a_true_url_hold_up_no_download_and_no_other_upload(besieged, large, besiege):
    url = besieged.presigner.put_url("inbox/x", expires_in=600)

    @contextlib.asynccontextmanager
    async def slow():
        async with Horde(besieged.port) as horde:
            await horde.add(300, request("PUT", url, "Content-Length: 100000") + b"x")
            yield

    await besiege(slow, lambda: honest_work(besieged, large))


async def test_webhooks_that_are_not_signed_or_never_end_hold_up_no_signed_one(besieged, large, besiege):
    @contextlib.asynccontextmanager
    async def endless():
        lines = [f"{name}: {value}" for name, value in sign(KEY, "msg_slow", b"{").items()]
        async with Horde(besieged.port) as horde:
            await horde.add(300, request("POST", "http://x/webhooks/avara", "Content-Length: 900000", *lines) + b"{")
            await horde.add(300, request("POST", "http://x/webhooks/avara", "Content-Length: 900000") + b"{")
            yield

    await besiege(endless, lambda: honest_work(besieged, large))


async def test_connections_that_say_nothing_hold_up_nobody(besieged, large, besiege):
    @contextlib.asynccontextmanager
    async def mute():
        async with Horde(besieged.port) as horde:
            await horde.add(500, b"")
            await horde.add(500, b"GET /health HTTP/1.1\r\nHost: ")
            yield

    await besiege(mute, lambda: honest_work(besieged, large))


async def test_through_nginx_strangers_are_told_apart_and_hold_up_nobody(proxied, besiege):
    gateway, nginx = proxied
    content = bytes(LARGE)
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with honest() as http:
        answer = await gateway.webhook(http)
        assert all(url.startswith(f"https://localhost:{nginx.port}/") for url in answer["urls"])
        assert await gateway.put(http, "studies/large", content) == 200
    forged = gateway.presigner.put_url("inbox/x", expires_in=600)[:-1] + "g"

    @contextlib.asynccontextmanager
    async def forging():
        async with Horde(nginx.port, tls) as horde:
            await horde.add(300, request("PUT", forged, "Content-Length: 100000") + b"x")
            yield

    await besiege(forging, lambda: honest_work(gateway, content))
    # Nothing that opens anything is in a log.
    logs = nginx.logs() + gateway.log.read_text()
    assert "/studies/large" in logs
    assert "X-Amz" not in logs
    assert "signature=" not in logs
    assert "Traceback" not in logs


async def test_a_limit_of_descriptors_that_is_too_low_is_told_with_its_mend(besieged):
    assert "raise LimitNOFILE in the unit (or ulimit -n) to" in besieged.log.read_text()


async def test_malformed_requests_are_answered_and_are_no_traceback(besieged):
    url = f"http://127.0.0.1:{besieged.port}/webhooks/avara"
    async with honest() as http:
        signed = sign(KEY, "msg_gzip", b"no gzip")
        async with http.post(url, data=b"no gzip", headers=signed | {"Content-Encoding": "gzip"}) as answer:
            assert answer.status == 400
        [image] = besieged.presigner.get_urls(["studies/none"], expires_in=600)
        async with http.get(image, headers={"Range": "bytes=" + "9" * 5000 + "-"}) as answer:
            assert answer.status == 404
        upload = besieged.presigner.put_url("inbox/gzip", expires_in=600)
        async with http.put(upload, data=b"x", headers={"Content-Encoding": "gzip"}) as answer:
            assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "identity")
    for nonsense in (b"\x00\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", besieged.port)
        writer.write(nonsense)
        async with asyncio.timeout(20):
            assert b" 400 " in await reader.readline()
        writer.close()
    assert b"Traceback" not in besieged.log.read_bytes()
