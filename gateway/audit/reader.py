"""Reads the trail on from an entry, beside whoever writes it; entries come in their order, each once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.audit.chain import read

AT_ONCE = 500
"""Entries."""

LONGEST_LINE = 64 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read."""

    entries: list[dict[str, Any]]
    upto: int
    """Number of the last entry."""
    missing: int = 0
    """Entries before these that are not there any more."""


class TrailReader:
    """Reads the trail in *folder*. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[Path, int, int] | None = None
        """File, offset behind its last entry that was read, number of that entry."""

    def last(self) -> int:
        """Number of the latest entry; 0 where there is none. Raises OSError."""
        found = 0
        for path in reversed(self._files()):
            for values, _ in self._entries(path, 0):
                found = values["n"]
            if found:
                break
        return found

    def after(self, number: int) -> Read:
        """The next entries after *number*. Raises OSError."""
        path, offset = self._place(number)
        found: list[dict[str, Any]] = []
        files = self._files()
        upto = number
        for file in files[files.index(path) :] if path in files else []:
            at = offset if file == path else 0
            for values, end in self._entries(file, at):
                if values["n"] > number:
                    found.append(values)
                    upto = values["n"]
                self._known = (file, end, values["n"])
                if len(found) >= AT_ONCE:
                    break
            if len(found) >= AT_ONCE:
                break
        missing = max(found[0]["n"] - number - 1, 0) if found else 0
        return Read(found, upto, missing)

    def _place(self, number: int) -> tuple[Path, int]:
        """Where to read on after entry *number*."""
        if self._known is not None and self._known[2] == number and self._known[0].exists():
            return self._known[0], self._known[1]
        files = self._files()
        before = [path for path in files if _first(path) <= number + 1]
        return (before or files or [self._folder])[-1 if before else 0], 0

    def _files(self) -> list[Path]:
        found = {path.name: path for path in self._folder.glob("audit-*.jsonl*")}
        return [path for name, path in sorted(found.items()) if f"{name}.gz" not in found]  # compressed a moment ago

    @staticmethod
    def _entries(path: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Whole entries from *offset* on, each with the offset behind it. What is none is passed over: ``audit verify``
        tells of it."""
        small = path.with_suffix(".jsonl.gz")
        if path.suffix != ".gz" and not path.exists():
            path = small  # it was compressed meanwhile
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            file.seek(offset)
            for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                if not line.endswith(b"\n"):
                    return  # it is being written
                offset += len(line)
                if (entry := read(line)) is not None:
                    yield entry[0], offset


def _first(path: Path) -> int:
    """Number of the first entry of a file, by its name."""
    digits = path.name.removeprefix("audit-").partition(".")[0]
    return int(digits) if digits.isdigit() else 0
