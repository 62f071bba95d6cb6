"""Objects of the store as unnamed files, for what has to be looked at from end to end and may be large."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from gateway.objects.client import ObjectStore

CHUNK = 256 * 1024


class TooLarge(Exception):
    """An object has more bytes than are allowed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object in a file that leaves nothing behind, whatever kills the process. Whoever is handed it closes it."""

    file: FileIO
    size: int
    """Bytes."""
    sha256: str
    """In hex."""


async def fetch_to_file(store: ObjectStore, key: str, spool_dir: Path, max_size: int | None = None) -> Fetched:
    """The object *key* as an unnamed file in *spool_dir*.

    Raises ObjectNotFound, StoreError, OSError, and TooLarge past *max_size* bytes.
    """
    digest, size = hashlib.sha256(), 0
    file: FileIO = tempfile.TemporaryFile(dir=spool_dir, buffering=0)  # noqa: SIM115
    try:
        async with store.read(key) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if max_size is not None and size > max_size:
                    raise TooLarge(f"it has more than {max_size} bytes")
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
    except BaseException:
        file.close()
        raise
    return Fetched(file, size, digest.hexdigest())


async def read_file(file: FileIO, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a file from *start* to *end*, a piece at a time. Raises OSError."""
    while start < end:
        chunk = await asyncio.to_thread(os.pread, file.fileno(), min(CHUNK, end - start), start)
        if not chunk:
            raise OSError("a spool file that is shorter than it was")
        start += len(chunk)
        yield chunk
