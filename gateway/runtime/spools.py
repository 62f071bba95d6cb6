"""Unnamed files for what is on its way and too large for memory, which all together keep to a budget.

An unnamed file leaves nothing behind, whatever kills the process. Whoever fills one is a PACS, a browser, or a decoder
at work on what a stranger sent; the journal, and the embedded store, may lie on the same disk. So each write asks
first: whether all files together stay within their budget, and their disk keeps what it has to.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

KEEPS_FREE = 512 * 1024 * 1024
"""Bytes of their disk that are left to others, where nothing else is said."""

MOST = 16 * 1024**3
"""Bytes of all files together, where nothing else is said."""

LARGEST = 8 * 1024**3
"""Bytes of an instance, where nothing else is said."""

TOLD_FOR = 600.0
"""Seconds for which a write that was refused counts as trouble."""


class NoRoom(OSError):
    """A write that would take more than what is to be had; its text names the mend, and no path."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.ENOSPC, text)


class Spools:
    """One folder of unnamed files. Safe to use from any thread."""

    def __init__(
        self, directory: Path, *, most: int = MOST, keeps_free: int = KEEPS_FREE, largest: int = LARGEST
    ) -> None:
        """*most* are the bytes of all files together, *keeps_free* those that their disk keeps, *largest* those of one
        instance: whoever receives one asks for it."""
        self.directory = directory
        self.largest = largest
        self._most, self._keeps_free = most, keeps_free
        self._taken = 0
        self._lock = threading.Lock()
        self._refused = ""
        self._refused_at = float("-inf")

    @property
    def taken(self) -> int:
        """Bytes of all files."""
        return self._taken

    def prepare(self) -> None:
        """Makes the folder. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def file(self) -> SpoolFile:
        """A new file. Raises OSError."""
        with tempfile.TemporaryFile(dir=self.directory, buffering=0) as made:
            return SpoolFile(os.dup(made.fileno()), _Account(self))

    def room(self) -> int:
        """Bytes that may still be written. Raises OSError."""
        disk = os.statvfs(self.directory)
        return max(min(self._most - self._taken, disk.f_bavail * disk.f_frsize - self._keeps_free), 0)

    def take(self, size: int) -> None:
        """Before *size* bytes are written. Raises NoRoom, OSError."""
        disk = os.statvfs(self.directory)
        with self._lock:
            if disk.f_bavail * disk.f_frsize - size < self._keeps_free:
                self._refuse(
                    f"its disk has to keep {self._keeps_free / 1e9:.1f} GB free (half of cache.min_free): free space "
                    "on it"
                )
            if self._taken + size > self._most:
                self._refuse(
                    f"what is on its way would take more than dicom.spool_size ({self._most / 1e9:.1f} GB): it ends by "
                    "itself, unless somebody sends without end; raise the setting where so much is to be expected"
                )
            self._taken += size

    def give_back(self, size: int) -> None:
        """They are written no more, or gone."""
        with self._lock:
            self._taken -= size

    def trouble(self) -> str | None:
        """Why something was refused room a short while ago; None where nothing was."""
        with self._lock:
            recent = time.monotonic() - self._refused_at <= TOLD_FOR
            return self._refused if recent else None

    def _refuse(self, text: str) -> None:
        self._refused, self._refused_at = text, time.monotonic()
        raise NoRoom(text)


class _Account:
    """What one file takes, for all who have it open."""

    def __init__(self, spools: Spools) -> None:
        self._spools = spools
        self._size = 0
        self._open = 0
        self._lock = threading.Lock()

    def opened(self) -> None:
        with self._lock:
            self._open += 1

    def closed(self) -> None:
        with self._lock:
            self._open -= 1
            size, self._size = (0, self._size) if self._open else (self._size, 0)
        if size:
            self._spools.give_back(size)

    def take(self, size: int) -> None:
        self._spools.take(size)
        with self._lock:
            self._size += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._size -= size
        self._spools.give_back(size)

    def room(self) -> int:
        return self._spools.room()


class SpoolFile(FileIO):
    """One unnamed file. Written to from its beginning to its end."""

    def __init__(self, descriptor: int, account: _Account) -> None:
        super().__init__(descriptor, "r+b")
        self._account = account
        account.opened()

    def share(self) -> SpoolFile:
        """The same file for somebody else, who closes it by themselves."""
        return SpoolFile(os.dup(self.fileno()), self._account)

    def write(self, data: ReadableBuffer, /) -> int:
        """Raises NoRoom, OSError."""
        size, written = memoryview(data).nbytes, 0
        self._account.take(size)
        try:
            written = super().write(data)
        finally:
            if written != size:
                self._account.give_back(size - written)
        return written

    @contextmanager
    def written_by_another(self, most: int) -> Iterator[int]:
        """Around the writing by another process, of up to *most* bytes: as many as it may write. Raises NoRoom."""
        room = min(most, self._account.room())
        if not room:
            self._account.take(most)
        yield room
        self._account.take(os.fstat(self.fileno()).st_size)

    def close(self) -> None:
        """Gives the disk space back, once nobody else has it open."""
        if not self.closed:
            self._account.closed()
        super().close()
