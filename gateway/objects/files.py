"""Objects of the store as unnamed files, for what has to be looked at from end to end and may be large."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import FileIO

from gateway.objects.client import TRANSFER_CHUNK, ObjectStore
from gateway.runtime import SpoolFile, Spools, in_thread


class ObjectTooLarge(Exception):
    """An object has more bytes than are allowed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object in a file that leaves nothing behind, whatever kills the process. Whoever is handed it closes it."""

    file: SpoolFile
    size: int
    """Bytes."""
    sha256: str
    """In hex."""


async def fetch_to_file(store: ObjectStore, key: str, spools: Spools, max_size: int | None = None) -> Fetched:
    """The object *key* as an unnamed file.

    Raises ObjectNotFound, StoreError, OSError, and ObjectTooLarge past *max_size* bytes.
    """
    digest, size = hashlib.sha256(), 0
    file = spools.file()
    try:
        async with store.read(key) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if max_size is not None and size > max_size:
                    raise ObjectTooLarge(f"it has more than {max_size} bytes")
                digest.update(chunk)
                await in_thread(write_whole, file, chunk)
    except BaseException:
        file.close()
        raise
    return Fetched(file, size, digest.hexdigest())


def write_whole(file: FileIO, chunk: bytes) -> None:
    """Writes all of *chunk*: a disk that is nearly full takes a part of it, and says so by a number only (write(2)).
    Raises OSError."""
    left = memoryview(chunk)
    while left:
        written = file.write(left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


async def read_file(file: FileIO, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a file from *start* to *end*, a piece at a time. Raises OSError."""
    while start < end:
        chunk = await in_thread(os.pread, file.fileno(), min(TRANSFER_CHUNK, end - start), start)
        if not chunk:
            raise OSError("a spool file that is shorter than it was")
        start += len(chunk)
        yield chunk
