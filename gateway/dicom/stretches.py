"""An encoded data set that is partly written anew: stretches of the original, and bytes in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pieces:
    """What an encoded part becomes: stretches of the original, and bytes in between."""

    parts: list[tuple[int, int] | bytes] = field(default_factory=list)
    length: int = 0

    def keep(self, start: int, end: int) -> None:
        """Adds a stretch of the original, from *start* to *end*."""
        if end <= start:
            return
        last = self.parts[-1] if self.parts else None
        if isinstance(last, tuple) and last[1] == start:
            self.parts[-1] = (last[0], end)
        else:
            self.parts.append((start, end))
        self.length += end - start

    def put(self, written: bytes) -> None:
        """Adds bytes that are not of the original."""
        if written:
            self.parts.append(written)
            self.length += len(written)

    def join(self, other: Pieces) -> None:
        """Adds all that *other* has."""
        for part in other.parts:
            if isinstance(part, bytes):
                self.put(part)
            else:
                self.keep(*part)

    def without(self, stretches: Sequence[tuple[int, int]]) -> Pieces:
        """The same, some *stretches* of the original left out; they ascend."""
        found = Pieces()
        for part in self.parts:
            if isinstance(part, bytes):
                found.put(part)
                continue
            at, end = part
            for begin, after in stretches:
                if at <= begin and after <= end:
                    found.keep(at, begin)
                    at = after
            found.keep(at, end)
        return found


@dataclass(frozen=True, slots=True)
class Mended:
    """A data set as it should have been written."""

    parts: tuple[tuple[int, int] | bytes, ...]
    """Stretches (start, end) of the original, and bytes in between."""
    length: int
    """Bytes of it all."""
    notes: tuple[str, ...]
    """What was mended; empty where nothing had to be."""


def pieces(data: memoryview, mended: Mended, size: int = 1024 * 1024) -> Iterator[memoryview | bytes]:
    """The mended data set, a piece at a time."""
    for part in mended.parts:
        if isinstance(part, bytes):
            yield part
        else:
            for at in range(part[0], part[1], size):
                yield data[at : min(at + size, part[1])]


def tag_name(tag: int) -> str:
    """As the standard writes it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
