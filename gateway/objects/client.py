"""The S3 client: what the gateway itself puts, gets, lists and deletes.

Small objects are put by a client of our own (http1.py) and all others go by aiohttp, with requests signed here,
since they are the hot path: a quarter and a half of minio-py's CPU an object. Everything else (buckets,
listing, multi-delete) is minio-py, in a thread. Every call has a time-out,
transient failures are tried again a bounded number of times, and what is put is checked by the server
against a CRC-32 (a false ``x-amz-content-sha256`` it would accept, docs/object-store.md).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import itertools
import logging
import random
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote
from xml.sax.saxutils import escape

import aiohttp
import certifi
import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from yarl import URL

from gateway.objects.content import is_active
from gateway.objects.errors import ObjectNotFound, StoreDenied, StoreError, StoreFull, StoreUnavailable
from gateway.objects.http1 import PutConnections
from gateway.objects.sigv4 import Credentials, Signer, check_key, path_of
from gateway.runtime import reason

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTIONS = 32
"""Open to the store at once; more make it no faster."""

CONNECT_WITHIN = 5.0
"""Seconds."""

ANSWER_WITHIN = 30.0
"""Seconds of silence; the embedded store stalls for five now and then."""

SLOWEST = 1_000_000
"""Bytes a second, below which a transfer is given up."""

TRIES = 4

CHUNK = 256 * 1024
"""Bytes; the pieces in which a larger object goes out, comes in, and is read from its file."""

IN_ONE_PIECE = 1024 * 1024
"""Bytes up to which an object is handed to the kernel whole; a larger one would be held twice by a slow store."""

RECEIVE_BUFFER = 128 * 1024
"""Bytes that the kernel holds of an answer that is read slowly; it would take megabytes, and hand them on at once."""

_FULL = re.compile(r"XMinioStorageFull|InsufficientStorage|QuotaExceeded|no space left|no writable volumes", re.I)
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says of an object."""

    key: str
    size: int
    etag: str
    last_modified: datetime | None
    content_type: str = ""
    """Empty where it was listed only."""


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object whose bytes are coming."""

    info: ObjectInfo
    chunks: AsyncIterator[bytes]
    """Raises StoreError."""


class ObjectStore:
    """One bucket of an S3 store. To be used as an async context manager."""

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
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_WITHIN, read=ANSWER_WITHIN),
            retries=urllib3.Retry(total=TRIES - 1, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504)),
            ca_certs=ca_file or certifi.where(),
            maxsize=4,
        )
        self._pool = pool

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

    def with_connections(self, number: int) -> ObjectStore:
        """The same store by *number* connections of its own: who uses those takes none of ours."""
        return ObjectStore(
            endpoint=self._endpoint,
            secure=self._secure,
            region=self.region,
            bucket=self.bucket,
            credentials=self.credentials,
            ca_file=self._ca_file,
            connections=number,
        )

    def __str__(self) -> str:
        return f"object store {self._base}, bucket {self.bucket}"

    async def __aenter__(self) -> ObjectStore:
        tls = ssl.create_default_context(cafile=self._ca_file) if self._secure else None
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

    # -- objects: the hot path

    async def put(self, key: str, parts: bytes | Sequence[bytes | memoryview], *, content_type: str) -> None:
        """Writes a small object, whole or not at all. Raises StoreError."""
        body = (parts,) if isinstance(parts, bytes) else parts
        size = crc = 0
        for part in body:
            size += len(part)
            crc = zlib.crc32(part, crc)
        headers = _put_headers(content_type, crc)
        await self._retried("PUT", key, lambda: self._put_small(key, headers, body, size))

    async def put_stream(
        self, key: str, size: int, chunks: Callable[[], AsyncIterator[bytes]], *, content_type: str
    ) -> None:
        """Writes a large object of *size* bytes, whole or not at all, with a chunk in memory at a time.

        *chunks* is called more than once: for the checksum, then for each try. Raises StoreError, and whatever
        *chunks* raises.
        """
        crc = 0
        async for chunk in chunks():
            crc = zlib.crc32(chunk, crc)
        headers = _put_headers(content_type, crc)

        async def put() -> None:
            source = _Source(chunks())
            try:
                await self._put(key, headers, aiter(source), size)
            except Exception:
                if source.error is not None:
                    raise _SourceFailed(source.error) from None
                raise

        try:
            await self._retried("PUT", key, put)
        except _SourceFailed as e:
            raise e.error from None

    async def _put_small(
        self, key: str, headers: dict[str, str], body: Sequence[bytes | memoryview], size: int
    ) -> None:
        if size <= IN_ONE_PIECE:
            assert self._puts is not None, "use the store as an async context manager"
            path = self._path(key)
            lines = [f"PUT {path} HTTP/1.1rnHost: {self._host}\r\nContent-Length: {size}\r\n"]
            lines += (f"{k}: {v}rn" for k, v in self._signer.headers("PUT", self._host, path, headers).items())
            silence = ANSWER_WITHIN + size / SLOWEST
            answer = await self._puts.put(self.endpoint, "".join(lines), body, within=silence)
            if answer is not None and not 300 <= answer.status < 400:
                self._raise_for(answer.status, answer.body, key)
                return
        await self._put(key, headers, b"".join(body) if size <= IN_ONE_PIECE else _pieces(body), size)

    async def _put(self, key: str, headers: dict[str, str], body: bytes | AsyncIterator[bytes], size: int) -> None:
        path = self._path(key)
        signed = self._signer.headers("PUT", self._host, path, headers)
        signed["Content-Length"] = str(size)
        async with self._session.put(self._url(path), data=body, headers=signed, timeout=_time_for(size)) as answer:
            await self._check(answer, key)

    async def get(self, key: str) -> bytes:
        """A small object's bytes. Raises ObjectNotFound, StoreError."""

        async def read() -> bytes:
            async with self._request("GET", key) as answer:
                return await answer.read()

        return await self._retried("GET", key, read)

    @asynccontextmanager
    async def read(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The object's bytes from *offset*, *length* of them, as they come. Raises ObjectNotFound, StoreError."""
        async with self.open(key, offset=offset, length=length) as opened:
            yield opened.chunks

    @asynccontextmanager
    async def open(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[OpenObject]:
        """As :meth:`read`, with what the store says of the object."""
        headers = {}
        if offset or length is not None:
            headers["range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        async with AsyncExitStack() as stack:
            # Only what the store does is told as the store's: what happens in the caller's block is the caller's.
            try:
                answer = await stack.enter_async_context(self._request("GET", key, headers))
            except (aiohttp.ClientError, TimeoutError, OSError) as e:
                raise self._unavailable(e) from e
            if headers and answer.status != 206:
                raise StoreError(f"{self} gives the whole object where a range was asked for")
            try:
                yield OpenObject(_info(key, answer), self._chunks(answer))
            finally:
                if not answer.content.at_eof():
                    _let_go(answer)

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_chunked(CHUNK):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise self._unavailable(e) from e

    async def head(self, key: str) -> ObjectInfo | None:
        """What the store says of an object; None where there is none. Raises StoreError."""

        async def ask() -> ObjectInfo | None:
            try:
                async with self._request("HEAD", key) as answer:
                    return _info(key, answer)
            except ObjectNotFound:
                return None

        return await self._retried("HEAD", key, ask)

    @asynccontextmanager
    async def _request(
        self, method: str, key: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        path = self._path(key)
        signed = self._signer.headers(method, self._host, path, headers or {})
        async with self._session.request(method, self._url(path), headers=signed) as answer:
            await self._check(answer, key)
            yield answer

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
        said = body[:4096].decode("utf-8", "replace")
        code = match[1] if (match := _CODE.search(said)) else ""
        raise self._error(status, code, said, key)

    def _error(self, status: int, code: str, said: str, key: str) -> StoreError:
        if _FULL.search(said) or status == 507:
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

    async def _retried(self, method: str, key: str, call: Callable[[], Awaitable[T]]) -> T:
        pause = 0.2  # seconds
        attempt = 1
        while True:
            try:
                return await call()
            except StoreUnavailable as e:
                failure: StoreError = e
            except (aiohttp.ClientError, TimeoutError, OSError) as e:
                failure = self._unavailable(e)
            if attempt == TRIES:
                raise failure
            log.info("%s %s: try %d failed: %s", method, key, attempt, failure)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  (no secret depends on it)
            pause *= 3
            attempt += 1

    # -- buckets and many objects at once

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Every object under *prefix*, a page at a time. Raises StoreError."""
        async for found in self._pages(lambda: self._minio.list_objects(self.bucket, prefix, recursive=True)):
            yield ObjectInfo(found.object_name, found.size or 0, (found.etag or "").strip('"'), found.last_modified)

    async def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """Every common prefix one level below *prefix*, which ends in a slash. Raises StoreError."""
        async for found in self._pages(lambda: self._minio.list_objects(self.bucket, prefix)):
            if found.is_dir:
                yield found.object_name

    async def _pages(self, start: Callable[[], Iterator[Any]]) -> AsyncIterator[Any]:
        def page() -> tuple[Any, ...]:
            return tuple(itertools.islice(objects, 1000))

        objects = start()
        while found := await self._in_thread(page):
            for item in found:
                yield item

    async def delete(self, keys: Iterable[str]) -> None:
        """Deletes objects; one that is not there is no error. Raises StoreError where any could not be deleted."""
        remaining = iter(keys)
        while batch := [DeleteObject(check_key(k)) for k in itertools.islice(remaining, 1000)]:
            failures = await self._in_thread(functools.partial(self._delete, batch))
            if failures:
                raise self._error(500, failures[0].code or "", failures[0].message or "", failures[0].name or "")

    def _delete(self, batch: Sequence[DeleteObject]) -> tuple[Any, ...]:
        return tuple(e for e in self._minio.remove_objects(self.bucket, batch) if e.code != "NoSuchKey")

    async def ensure_bucket(self) -> None:
        """Creates the bucket where it is absent. Raises StoreError."""

        def ensure() -> None:
            if self._minio.bucket_exists(self.bucket):
                return
            try:
                self._minio.make_bucket(self.bucket)
            except S3Error as e:
                if e.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

        await self._in_thread(ensure)

    async def allow_origins(self, origins: Sequence[str]) -> bool:
        """Lets web pages of *origins* read what URLs give, Content-Range included (PutBucketCors). False where
        the server has no such call, as MinIO's; there its own configuration says it. Raises StoreError."""
        rules = "".join(f"<AllowedOrigin>{escape(origin)}</AllowedOrigin>" for origin in origins)
        methods = "".join(f"<AllowedMethod>{method}</AllowedMethod>" for method in ("GET", "HEAD", "PUT"))
        exposed = ("Content-Range", "Content-Length", "Accept-Ranges", "ETag")
        headers = "".join(f"<ExposeHeader>{name}</ExposeHeader>" for name in exposed)
        body = (
            '<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CORSRule>'
            f"{rules}{methods}<AllowedHeader>*</AllowedHeader>{headers}<MaxAgeSeconds>3600</MaxAgeSeconds>"
            "</CORSRule></CORSConfiguration>"
        ).encode()
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()

        async def put() -> bool:
            path = f"/{self.bucket}"
            named = {"content-md5": digest, "content-type": "application/xml"}
            signed = self._signer.headers("PUT", self._host, path, named, "cors=")
            async with self._session.put(self._url(f"{path}?cors="), data=body, headers=signed) as answer:
                if answer.status in (400, 405, 501):
                    return False
                await self._check(answer, "?cors")
                return True

        return await self._retried("PUT", "?cors", put)

    async def created(self, prefix: str) -> AsyncIterator[None]:
        """Yields whenever the store says that an object under *prefix* was created.

        MinIO's extension of S3 (``ListenBucketNotification``); where there is none, or it ends, StoreError is
        raised. Nothing may depend on it: what is created while nobody listens is never told of.
        """
        path = f"/{self.bucket}"
        # Without "ping" it sends a blank every half second, and what it has to tell with it; compressed, it would
        # hold all of that back until there is enough to compress (seen with its release of 2026-02).
        query = f"events=s3%3AObjectCreated%3A%2A&prefix={quote(prefix, safe='')}&suffix="
        signed = self._signer.headers("GET", self._host, path, {}, query) | {"Accept-Encoding": "identity"}
        try:
            async with self._session.get(self._url(f"{path}?{query}"), headers=signed) as answer:
                await self._check(answer, "?events")
                if "xml" in answer.content_type:  # a server that does not know the question lists the bucket
                    raise StoreError(f"{self} does not tell of new objects")
                async for line in answer.content:
                    if b'"Records":[' in line:
                        yield
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
            raise self._unavailable(e) from e
        raise StoreUnavailable(f"{self} ended its notifications")

    async def refuses_anonymous(self) -> bool:
        """Whether a request without a signature is refused. Raises StoreError."""
        probe = f"{self._base}/{self.bucket}/probe"
        try:
            async with self._session.get(probe) as read, self._session.put(probe, data=b"") as written:
                return read.status in (401, 403) and written.status in (401, 403)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise self._unavailable(e) from e

    async def check(self) -> None:
        """Writes, reads and deletes a probe. Raises StoreError, which names the fix."""
        key = "probe/gateway-check"
        await self.put(key, b"probe", content_type="text/plain")
        if await self.get(key) != b"probe":
            raise StoreError(f"{self} does not give back what was written")
        await self.delete([key])

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except S3Error as e:
            status = e.response.status if e.response is not None else 500
            raise self._error(status, e.code or "", f"{e.code} {e.message}", e.object_name or "") from e
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as e:
            raise self._unavailable(e) from e


class _SourceFailed(Exception):
    """What was to be sent could not be had: no fault of the store's, whatever aiohttp makes of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Source:
    """Pieces of a body, and what went wrong with them."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as e:
            self.error = e
            raise


def _socket(found: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = found
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made


def _let_go(answer: aiohttp.ClientResponse) -> None:
    """Of an answer that is not read to its end: what was buffered would stay, in a cycle, until the next full
    collection, a third of a megabyte for each browser that left."""
    with contextlib.suppress(Exception):
        answer.content.read_nowait()
    answer.close()


def _info(key: str, answer: aiohttp.ClientResponse) -> ObjectInfo:
    headers = answer.headers
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    if not size.isdecimal():
        raise aiohttp.ClientPayloadError("an answer that does not say the object's size")
    return ObjectInfo(
        key,
        int(size),
        headers.get("ETag", ""),
        _moment(headers.get("Last-Modified", "")),
        headers.get("Content-Type", ""),
    )


@functools.lru_cache(maxsize=256)
def _moment(text: str) -> datetime | None:
    """Kept, since the instances of a study were stored in the same few seconds."""
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None


async def _pieces(body: Sequence[bytes | memoryview]) -> AsyncIterator[bytes]:
    for part in body:
        for at in range(0, len(part), CHUNK):
            yield bytes(part[at : at + CHUNK])


def _put_headers(content_type: str, crc: int) -> dict[str, str]:
    headers = {
        "content-type": content_type,
        "x-amz-checksum-crc32": base64.b64encode(crc.to_bytes(4, "big")).decode(),
    }
    return headers | {"content-disposition": "attachment"} if is_active(content_type) else headers


def _time_for(size: int) -> aiohttp.ClientTimeout:
    # The silence that is measured goes on while a body is sent, so a large one has longer.
    silence = ANSWER_WITHIN + size / SLOWEST
    return aiohttp.ClientTimeout(total=2 * silence, sock_connect=CONNECT_WITHIN, sock_read=silence)
