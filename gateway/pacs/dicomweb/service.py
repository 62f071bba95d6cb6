"""A PACS's DICOMweb service: requests to it and their answers (PS3.18 §8).

An alternative to DIMSE where a PACS is reached over HTTP. Finding is :mod:`gateway.pacs.dicomweb.qido`, retrieving
:mod:`gateway.pacs.dicomweb.wado`, storing :mod:`gateway.pacs.dicomweb.stow`.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import aiohttp
from yarl import URL

from gateway.pacs import Breaker, Claim, Lane, Lanes, PacsUnreachable, RequestRefused, Timeouts
from gateway.runtime import reason

JSON = "application/dicom+json"

READ = 256 * 1024
"""Bytes that are read from the connection at a time."""


@dataclass(frozen=True, slots=True)
class WebPeer:
    """A PACS's DICOMweb service as this gateway knows it."""

    name: str
    """The operator's name for the PACS."""
    url: str
    """The root of the service, such as ``https://pacs/dicom-web``."""
    authorization: str = field(default="", repr=False)
    """The Authorization header that requests have; empty: none."""
    max_connections: int = 4
    """Requests at once."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: ssl.SSLContext | None = None
    """None: the authorities that this machine trusts."""

    def __str__(self) -> str:
        return f"PACS {self.name} (DICOMweb at {self.url})"


def basic(user: str, password: str) -> str:
    """The Authorization header for *user* (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer(token: str) -> str:
    """The Authorization header for *token* (RFC 6750)."""
    return f"Bearer {token}"


class Patience:
    """A time limit for an answer that is put off while what is asked is still being sent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._limit: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        self._limit = asyncio.timeout(self.seconds)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            await limit.__aexit__(kind, error, trace)

    def renew(self) -> None:
        """Begins it anew; nothing once the answer is there, or was given up."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self.seconds)


class DicomWeb:
    """Requests to one DICOMweb service; at most ``peer.max_connections`` at once, the others wait their turn."""

    def __init__(self, peer: WebPeer, *, stores: bool = False) -> None:
        """*stores*: it is stored in, too."""
        self.peer = peer
        self.breaker = Breaker(str(peer))
        # A turn is kept for each.
        lanes = (Lane.QUERY, Lane.RETRIEVE, Lane.STORE) if stores else (Lane.QUERY, Lane.RETRIEVE)
        self._lanes = Lanes(peer.max_connections, lanes)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- requests

    @asynccontextmanager
    async def get(
        self, path: str, claim: Claim, query: Sequence[tuple[str, str]] = (), *, accept: str, within: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET of *path* below the root, once its header is there, which has *within* seconds.

        Raises PacsUnreachable, RequestRefused; each names the fix.
        """
        asked = partial(self._http.get, self.peer.url + path, params=list(query), headers={"Accept": accept})
        async with self._answer(asked, claim, Patience(within)) as answer:
            self._raise_for_status(answer.status)
            yield answer

    @asynccontextmanager
    async def post(
        self,
        path: str,
        claim: Claim,
        pieces: AsyncIterator[bytes],
        *,
        size: int,
        content_type: str,
        accept: str,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a POST of *pieces*, of *size* bytes in all, whatever its status. They may take long, but the
        service no longer than ``timeouts.respond`` for each, and for its answer.

        Raises PacsUnreachable, which names the fix.
        """
        patience = Patience(self.peer.timeouts.respond)

        async def sent() -> AsyncIterator[bytes]:
            async for piece in pieces:
                patience.renew()
                yield piece
            patience.renew()

        headers = {"Accept": accept, "Content-Type": content_type, "Content-Length": str(size)}
        asked = partial(self._http.post, self.peer.url + path, data=sent(), headers=headers)
        async with self._answer(asked, claim, patience) as answer:
            yield answer

    async def request(self, method: str, url: str, claim: Claim) -> int:
        """The status that *method* of *url*, which belongs to the service, is answered with, without a body in either
        direction. Raises PacsUnreachable."""
        asked = partial(self._http.request, method, URL(url, encoded=True))
        async with self._answer(asked, claim, Patience(self.peer.timeouts.respond)) as answer:
            return answer.status

    @asynccontextmanager
    async def _answer(
        self,
        asked: Callable[..., AbstractAsyncContextManager[aiohttp.ClientResponse]],
        claim: Claim,
        patience: Patience,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to what *asked* sends when its turn comes. Raises PacsUnreachable."""
        async with self._lanes.turn(claim), AsyncExitStack() as stack:
            with self.breaker.attempt(claim):
                try:
                    async with patience:
                        answer = await stack.enter_async_context(asked(allow_redirects=False))
                except TimeoutError as e:
                    raise PacsUnreachable(f"{self.peer} did not answer within {patience.seconds:g} s: is it up?") from e
                except aiohttp.ClientSSLError as e:
                    raise PacsUnreachable(
                        f"{self.peer}: no TLS connection: {_tls_reason(e)}; is its authority in dicomweb_ca_file, and "
                        "does its certificate name that host?"
                    ) from e
                except (aiohttp.ClientError, OSError) as e:
                    raise PacsUnreachable(
                        f"{self.peer} cannot be reached ({reason(e)}): is it up, is dicomweb_url right, https or http?"
                    ) from e
                yield answer

    async def chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of *answer* as it comes; not read any faster than it is taken. Raises PacsUnreachable."""
        idle = self.peer.timeouts.idle
        while True:
            try:
                async with asyncio.timeout(idle):
                    data = await answer.content.readany()
            except TimeoutError as e:
                raise PacsUnreachable(f"{self.peer} was silent for {idle:g} s in the middle of an answer") from e
            except (aiohttp.ClientError, OSError) as e:
                raise PacsUnreachable(f"{self.peer} broke off in the middle of an answer ({reason(e)})") from e
            if not data:
                return
            yield data

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeouts = self.peer.timeouts
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.peer.max_connections, ssl=self.peer.tls or True),
                # Each request has its own limit for its answer, and an idle limit for what follows.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect),
                headers={"Accept-Encoding": "identity"}
                | ({"Authorization": self.peer.authorization} if self.peer.authorization else {}),
                read_bufsize=READ,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _raise_for_status(self, status: int) -> None:
        if 200 <= status < 300:
            return
        if status in (401, 403):
            fix = "refuses us: are dicomweb_user and its password, or dicomweb_token, right, and may they read studies?"
        elif status == 404:
            fix = "knows no such resource: is dicomweb_url the root of its DICOMweb service, such as https://pacs/dicom-web?"
        elif 300 <= status < 400:
            fix = "redirects us: is dicomweb_url right, https instead of http?"
        elif status in (406, 415):
            fix = "cannot answer in the form that we ask for: choose another method in pacs.retrieve"
        else:
            fix = "failed: its own log says more"
        raise RequestRefused(f"{self.peer} {fix} (HTTP status {status})", status=status)


def _tls_reason(e: aiohttp.ClientSSLError) -> str:
    cause = getattr(e, "certificate_error", None) or e.os_error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "it failed")
