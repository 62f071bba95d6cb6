"""The canary: opens a study as Avara and its viewer would, through the public URL, so that it is known that it works
before a radiologist finds that it does not.

One signed event, then every URL of the answer, as a page of Avara's origin opens it: reachable, with a certificate that
is trusted, with the headers that let the page read it, and an instance behind each. Nothing is left behind anywhere but
the study in the cache.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.avara import sign
from gateway.runtime import Clock, GatewayError, progress

log = logging.getLogger(__name__)

OPENS_WITHIN = 300.0
"""Seconds for all URLs of a study."""

AT_ONCE = 6
"""URLs that are opened at once, as a browser does."""

STUDY_ID = "stu_canary"


class CanaryFailed(GatewayError):
    """A study could not be opened; the text says where it failed and what to look at."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A study that was opened."""

    urls: int
    size: int
    """Bytes."""
    answered: float
    """Seconds until the answer."""
    took: float
    """Seconds until the last URL was read."""

    def __str__(self) -> str:
        return (
            f"{self.urls} URLs opened, {self.size / 1e6:.1f} MB; answered in {self.answered:.2f} s, all read after "
            f"{self.took:.2f} s"
        )


class Canary:
    """Opens one study, on demand or again and again."""

    def __init__(
        self,
        webhook_url: str,
        key: str,
        *,
        origin: str,
        answer_within: float,
        ca_file: str | None,
        clock: Clock,
    ) -> None:
        """*webhook_url* is the public one, *key* one of those that webhooks are signed with, *origin* that of the
        viewer's pages; *answer_within* is Avara's time-out. Raises OSError for an unreadable *ca_file*."""
        self._url = webhook_url
        self._key = key
        self._origin = origin
        self._answer_within = answer_within
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._clock = clock
        self.failure = ""
        """Why the last study could not be opened; empty where it could, and before the first."""

    async def watch(self, study_instance_uid: str, every: float) -> None:
        """Opens a study for ever, with so many seconds in between."""
        while True:
            progress()
            await self._clock.sleep(every)
            try:
                opened = await self.open(study_instance_uid)
            except CanaryFailed as e:
                log.warning("canary: %s", e)
                self.failure = str(e)
            else:
                log.info("canary: %s", opened)
                self.failure = ""

    async def open(self, study_instance_uid: str) -> Opened:
        """Opens a study once. Raises CanaryFailed."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=AT_ONCE, force_close=False)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False) as http:
            began = self._clock.monotonic()
            urls = await self._ask(http, study_instance_uid)
            answered = self._clock.monotonic() - began
            turns = asyncio.Semaphore(AT_ONCE)
            try:
                async with asyncio.timeout(OPENS_WITHIN):
                    sizes = await _all([self._read(http, turns, url) for url in urls])
            except TimeoutError:
                raise CanaryFailed(
                    f"not every URL of the study was read within {OPENS_WITHIN:g} s: are the PACS, the store or the "
                    "network slow?"
                ) from None
            return Opened(len(urls), sum(sizes), answered, self._clock.monotonic() - began)

    async def _ask(self, http: aiohttp.ClientSession, study_instance_uid: str) -> Sequence[str]:
        data = {"studyId": STUDY_ID, "studyInstanceUid": study_instance_uid}
        event = {"id": f"whe_{secrets.token_hex(16)}", "type": "study.access_requested", "data": data}
        body = json.dumps(event).encode()
        headers = sign(self._key, f"msg_{secrets.token_hex(12)}", body) | {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=self._answer_within)
        try:
            async with http.post(self._url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as got:
                status, said = got.status, await got.read()
        except TimeoutError:
            raise CanaryFailed(
                f"the webhook {self._url} does not answer within avara.answer_within ({self._answer_within:g} s): "
                "does its reverse proxy reach the gateway?"
            ) from None
        except (aiohttp.ClientError, OSError) as e:
            raise CanaryFailed(f"the webhook {self._url} cannot be reached: {_why(e)}") from None
        if status != 200:
            raise CanaryFailed(
                f"the webhook {self._url} answers {status}: does http.public_url lead to this gateway, and does the "
                "reverse proxy pass webhooks on as they come?"
            )
        try:
            answer: dict[str, Any] = json.loads(said)
            urls = [*answer.get("urls", []), *(media["url"] for media in answer.get("mediaUrls", []))]
            error = answer.get("error")
        except (ValueError, AttributeError, TypeError, KeyError):
            raise CanaryFailed(f"the webhook {self._url} answers with no answer of ours: what stands there?") from None
        if error or not urls:
            raise CanaryFailed(f"the study {study_instance_uid} is not given whole: {error or 'it has no instance'}")
        return urls

    async def _read(self, http: aiohttp.ClientSession, turns: asyncio.Semaphore, url: str) -> int:
        where = url.partition("?")[0].rpartition("/")[0]
        try:
            async with turns, http.get(url, headers={"Origin": self._origin}, allow_redirects=False) as got:
                first, size = b"", 0
                async for chunk in got.content.iter_chunked(1 << 16):
                    first = first or chunk
                    size += len(chunk)
                status, allowed = got.status, got.headers.get("Access-Control-Allow-Origin")
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise CanaryFailed(f"a URL at {where} cannot be opened: {_why(e)}") from None
        if status != 200:
            raise CanaryFailed(f"a URL at {where} answers {status}: is it the store's or the gateway's, unaltered?")
        if allowed not in ("*", self._origin):
            raise CanaryFailed(
                f"a URL at {where} may not be read by a page of {self._origin}: add it to avara.allowed_origins, and "
                "to the rules (CORS) of a store or proxy of your own"
            )
        if not size:
            raise CanaryFailed(f"a URL at {where} gives nothing")
        return size


async def _all(reads: Sequence[Coroutine[Any, Any, int]]) -> Sequence[int]:
    """What each returns; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(read) for read in reads]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _why(e: BaseException) -> str:
    if isinstance(e, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted: it has ended, names another host, or lacks its chain (canary.ca_file)"
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return "its name is not known here: a name server must know it inside the hospital, too"
    if isinstance(e, aiohttp.ClientConnectorError):
        return "nothing takes the connection: does the reverse proxy run, and may this machine reach it?"
    return f"the connection broke off ({type(e).__name__})"
