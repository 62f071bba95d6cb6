"""The S3 client: what the gateway itself puts and gets.

Small objects are put by a client of our own (http1.py) and all others go by aiohttp, with requests signed here,
since they are the hot path: a quarter and a half of minio-py's CPU an object. What is put is checked by the server
against a CRC-32 (a false ``x-amz-content-sha256`` it would accept, docs/object-store.md). How requests get there is in
:mod:`gateway.objects.connection`, listing and deleting in :mod:`gateway.objects.bucket`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from gateway.objects.bucket import Bucket
from gateway.objects.connection import silence_for, time_for
from gateway.objects.content import is_active
from gateway.objects.errors import ObjectNotFound, StoreError
from gateway.objects.info import ObjectInfo, OpenObject, info_of

TRANSFER_CHUNK = 256 * 1024
"""Bytes; the pieces in which a larger object goes out, comes in, and is read from its file."""

IN_ONE_PIECE = 1024 * 1024
"""Bytes up to which an object is handed to the kernel whole; a larger one would be held twice by a slow store."""


class ObjectStore(Bucket):
    """One bucket of an S3 store. To be used as an async context manager."""

    def with_connections(self, number: int) -> ObjectStore:
        """The same store by *number* connections of its own: who uses those takes none of ours."""
        other = ObjectStore(
            endpoint=self._endpoint,
            secure=self._secure,
            region=self.region,
            bucket=self.bucket,
            credentials=self.credentials,
            ca_file=self._ca_file,
            connections=number,
            outbound=self._outbound,
            encryption=self._encryption,
        )
        other.told = self.told
        return other

    async def put(self, key: str, parts: bytes | Sequence[bytes | memoryview], *, content_type: str) -> None:
        """Writes a small object, whole or not at all. Raises StoreError."""
        body = (parts,) if isinstance(parts, bytes) else parts
        size = crc = 0
        for part in body:
            size += len(part)
            crc = zlib.crc32(part, crc)
        headers = self._encryption | _put_headers(content_type, crc)
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
        headers = self._encryption | _put_headers(content_type, crc)

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
        if size <= IN_ONE_PIECE and not self._proxied:
            assert self._puts is not None, "use the store as an async context manager"
            path, host = self._path(key), self._host
            lines = [f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n"]
            lines += [f"{k}: {v}\r\n" for k, v in self._signer.headers("PUT", host, path, headers).items()]
            silence = silence_for(size)
            answer = await self._puts.put(self.endpoint, "".join(lines), body, within=silence)
            if answer is not None and not 300 <= answer.status < 400:
                self._raise_for(answer.status, answer.body, key)
                return
        await self._put(key, headers, b"".join(body) if size <= IN_ONE_PIECE else _pieces(body), size)

    async def _put(self, key: str, headers: dict[str, str], body: bytes | AsyncIterator[bytes], size: int) -> None:
        path = self._path(key)
        signed = self._signer.headers("PUT", self._host, path, headers)
        signed["Content-Length"] = str(size)
        async with self._session.put(
            self._url(path), data=body, headers=signed, timeout=time_for(size), **self._way
        ) as answer:
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
            began = time.perf_counter()
            try:
                answer = await stack.enter_async_context(self._request("GET", key, headers))
                self.told("read", time.perf_counter() - began)
            except (aiohttp.ClientError, TimeoutError, OSError) as e:
                raise self._unavailable(e) from e
            if headers and answer.status != 206:
                raise StoreError(f"{self} gives the whole object where a range was asked for")
            try:
                yield OpenObject(info_of(key, answer), self._chunks(answer))
            finally:
                if not answer.content.at_eof():
                    _let_go(answer)

    async def _chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.content.iter_chunked(TRANSFER_CHUNK):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise self._unavailable(e) from e

    async def head(self, key: str) -> ObjectInfo | None:
        """What the store says of an object; None where there is none. Raises StoreError."""

        async def ask() -> ObjectInfo | None:
            try:
                async with self._request("HEAD", key) as answer:
                    return info_of(key, answer)
            except ObjectNotFound:
                return None

        return await self._retried("HEAD", key, ask)

    @asynccontextmanager
    async def _request(
        self, method: str, key: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        path = self._path(key)
        signed = self._signer.headers(method, self._host, path, headers or {})
        async with self._session.request(method, self._url(path), headers=signed, **self._way) as answer:
            await self._check(answer, key)
            yield answer

    async def delete_unchanged(self, key: str, etag: str) -> None:
        """Deletes an object if it is still the one of *etag* (without quotes), and no other one that lies there by now.
        For a store that :meth:`compares_before_deleting`. Raises StoreError."""
        await self._retried("DELETE", key, lambda: self._delete_if(key, etag))

    async def compares_before_deleting(self) -> bool:
        """Whether the store heeds If-Match of a DELETE. AWS, Ceph and SeaweedFS do; MinIO deletes whatever lies there.
        Asked once, by an object of no content. Raises StoreError."""
        if self._compares is None:
            key = f"probe/compares-{uuid.uuid4().hex}"
            await self.put(key, b"probe", content_type="text/plain")
            self._compares = await self._retried("DELETE", key, lambda: self._delete_if(key, "0" * 32)) == 412
            await self.delete([key])
        return self._compares

    async def _delete_if(self, key: str, etag: str) -> int:
        """Sends a conditional DELETE; its status, which may be one that says that the condition does not hold."""
        path = self._path(key)
        signed = self._signer.headers("DELETE", self._host, path, {"if-match": f'"{etag}"'})
        async with self._session.delete(self._url(path), headers=signed, **self._way) as answer:
            if answer.status not in (404, 409, 412, 501):  # 409: AWS's, where a PUT is under way
                await self._check(answer, key)
            return answer.status

    async def check(self) -> None:
        """Writes, reads and deletes a probe. Raises StoreError, which names the fix."""
        # Of each process one object: a command that checks takes away nobody else's, and a kill leaves no heap of them.
        key = f"probe/check-{os.getpid() % 100}"
        await self.put(key, b"probe", content_type="text/plain")
        if await self.get(key) != b"probe":
            raise StoreError(f"{self} does not give back what was written")
        await self.delete([key])


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


def _let_go(answer: aiohttp.ClientResponse) -> None:
    """Of an answer that is not read to its end: what was buffered would stay, in a cycle, until the next full
    collection, a third of a megabyte for each browser that left."""
    with contextlib.suppress(Exception):
        answer.content.read_nowait()
    answer.close()


async def _pieces(body: Sequence[bytes | memoryview]) -> AsyncIterator[bytes]:
    for part in body:
        for at in range(0, len(part), TRANSFER_CHUNK):
            yield bytes(part[at : at + TRANSFER_CHUNK])


def _put_headers(content_type: str, crc: int) -> dict[str, str]:
    headers = {
        "content-type": content_type,
        "x-amz-checksum-crc32": base64.b64encode(crc.to_bytes(4, "big")).decode(),
    }
    return headers | {"content-disposition": "attachment"} if is_active(content_type) else headers
