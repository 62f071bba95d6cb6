"""Our copies of what is to be stored: Part 10 files in the object store, where they outlive whatever kills us."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from gateway.dicom import header_length
from gateway.objects import AtHand, ObjectStore, fetch_to_file, write_whole
from gateway.pacs import Body
from gateway.pacs.scu import data_set_of
from gateway.pacs.upper import MemoryBody
from gateway.runtime import SpoolFile, Spools, in_thread

CONTENT_TYPE = "application/dicom"


class Copy:
    """One of them, here: in memory where it was put a moment ago, else in a file. To be used as a context manager."""

    def __init__(self, spools: Spools, content: bytes, file: SpoolFile | None, size: int) -> None:
        """Of *size* bytes, which are *content* where there is no *file*."""
        self._spools = spools
        self._content = content
        self._file = file
        self._size = size

    def body(self) -> Body:
        """Its data set, which the caller closes."""
        if self._file is not None:
            return data_set_of(self._file, self._size)
        return MemoryBody(memoryview(self._content)[header_length(self._content) :])

    async def file(self) -> SpoolFile:
        """All of it, as a file. Raises OSError."""
        if self._file is None:
            self._file = self._spools.file()
            await in_thread(write_whole, self._file, self._content)
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


class Copies:
    """All of one outbox."""

    def __init__(self, objects: ObjectStore, spools: Spools) -> None:
        self._objects = objects
        self._at_hand = AtHand(objects)
        self._spools = spools

    async def put(self, key: str, content: bytes) -> None:
        """Writes a small one, whole or not at all. Raises StoreError."""
        await self._at_hand.put(key, content, content_type=CONTENT_TYPE)

    async def get(self, key: str) -> Copy:
        """The one that lies under *key*. Raises ObjectNotFound, StoreError, OSError."""
        content = self._at_hand.held(key)
        if content is not None:
            return Copy(self._spools, content, None, len(content))
        fetched = await fetch_to_file(self._objects, key, self._spools)
        return Copy(self._spools, b"", fetched.file, fetched.size)

    def drop(self, key: str) -> None:
        """It is stored where it was to be."""
        self._at_hand.drop(key)
