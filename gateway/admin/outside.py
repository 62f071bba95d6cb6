"""What Avara and a radiologist's browser see of the gateway, looked at through the same door."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp

from gateway.admin import clocks
from gateway.admin.health import IDENTITY
from gateway.admin.results import Begins, CheckEvent, Result
from gateway.objects import ObjectStore, Presigner, StoreError
from gateway.runtime import reason

WITHIN = 10.0
"""Seconds for each request."""

ORIGIN = "https://viewer.example"
"""A page's origin, where any may open the URLs."""

FROM_HERE = "where only the outside can reach it, ask there: curl "


@dataclass(frozen=True, slots=True)
class Outside:
    """The gateway's public face."""

    public_url: str | None
    webhook_path: str
    images_url: str
    """The origin of presigned URLs."""
    origin: str
    """Of a page that may open them."""
    identity: str | None
    """What the server that runs here says of itself; None where none runs."""
    store: ObjectStore
    presigner: Presigner
    images_by_us: bool
    """Whether the URLs of images lead to the gateway itself."""
    images_at_the_viewer: bool
    """Whether they lead to the loopback of whoever opens them, while the gateway has the store at another address: it
    may be a container, and the viewer on the machine outside."""

    async def run(self, *, store_works: bool) -> AsyncIterator[CheckEvent]:
        """Checks one after the other; without a store that works there are no images to be opened."""
        if self.identity is None and (self.public_url is not None or self.images_by_us):
            yield Result("public URL", None, "cannot be tried: the gateway does not run")
        timeout = aiohttp.ClientTimeout(total=WITHIN)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
            if self.public_url is not None and self.identity is not None:
                yield Begins("public URL")
                async for told in self._door(http, self.public_url):
                    yield told
            if store_works and (self.identity is not None or not self.images_by_us):
                yield Begins("image URLs")
                yield await self._image(http)

    async def _door(self, http: aiohttp.ClientSession, url: str) -> AsyncIterator[CheckEvent]:
        try:
            async with http.get(f"{url}/health") as answer:
                status, headers = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            text = f"{url} cannot be reached from here ({reason(e)}): is the proxy up, and is http.public_url right? "
            yield Result("public URL", False, f"{text}{FROM_HERE}{url}/health")
            return
        if headers.get(IDENTITY) != self.identity:
            who = headers.get("Server", "")[:60] or "no name"
            text = f"{url}/health is answered by somebody else (status {status}, server {who})"
            fix = "let the proxy pass it on to http.host and http.port (deploy/nginx.conf), or correct http.public_url"
            yield Result("public URL", False, f"{text}: {fix}")
            return
        yield Result("public URL", True, f"{url} is answered by this gateway")
        if (off := _clock(headers)) is not None:
            yield off
        yield await self._webhook(http, url)
        yield await self._preflight(http, f"{url}/deferred/study/instance", "browsers")

    async def _webhook(self, http: aiohttp.ClientSession, url: str) -> Result:
        where = f"{url}{self.webhook_path}"
        try:
            # Answered with 405 and what is allowed: it shows who is there, and is no event.
            async with http.get(where, allow_redirects=False) as answer:
                status, allowed = answer.status, answer.headers.get("Allow", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            return Result("webhook", False, f"{where} cannot be reached ({reason(e)}): let the proxy pass it on")
        if (status, allowed) == (405, "POST"):
            return Result("webhook", True, f"{where} is ours: register it in Avara")
        return Result(
            "webhook", False, f"{where} is answered by somebody else (status {status}): let the proxy pass that path on"
        )

    async def _preflight(self, http: aiohttp.ClientSession, url: str, name: str) -> Result:
        """What a browser asks before a page may open a URL (WHATWG Fetch; Private Network Access)."""
        asks = {
            "Origin": self.origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
            "Access-Control-Request-Private-Network": "true",
        }
        try:
            async with http.options(url, headers=asks) as answer:
                status, headers = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            return Result(name, False, f"a browser's question beforehand (OPTIONS) is not answered ({reason(e)})")
        if status >= 300 or headers.get("Access-Control-Allow-Origin") not in ("*", self.origin):
            return Result(
                name, False, f"a page of {self.origin} may not open our URLs (OPTIONS: status {status}): let the proxy "
                "pass OPTIONS and Access-Control-* on as they are, and see avara.allowed_origins",
            )  # fmt: skip
        if headers.get("Access-Control-Allow-Private-Network") != "true":
            return Result(
                name, None, "pages may open our URLs, but Chromium asks for Access-Control-Allow-Private-Network, too, "
                "where the address is inside the hospital: let the proxy pass that header on",
            )  # fmt: skip
        return Result(name, True, f"a page of {self.origin} may open our URLs, also from inside the hospital")

    async def _image(self, http: aiohttp.ClientSession) -> Result:
        """An object of ours, opened by its URL as a browser would."""
        key, content = "probe/" + secrets.token_hex(8), secrets.token_bytes(16)
        try:
            async with asyncio.timeout(WITHIN):
                await self.store.put(key, content, content_type="application/octet-stream")
        except (StoreError, TimeoutError):
            return Result("image URLs", None, "cannot be tried: the store does not take an object now")
        try:
            [url] = self.presigner.get_urls([key], expires_in=60)
            async with http.get(url, headers={"Origin": self.origin}) as answer:
                status, headers, body = answer.status, answer.headers, await answer.content.read(1000)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            if self.images_at_the_viewer:
                return Result(
                    "image URLs", None, f"{self.images_url} leads each browser to its own machine, and us to nothing "
                    f"({reason(e)}): write the address that they use into store.public_endpoint; to try it on this "
                    f"machine, ask outside the container: curl {self.images_url}",
                )  # fmt: skip
            text = f"{self.images_url} cannot be reached from here ({reason(e)}): {self._whose}. {FROM_HERE}"
            return Result("image URLs", False, text + self.images_url)
        finally:
            await self._forget(key)
        if status == 200 and body == content:
            if headers.get("Access-Control-Allow-Origin") in ("*", self.origin):
                return Result("image URLs", True, f"{self.images_url}: an object opens by its URL, as in a browser")
            return Result(
                "image URLs", False, f"{self.images_url}: an object opens, and no page may read it: allow {self.origin}"
                " by CORS in the store, with the header Content-Range exposed",
            )  # fmt: skip
        if status == 403:
            return Result(
                "image URLs", False, f"{self.images_url} refuses a URL that we signed (403): a proxy changes the Host "
                "header or the path, or leaves out the port (nginx: proxy_set_header Host $http_host)",
            )  # fmt: skip
        return Result(
            "image URLs", False, f"{self.images_url} answers a URL that we signed with status {status}: {self._whose}"
        )

    @property
    def _whose(self) -> str:
        if self.images_by_us:
            return "let the proxy pass it on to the gateway, or correct http.public_url"
        return "let it lead to the store, or correct store.public_endpoint"

    async def _forget(self, key: str) -> None:
        with contextlib.suppress(StoreError, TimeoutError):  # of which the check of the store tells
            async with asyncio.timeout(WITHIN):
                await self.store.delete([key])


def _clock(headers: Mapping[str, str]) -> Result | None:
    off = clocks.off(headers)
    if off is None or abs(off) < clocks.CLOCK_OFF:
        return None
    return Result("clock of the proxy", False, f"it is {off:+.0f} s off ours: set both by NTP (timedatectl)")
