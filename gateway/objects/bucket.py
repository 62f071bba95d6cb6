"""What is asked of an S3 store for many objects at once, or for its bucket.

Listing, deleting and making buckets is minio-py, in a thread; what that has no call for, or none that lets us tell
servers apart, is asked by requests that are signed here.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import aiohttp
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from gateway.objects.connection import S3Connection
from gateway.objects.errors import StoreError, StoreUnavailable
from gateway.objects.info import ObjectInfo
from gateway.objects.sigv4 import check_key


class Bucket(S3Connection):
    """The bucket: what it holds, and how it is set up."""

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
        while found := await self._in_thread("list", page):
            for item in found:
                yield item

    async def delete(self, keys: Iterable[str]) -> None:
        """Deletes objects; one that is not there is no error. Raises StoreError where any could not be deleted."""
        remaining = iter(keys)
        while batch := [DeleteObject(check_key(k)) for k in itertools.islice(remaining, 1000)]:
            failures = await self._in_thread("delete", functools.partial(self._delete, batch))
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

        await self._in_thread("bucket", ensure)

    async def encrypts_by_default(self) -> bool | None:
        """Whether the bucket encrypts what comes without asking for it, as browsers' uploads do (GetBucketEncryption).
        None where the server has no such call, or does not let us ask. Raises StoreError."""

        async def ask() -> bool | None:
            path = f"/{self.bucket}"
            signed = self._signer.headers("GET", self._host, path, {}, "encryption=")
            async with self._session.get(self._url(f"{path}?encryption="), headers=signed, **self._way) as answer:
                content = (await answer.content.read(64 * 1024)).decode(errors="replace")
                if answer.status == 200 and "ServerSideEncryptionConfiguration" in content:
                    return True
                if "ServerSideEncryptionConfigurationNotFoundError" in content:
                    return False
                return None

        return await self._retried("GET", "?encryption", ask, "bucket")

    async def allow_origins(self, origins: Sequence[str]) -> bool:
        """Lets web pages of *origins* read what URLs give, Content-Range included (PutBucketCors). False where
        the server has no such call, as MinIO's, or does not let our user make it; there its own configuration says
        it. Raises StoreError."""
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
            async with self._session.put(self._url(f"{path}?cors="), data=body, headers=signed, **self._way) as answer:
                if answer.status in (400, 403, 405, 501):
                    return False
                await self._check(answer, "?cors")
                return True

        return await self._retried("PUT", "?cors", put, "bucket")

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
            async with self._session.get(self._url(f"{path}?{query}"), headers=signed, **self._way) as answer:
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
            async with (
                self._session.get(probe, **self._way) as read,
                self._session.put(probe, data=b"", **self._way) as written,
            ):
                return read.status in (401, 403) and written.status in (401, 403)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise self._unavailable(e) from e
