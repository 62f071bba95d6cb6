"""The canary: opens a study as Avara and its viewer would, through the public URL, so that it is known that it works
before a radiologist finds that it does not.

One signed event, then every URL of the answer, as a page of Avara's origin opens it: reachable, with a certificate that
is trusted, with the headers that let the page read it, and an instance behind each. Nothing is left behind anywhere but
the study in the cache. A capture is uploaded for the synthetic study alone (:mod:`gateway.admin.synthetic`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway.avara import sign
from gateway.runtime import Clock, GatewayError, progress, reason

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

    async def watch(self, sing: Callable[[], Awaitable[str]], every: float) -> None:
        """Does what *sing* does for ever, with so many seconds in between; it raises CanaryFailed."""
        while True:
            progress()
            await self._clock.sleep(every)
            try:
                report = await sing()
            except CanaryFailed as e:
                log.warning("canary: %s", e)
                self.failure = str(e)
            else:
                log.info("canary: %s", report)
                self.failure = ""

    async def open(self, study_instance_uid: str, *, mark: bytes = b"") -> Opened:
        """Opens a study once, each instance of which has *mark* in it. Raises CanaryFailed."""
        async with self._browser() as http:
            began = self._clock.monotonic()
            urls = await self._ask(http, study_instance_uid)
            answered = self._clock.monotonic() - began
            turns = asyncio.Semaphore(AT_ONCE)
            try:
                async with asyncio.timeout(OPENS_WITHIN):
                    sizes = await _all([self._read(http, turns, url, mark) for url in urls])
            except TimeoutError:
                raise CanaryFailed(
                    f"not every URL of the study was read within {OPENS_WITHIN:g} s: are the PACS, the store or the "
                    "network slow?"
                ) from None
            return Opened(len(urls), sum(sizes), answered, self._clock.monotonic() - began)

    async def upload_url(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
        """A URL to which the instance may be uploaded. Raises CanaryFailed."""
        more = {"seriesInstanceUid": series_instance_uid, "sopInstanceUid": sop_instance_uid}
        async with self._browser() as http:
            answer = await self._post(http, "secondary_capture.access_requested", study_instance_uid, more)
        try:
            url: str = answer["uploadUrls"][0]
        except (KeyError, IndexError, TypeError):
            raise CanaryFailed(f"no upload URL is given for it: {answer.get('error') or 'no reason is told'}") from None
        return url

    async def upload(self, url: str, content: bytes) -> None:
        """Uploads to such a URL as a page of Avara's origin does: a question first, as browsers ask it (CORS). Raises
        CanaryFailed."""
        where, asks = url.partition("?")[0].rpartition("/")[0], {"Access-Control-Request-Method": "PUT"}
        origin, timeout = {"Origin": self._origin}, aiohttp.ClientTimeout(total=OPENS_WITHIN)
        try:
            async with self._browser() as http:
                async with http.options(url, headers=origin | asks, timeout=timeout, allow_redirects=False) as got:
                    methods = got.headers.get("Access-Control-Allow-Methods", "")
                    may = self._lets_read(got) and ("PUT" in methods or methods == "*")
                if not may:
                    raise CanaryFailed(_not_for(where, self._origin, "uploaded to by"))
                async with http.put(url, data=content, headers=origin, timeout=timeout, allow_redirects=False) as got:
                    status = got.status
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise CanaryFailed(f"an upload URL at {where} cannot be used: {_why(e)}") from None
        if status != 200:
            raise CanaryFailed(f"an upload to {where} is answered with {status}: has a proxy a limit to what is sent?")

    def _browser(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=AT_ONCE, force_close=False)
        return aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False)

    async def _ask(self, http: aiohttp.ClientSession, study_instance_uid: str) -> Sequence[str]:
        answer = await self._post(http, "study.access_requested", study_instance_uid, {})
        try:
            urls = [*answer.get("urls", []), *(media["url"] for media in answer.get("mediaUrls", []))]
            error = answer.get("error")
        except (AttributeError, TypeError, KeyError):
            raise CanaryFailed(self._no_answer) from None
        if error or not urls:
            raise CanaryFailed(f"the study {study_instance_uid} is not given whole: {error or 'it has no instance'}")
        return urls

    @property
    def _no_answer(self) -> str:
        return f"the webhook {self._url} answers with something that is no answer of this gateway: what listens there?"

    async def _post(
        self, http: aiohttp.ClientSession, kind: str, study_instance_uid: str, more: dict[str, str]
    ) -> dict[str, Any]:
        """What the gateway answers to an event."""
        data = {"studyId": STUDY_ID, "studyInstanceUid": study_instance_uid, **more}
        event = {"id": f"whe_{secrets.token_hex(16)}", "type": kind, "data": data}
        body = json.dumps(event).encode()
        headers = sign(self._key, f"msg_{secrets.token_hex(12)}", body) | {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=self._answer_within)
        try:
            async with http.post(self._url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as got:
                status, content = got.status, await got.read()
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
            answer: dict[str, Any] = json.loads(content)
        except ValueError:
            answer = {}
        if not isinstance(answer, dict) or not answer:
            raise CanaryFailed(self._no_answer)
        return answer

    def _lets_read(self, got: aiohttp.ClientResponse) -> bool:
        """Whether a page of Avara's origin may have the answer."""
        return got.headers.get("Access-Control-Allow-Origin") in ("*", self._origin)

    async def _read(self, http: aiohttp.ClientSession, turns: asyncio.Semaphore, url: str, mark: bytes) -> int:
        where = url.partition("?")[0].rpartition("/")[0]
        try:
            async with turns, http.get(url, headers={"Origin": self._origin}, allow_redirects=False) as got:
                read, size = b"", 0
                async for chunk in got.content.iter_chunked(1 << 16):
                    read += chunk if mark else b""
                    size += len(chunk)
                status, may = got.status, self._lets_read(got)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise CanaryFailed(f"a URL at {where} cannot be opened: {_why(e)}") from None
        if status != 200:
            raise CanaryFailed(f"a URL at {where} answers {status}: is it the store's or the gateway's, unaltered?")
        if not may:
            raise CanaryFailed(_not_for(where, self._origin, "read by"))
        if not size:
            raise CanaryFailed(f"a URL at {where} gives nothing")
        if mark not in read:
            raise CanaryFailed(f"a URL at {where} gives something else than what was stored in the PACS")
        return size


def _not_for(where: str, origin: str, what: str) -> str:
    return (
        f"a URL at {where} may not be {what} a page of {origin}: add it to avara.allowed_origins, and to the rules "
        "(CORS) of a store or proxy of your own"
    )


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
    return f"the connection broke off ({reason(e)})"
