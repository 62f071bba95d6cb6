"""How requests get to an S3 store: signed, each with a time-out, tried again a bounded number of times.

What fails is told as one of :mod:`gateway.objects.errors`, with the mend in it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import certifi
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from yarl import URL

from gateway.objects.errors import ObjectNotFound, StoreDenied, StoreError, StoreFull, StoreUnavailable
from gateway.objects.http1 import PutConnections
from gateway.objects.sigv4 import Credentials, Signer, path_of
from gateway.runtime import DaemonThreads, reason
from gateway.web import DIRECT, Outbound, Way

log = logging.getLogger(__name__)

T = TypeVar("T")

THREADS = 4
"""Calls of the S3 library at once; each may hang for as long as the store does, on threads that nobody else needs."""


Told = Callable[[str, float | None], object]
"""(operation, seconds) of a request that was answered: ``put``, ``get``, ``read`` (until the answer begins), ``head``,
``delete``, ``list``, ``bucket``; None instead of its seconds where a try failed that is repeated."""


def _nobody(operation: str, seconds: float | None) -> None:
    """Is told."""


UNASKED: dict[str, str] = {}
"""Headers of an encryption that nobody asks for."""


CONNECTIONS = 32
"""Open to the store at once; more make it no faster."""


CONNECT_WITHIN = 5.0
"""Seconds."""


ANSWER_WITHIN = 30.0
"""Seconds of silence; the embedded store stalls for five now and then."""


SLOWEST = 1_000_000
"""Bytes a second, below which a transfer is given up."""

TRIES = 4


RECEIVE_BUFFER = 128 * 1024
"""Bytes that the kernel holds of an answer that is read slowly; it would take megabytes, and hand them on at once."""


_FULL = re.compile(r"XMinioStorageFull|InsufficientStorage|QuotaExceeded|no space left|no writable volumes", re.I)


_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")


class S3Connection:
    """One bucket of an S3 store, and how it is asked. To be used as an async context manager."""

    def __init__(
        self,
        *,
        endpoint: Callable[[], str],
        secure: bool,
        region: str,
        bucket: str,
        credentials: Credentials,
        ca_file: str | None = None,
        connections: int = CONNECTIONS,
        outbound: Outbound = DIRECT,
        encryption: dict[str, str] = UNASKED,
    ) -> None:
        """*endpoint* gives ``host:port``, which an embedded store that is started again may change; *ca_file*
        is a PEM file that replaces the public CAs; *connections* are open at once."""
        self.bucket = bucket
        self.region = region
        self.credentials = credentials
        self._connections = connections
        self._endpoint = endpoint
        self._secure = secure
        self._signer = Signer(credentials, region)
        self._ca_file = ca_file if secure else None
        self._http: aiohttp.ClientSession | None = None
        self._puts: PutConnections | None = None
        self._encryption = encryption
        self._outbound = outbound
        self._pool = self._pooled(ca_file or certifi.where())
        self._threads = DaemonThreads("store", at_once=THREADS)
        self._compares: bool | None = None
        self.told: Told = _nobody
        """Of each request."""

    def _pooled(self, ca_file: str) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=CONNECT_WITHIN, read=ANSWER_WITHIN),
            "retries": urllib3.Retry(total=TRIES - 1, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
            "maxsize": THREADS,
        }
        if self._outbound.proxy is None:  # what it starts by may not be known yet: an embedded store has no port
            return urllib3.PoolManager(ca_certs=ca_file, **options)
        options["ssl_context"] = self._outbound.tls(ca_file)
        proxy = self._outbound.proxy
        if not self._proxied:
            return urllib3.PoolManager(**options)
        return urllib3.ProxyManager(str(proxy.url), proxy_headers=proxy.headers, **options)

    @property
    def _proxied(self) -> bool:
        if self._outbound.proxy is None:
            return False
        return self._outbound.through_proxy(URL(self._base).host or "")

    @property
    def endpoint(self) -> str:
        """``host:port`` of the store."""
        return self._endpoint()

    @property
    def _host(self) -> str:
        return self.endpoint.removesuffix(":443" if self._secure else ":80")

    @property
    def _base(self) -> str:
        return f"{'https' if self._secure else 'http'}://{self._host}"

    @property
    def _minio(self) -> Minio:
        return Minio(
            self.endpoint,
            access_key=self.credentials.access_key,
            secret_key=self.credentials.secret_key,
            secure=self._secure,
            region=self.region,
            http_client=self._pool,
        )

    def __str__(self) -> str:
        return f"object store {self._base}, bucket {self.bucket}"

    async def __aenter__(self) -> Self:
        tls = self._outbound.tls(self._ca_file) if self._secure else None
        self._puts = PutConnections(limit=self._connections, connect_within=CONNECT_WITHIN, tls=tls)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, ssl=tls or True, keepalive_timeout=30, socket_factory=_socket
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=ANSWER_WITHIN),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
        if self._puts is not None:
            self._puts.close()
        self._pool.clear()

    @property
    def _way(self) -> Way:
        return self._outbound.way(self._base) if self._outbound.proxy is not None else {}

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "use the store as an async context manager"
        return self._http

    def _path(self, key: str) -> str:
        return f"/{self.bucket}/{path_of(key)}"

    def _url(self, path: str) -> URL:
        return URL(self._base + path, encoded=True)

    async def _check(self, answer: aiohttp.ClientResponse, key: str) -> None:
        if answer.status < 300:
            return
        self._raise_for(answer.status, await answer.content.read(4096), key)

    def _raise_for(self, status: int, body: bytes, key: str) -> None:
        if status < 300:
            return
        text = body[:4096].decode("utf-8", "replace")
        code = match[1] if (match := _CODE.search(text)) else ""
        raise self._error(status, code, text, key)

    def _error(self, status: int, code: str, text: str, key: str) -> StoreError:
        if _FULL.search(text) or status == 507:
            return StoreFull(f"{self} is full: give it more room, or lower cache.max_size")
        if status == 404 and code != "NoSuchBucket":
            return ObjectNotFound(f"{self} has no object {key}")
        if code == "NoSuchBucket":
            return StoreDenied(f"{self}: there is no such bucket: create it, or correct store.bucket")
        if code == "RequestTimeTooSkewed":
            return StoreDenied(f"{self}: its clock and ours differ by over 15 minutes: set both by NTP")
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch") or status == 401:
            return StoreDenied(f"{self} refuses our credentials ({code}): correct store.access_key and its secret")
        if status == 403:
            return StoreDenied(
                f"{self} denies access ({code or status}): correct store.access_key and its secret, or allow this key "
                "to use the bucket"
            )
        if status >= 500 or status in (408, 429) or code in ("BadDigest", "XAmzContentChecksumMismatch"):
            return StoreUnavailable(f"{self} fails with {status} {code}".rstrip())
        return StoreError(f"{self} refuses a request with {status} {code}".rstrip())

    def _unavailable(self, e: BaseException) -> StoreUnavailable:
        if isinstance(e, TimeoutError):
            return StoreUnavailable(f"{self} does not answer in time: is it up, and is store.endpoint right?")
        why = reason(e)
        fix = "is it up, and is store.endpoint right?"
        if self._secure and "does not speak TLS" in why:
            fix = "set store.secure: false, or write the port that does"
        elif "certificate" in why:
            fix = "renew it, or put its authority into store.ca_file"
        return StoreUnavailable(f"{self} cannot be reached ({why}): {fix}")

    async def _retried(
        self, method: str, key: str, call: Callable[[], Awaitable[T]], operation: str | None = None
    ) -> T:
        operation = operation or method.lower()
        pause = 0.2  # seconds
        attempt = 1
        while True:
            began = time.perf_counter()
            try:
                result = await call()
                self.told(operation, time.perf_counter() - began)
                return result
            except StoreUnavailable as e:
                failure: StoreError = e
            except (aiohttp.ClientError, TimeoutError, OSError) as e:
                failure = self._unavailable(e)
            if attempt == TRIES:
                raise failure
            self.told(operation, None)
            log.info("%s %s: try %d failed: %s", method, key, attempt, failure)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  (no secret depends on it)
            pause *= 3
            attempt += 1

    async def _in_thread(self, operation: str, call: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            result = await self._threads.run(call)
            self.told(operation, time.perf_counter() - began)
            return result
        except S3Error as e:
            status = e.response.status if e.response is not None else 500
            raise self._error(status, e.code or "", f"{e.code} {e.message}", e.object_name or "") from e
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as e:
            raise self._unavailable(e) from e


def silence_for(size: int) -> float:
    """Seconds without an answer after which a transfer of *size* bytes is given up."""
    return ANSWER_WITHIN + size / SLOWEST


def time_for(size: int) -> aiohttp.ClientTimeout:
    """The time-outs of a request whose body has *size* bytes."""
    # The silence that is measured goes on while a body is sent, so a large one has longer.
    silence = silence_for(size)
    return aiohttp.ClientTimeout(total=2 * silence, sock_connect=CONNECT_WITHIN, sock_read=silence)


def _socket(found: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = found
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made
