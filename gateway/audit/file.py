"""Where the trail lies: files of JSON lines in one folder, only ever appended to, by one process after the other.

The gateway and commands write to it, so each takes a lock, looks where the trail ends, and goes on from there. A file
is never shortened, not even where a line was half written.
"""

from __future__ import annotations

import enum
import fcntl
import gzip
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.chain import BEGINNING, PURGED, TORN, Entry, Head, Verdict, read, verify, written
from gateway.runtime import SYSTEM_CLOCK, Clock, GatewayError

FILE_SIZE = 64 * 1024 * 1024
"""Bytes from which on a new file is begun; the older ones are compressed."""

LONGEST_LINE = 64 * 1024
"""Bytes."""


class NotWritten(GatewayError):
    """The trail cannot be written to. The text names the mend; *done* entries were written before."""

    transient = True

    def __init__(self, folder: Path, error: OSError, done: int) -> None:
        super().__init__(
            f"the audit trail in {folder} cannot be written to ({error.strerror or error}): is its disk full or "
            "read-only, or the folder another user's?"
        )
        self.done = done


class AuditFile:
    """The trail in a folder. Its methods block."""

    def __init__(
        self, folder: Path, *, keep_for: float, max_size: int, file_size: int = FILE_SIZE, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """*keep_for* is seconds; *max_size* bytes of all files, the oldest of which go first."""
        self._folder = folder
        self._keep_for, self._max_size, self._file_size = keep_for, max_size, file_size
        self._clock = clock
        self._known: tuple[Path, int, Head] | None = None  # where we left it: file, its size, head

    @property
    def head(self) -> Head:
        """The latest entry that was written here."""
        return self._known[2] if self._known is not None else BEGINNING

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes *entries*; they are on the disk then. Raises NotWritten."""
        done = 0
        try:
            with self._locked():
                path, head, behind = self._end()
                if behind is _Behind.HALF_A_LINE:
                    repaired = Entry(self._clock.now(), TORN, {"text": "the line before was half written"})
                    entries, done = [repaired, *entries], -1
                lines = []
                for entry in entries:
                    line, head = written(entry, head)
                    lines.append(line)
                done += self._write(path, lines, b"" if behind is _Behind.NOTHING else b"\n")
                self._known = (path, path.stat().st_size, head)
                if self._known[1] >= self._file_size:
                    self._begin_file()
        except OSError as e:
            self._known = None
            raise NotWritten(self._folder, e, max(done, 0)) from e
        except _Part as e:
            self._known = None
            raise NotWritten(self._folder, e.error, max(done + e.lines, 0)) from e.error

    def verify(self, *, known: Head | None = None) -> Verdict:
        """Whether it is whole; *known* is a head that somebody kept elsewhere. Raises OSError."""
        if not self._folder.is_dir():
            return verify((), known=known)
        with self._locked():  # not for longer: a gateway goes on writing
            files = [(path, path.stat().st_size) for path in self._files()]
        return verify((line for path, size in files for line in self._lines_of(path, size)), known=known)

    # -- files

    def _files(self) -> list[Path]:
        found = {path.name: path for path in self._folder.glob("audit-*.jsonl*")}
        return [path for name, path in sorted(found.items()) if f"{name}.gz" not in found]  # compressed a moment ago

    def _newest(self) -> Path:
        plain = [path for path in self._files() if path.suffix == ".jsonl"]
        return plain[-1] if plain else self._file(1)

    def _file(self, first: int) -> Path:
        return self._folder / f"audit-{first:012d}.jsonl"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700)
            self._give_to_owner(self._folder)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._give_to_owner(self._folder / "lock")
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _give_to_owner(self, path: Path) -> None:
        """What root makes, by a command, is the gateway's."""
        if os.geteuid() == 0:
            owner = self._folder.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid)

    def _end(self) -> tuple[Path, Head, _Behind]:
        """The file to write to, the head, and what is behind it."""
        path = self._newest()
        size = path.stat().st_size if path.exists() else 0
        if self._known is not None and self._known[:2] == (path, size):
            return path, self._known[2], _Behind.NOTHING
        if size == 0:
            return path, self._head_before(path), _Behind.NOTHING
        with path.open("rb") as file:
            for back in (2 * LONGEST_LINE, size):  # all of it only where no whole line is near its end
                file.seek(max(size - back, 0))
                tail = file.read()
                behind = _Behind.NOTHING if tail.endswith(b"\n") else _Behind.NO_LINE_END
                for line in reversed(tail.splitlines()):
                    if (found := read(line)) is not None:
                        return path, found[1], behind
                    if behind is _Behind.NO_LINE_END:
                        behind = _Behind.HALF_A_LINE
        return path, self._head_before(path), behind

    def _head_before(self, path: Path) -> Head:
        """The head with which the file before *path* ends."""
        head = BEGINNING
        for older in self._files():
            if older.name < path.name:
                for _, line in self._lines_of(older):
                    found = read(line)
                    head = found[1] if found is not None else head
        return head

    def _write(self, path: Path, lines: Sequence[bytes], first: bytes) -> int:
        new = not path.exists()
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if new:
                self._give_to_owner(path)
            data = memoryview(first + b"".join(lines))
            at = 0
            try:
                while at < len(data):
                    at += os.write(file, data[at:])
                os.fdatasync(file)
            except OSError as e:
                left = at - len(first)
                whole = 0
                while whole < len(lines) and left >= len(lines[whole]):
                    left -= len(lines[whole])
                    whole += 1
                raise _Part(e, whole) from e
        finally:
            os.close(file)
        return len(lines)

    def _begin_file(self) -> None:
        """The present file is large enough: the next entry begins another; what is too old or too much goes."""
        head = self.head
        new = self._file(head.number + 1)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._give_to_owner(new)
        self._known = (new, 0, head)
        for path in self._folder.glob("audit-*.jsonl"):
            if path != new:
                self._compress(path)
        self._purge(new)

    def _compress(self, path: Path) -> None:
        small = path.with_suffix(".jsonl.gz")
        part = path.with_suffix(".part")
        with path.open("rb") as whole, gzip.open(part, "wb", compresslevel=6) as out:
            shutil.copyfileobj(whole, out, 1024 * 1024)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        times = path.stat()
        os.utime(part, (times.st_atime, times.st_mtime))
        part.chmod(0o600)
        self._give_to_owner(part)
        part.replace(small)
        path.unlink()

    def _purge(self, newest: Path) -> None:
        older = [path for path in self._files() if path != newest]
        total = sum(path.stat().st_size for path in older)
        last: Head | None = None
        for path in older:
            stat = path.stat()
            if total <= self._max_size and self._clock.now() - stat.st_mtime <= self._keep_for:
                break
            for _, line in self._lines_of(path):
                found = read(line)
                last = found[1] if found is not None else last
            total -= stat.st_size
            path.unlink()
        if last is not None:
            details = {"through": last.number, "hash_of_that": last.hash}
            line, head = written(Entry(self._clock.now(), PURGED, details), self.head)
            self._write(newest, [line], b"")
            self._known = (newest, newest.stat().st_size, head)

    @staticmethod
    def _lines_of(path: Path, size: int | None = None) -> Iterator[tuple[str, bytes]]:
        """The lines in the first *size* bytes of a file; all, where it is compressed."""
        small = path.with_suffix(".jsonl.gz")
        packed = path.suffix == ".gz" or not path.exists()  # it was compressed meanwhile
        at = 0
        with gzip.open(path if path.suffix == ".gz" else small, "rb") if packed else path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                if size is not None and not packed and at >= size:
                    return
                at += len(line)
                yield f"{path.name}, line {number}", line


class _Behind(enum.Enum):
    """What is behind the last whole entry."""

    NOTHING = enum.auto()
    NO_LINE_END = enum.auto()
    """Not even the end of its line."""
    HALF_A_LINE = enum.auto()


class _Part(Exception):
    """Only so many *lines* were written."""

    def __init__(self, error: OSError, lines: int) -> None:
        super().__init__()
        self.error, self.lines = error, lines
