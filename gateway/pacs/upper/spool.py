"""Where a data set lies while it is received: in memory while small, in an unnamed file above that (PS3.8 has no say
in this)."""

from __future__ import annotations

import errno
import os
from io import FileIO

from gateway.runtime import SpoolFile, Spools, in_thread

SPOOL_ABOVE = 2 * 1024 * 1024
"""Bytes of a data set that are held in memory; a larger one goes to a file."""

BLOCK = 1024 * 1024
"""Bytes; what is collected before it is written to the spool file at once."""


class MemoryBody:
    """A small data set, in memory (a ``Body``)."""

    spooled = False

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    def head(self, limit: int) -> memoryview:
        """The first *limit* bytes."""
        return self._data[:limit]

    def read(self, offset: int, limit: int) -> bytes:
        """Up to *limit* bytes from *offset*."""
        return bytes(self._data[offset : offset + limit])

    def close(self) -> None:
        """Lets go of the bytes."""
        self._data = memoryview(b"")


class FileBody:
    """A large data set, in an unnamed file (a ``Body``)."""

    spooled = True

    def __init__(self, file: FileIO, size: int, *, start: int = 0) -> None:
        """*size* bytes of *file*, from *start* on."""
        self._file = file
        self._size = size
        self._start = start

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def head(self, limit: int) -> memoryview:
        """The first *limit* bytes."""
        return memoryview(self.read(0, limit))

    def read(self, offset: int, limit: int) -> bytes:
        """Up to *limit* bytes from *offset*."""
        return os.pread(self._file.fileno(), min(limit, self._size - offset), self._start + offset)

    def close(self) -> None:
        """Gives the disk space back."""
        self._file.close()


class Spool:
    """Collects the fragments of one data set, in order.

    :meth:`add` never blocks. When it says that a block is due, the caller stops reading from its peer
    and awaits :meth:`flush`: so at most a block and one read's worth lie in memory.
    """

    def __init__(self, spools: Spools, *, spool_above: int) -> None:
        self._spools = spools
        self._spool_above = spool_above
        self._parts: list[bytes] = []
        self._held = 0
        self._due = False
        """Whether a flush was asked for that has not begun."""
        self._file: SpoolFile | None = None
        self._written = 0
        self._failed: OSError | None = None

    def add(self, fragment: memoryview) -> bool:
        """Takes a copy of *fragment*; True where :meth:`flush` is due before more is read. Once for each flush: a read
        can have thousands of fragments behind the one that made it due, and a task for each would wait for the next."""
        if self._failed is not None:
            return False
        self._parts.append(bytes(fragment))
        self._held += len(fragment)
        limit = min(BLOCK, self._spool_above) if self._file is not None else self._spool_above
        if self._due or self._held < limit:
            return False
        self._due = True
        return True

    def refuse(self, reason: OSError) -> None:
        """Throws away what was collected, and what is still added; :meth:`body` raises *reason*."""
        if self._failed is None:
            self._failed = reason
            self._parts, self._held = [], 0

    async def flush(self) -> None:
        """Moves what is held to the file. A full disk is remembered, and told by :meth:`body`."""
        parts, self._parts, self._held, self._due = self._parts, [], 0, False
        try:
            if self._failed is None:
                await in_thread(self._write, parts)
        except OSError as e:
            self._failed = self._failed or e
        if self._failed is not None:
            self.close()

    def _write(self, parts: list[bytes]) -> None:
        if self._file is None:
            self._file = self._spools.file()
        for part in parts:
            view = memoryview(part)
            while view:
                written = self._file.write(view)
                self._written += written
                view = view[written:]

    @property
    def in_file(self) -> bool:
        """Whether the data set has outgrown memory: then :meth:`flush` is due before :meth:`body`."""
        return self._file is not None or self._failed is not None

    def body(self) -> MemoryBody | FileBody:
        """The whole data set. Raises the OSError that kept it from being written."""
        if self._failed is not None:
            raise self._failed
        if self._file is None:
            return MemoryBody(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        file, self._file = self._file, None
        return FileBody(file, self._written)

    def close(self) -> None:
        """Throws away what was collected and not handed out."""
        self._parts, self._held = [], 0
        if self._file is not None:
            self._file.close()
            self._file = None


class DataSetTooLarge(OSError):
    """A data set that is larger than what is taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(errno.EFBIG, f"it has more than {limit} bytes")
