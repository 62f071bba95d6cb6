"""Encapsulated Pixel Data: fragments, frames, and the Basic Offset Table that says which is which (PS3.5 §A.4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from pydicom import uid

_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ")
"""With which a code stream begins: JPEG and JPEG-LS, JPEG 2000, JPEG XL bare and in its container, JP2."""

END_OF_CODE_STREAM = (b"\xff\xd9",)
"""With which JPEG, JPEG-LS and JPEG 2000 end."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment in an encoded data set."""

    offset: int
    """Of its first byte, the item's header left out."""
    length: int
    """Bytes that it has."""


def frames_of(
    data: memoryview, fragments: Sequence[Fragment], table: Sequence[int], items: Sequence[int], frames: int
) -> list[list[Fragment]] | None:
    """The fragments of each frame; None where it cannot be known.

    *table* is the Basic Offset Table as it stands; *items* is where each fragment's item lies by the same count.
    """
    if frames == 1:
        return [list(fragments)]
    if len(fragments) == frames:
        return [[f] for f in fragments]
    if len(table) == frames and table[0] == 0 and set(table) <= set(items) and list(table) == sorted(set(table)):
        begins = [items.index(offset) for offset in table]
    else:
        begins = [i for i, f in enumerate(fragments) if bytes(data[f.offset : f.offset + 12]).startswith(_STARTS)]
        if len(begins) != frames or begins[0] != 0:
            return None
    return [list(fragments[a:b]) for a, b in zip(begins, [*begins[1:], len(fragments)], strict=True)]


def begins(start: bytes) -> bool:
    """Whether a code stream that is known by how it begins does begin with *start*."""
    return start.startswith(_STARTS)


def ends(data: memoryview, fragment: Fragment) -> bool:
    """Whether a code stream that says where it ends ends with *fragment*."""
    tail = bytes(data[fragment.offset + max(fragment.length - 16, 0) : fragment.offset + fragment.length])
    return tail.rstrip(b"\0").endswith(END_OF_CODE_STREAM)


def offset_table(lengths: Sequence[Sequence[int]]) -> bytes:
    """The Basic Offset Table of frames whose fragments are so long; empty where one has no room for them."""
    sizes = [sum(8 + length for length in frame) for frame in lengths]
    offsets = [0, *accumulate(sizes)][: len(sizes)]
    return struct.pack(f"<{len(offsets)}I", *offsets) if offsets and offsets[-1] <= 0xFFFFFFFF else b""


def syntax_of_code_stream(start: bytes) -> str:
    """The transfer syntax that a code stream beginning with *start* is certain to be in; empty where none is.

    A lossy syntax also allows what is lossless, so it is named where a code stream does not tell.
    """
    if start.startswith(b"\xff\x4f\xff\x51"):
        # Rsiz, bit 14: the code stream has capabilities of Part 15, which is High-Throughput (ISO 15444-1 A.5.1).
        high_throughput = len(start) >= 8 and start[6] & 0x40
        return str(uid.HTJ2K if high_throughput else uid.JPEG2000)
    at = 2
    while start[:2] == b"\xff\xd8" and at + 4 <= len(start) and start[at] == 0xFF:
        marker, length = start[at + 1], int.from_bytes(start[at + 2 : at + 4], "big")
        if marker == 0xC0:
            return str(uid.JPEGBaseline8Bit)
        if marker == 0xC1:
            return str(uid.JPEGExtended12Bit)
        if marker == 0xC3:
            return str(uid.JPEGLossless)
        if marker == 0xF7:
            return str(uid.JPEGLSNearLossless)
        at += 2 + length
    return ""
