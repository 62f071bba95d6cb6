"""Reads a few elements of a data set that is not as PS3.5 has it, as far as one can tell what was meant.

:mod:`gateway.dicom.elements` is quick and takes data sets at their word. What it cannot read comes here: a blank or
unknown value representation, implicit VR under an explicit syntax and the reverse, elements out of order, the wrong
byte order, zeros between elements, a data set that is not deflated though its syntax says so, and headers of any
length. Each element header is read in the ways that it can be meant; the one that holds is the one after which another
element follows. The data set is read piece by piece from wherever it lies, and the number of elements is bounded, so
that none takes for ever.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Collection, Iterator

from gateway.dicom.elements import (
    DEPTH_LIMIT,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_DATA_GROUP,
    SEQUENCE_END,
    SHORT_VRS,
    SWAPPED,
    UNDEFINED,
    swapped,
)
from gateway.dicom.source import Source, plain
from gateway.dicom.syntaxes import EXPLICIT_BIG_ENDIAN, IMPLICIT

MAX_ELEMENTS = 500_000
"""Elements and items that are looked at, nested ones too: a second or two. A segmentation with 8,000 references has
some 40,000."""

MAX_VALUE = 64 * 1024
"""Bytes; none of what is wanted is anywhere near."""

_WINDOW = 64 * 1024
"""Bytes that are read at a time."""

_VRS = LONG_VRS | SHORT_VRS
_DELIMITER = {"<": b"\xfe\xff\xdd\xe0\0\0\0\0", ">": b"\xff\xfe\xe0\xdd\0\0\0\0"}


class _Lost(Exception):
    """Nothing that follows can be told apart."""


Value = tuple[bytes, bytes]
"""VR, empty where there is none, and raw value, as little endian has it."""


def read_tolerantly(source: Source, transfer_syntax_uid: str, wanted: Collection[int]) -> dict[int, Value]:
    """The elements in *wanted* that *source* has at its top level, as far as they can be found. Never raises for
    what the data set holds; may take seconds, and reads from the disk, so is not for the event loop."""
    source = plain(source, transfer_syntax_uid)
    explicit, big = transfer_syntax_uid not in IMPLICIT, transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
    best: dict[int, Value] = {}
    for order in (big, not big):
        found = _Walk(source, explicit=explicit, big=order).read(wanted)
        if len(found) > len(best):
            best = found
        if len(best) > len(wanted) // 4:  # the other way round, hardly an element would have been found
            break
    return best


Header = tuple[int, bytes, int, int]
"""Tag, VR or nothing, length of the value, its offset."""


def find_element(source: Source, transfer_syntax_uid: str, wanted: int) -> Header | None:
    """The element *wanted* at the top level of a data set that is not deflated; None where it is not found."""
    explicit, big = transfer_syntax_uid not in IMPLICIT, transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
    headers = _Walk(source, explicit=explicit, big=big).elements()
    return next((header for header in headers if header[0] == wanted), None)


class _Walk:
    def __init__(self, source: Source, *, explicit: bool, big: bool) -> None:
        order = ">" if big else "<"
        self._source, self._end = source, source.size
        self._explicit, self._big, self._delimiter = explicit, big, _DELIMITER[order]
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "I").unpack_from
        self._window, self._window_at = b"", 0
        self._left = MAX_ELEMENTS

    def read(self, wanted: Collection[int]) -> dict[int, Value]:
        found: dict[int, Value] = {}
        for tag, vr, length, value in self.elements():
            if tag in wanted and length <= MAX_VALUE:
                found.setdefault(tag, (vr, self._value(vr, value, length)))
                if len(found) == len(wanted):
                    break
        return found

    def elements(self) -> Iterator[Header]:
        """The headers of the top level, as far as they can be told apart."""
        at = 0
        with contextlib.suppress(_Lost):
            while at + 8 <= self._end:
                if self._bytes(at, 8) == bytes(8):
                    at = self._after_zeros(at)
                    continue
                header = self._header(at, self._end, nested=False)
                tag, _, length, value = header
                if tag >> 16 == 0xFFFE:  # a delimiter too many
                    at = value
                    continue
                yield header
                if length != UNDEFINED:
                    at = self._after_value(header)
                elif tag >= PIXEL_DATA_GROUP:  # encapsulated: fragments, and nothing that is wanted behind them
                    break
                else:
                    at = self._after_sequence(value, depth=1, of=tag)

    def _after_value(self, header: Header) -> int:
        """Where the next element begins: behind the last item where the length of a sequence lies."""
        tag, _, length, value = header
        behind = value + length
        if not self._begins_item(value) or self._begins_element(behind, self._end, after=tag, nested=True):
            return behind
        at = value
        try:
            while self._begins_item(at):
                at = self._after_one(at, depth=1)
        except _Lost:
            return behind
        return at if self._surely_begins_element(at, after=tag) else behind

    def _after_one(self, at: int, *, depth: int) -> int:
        _, _, length, value = self._header(at, self._end, nested=True)
        return value + length if length != UNDEFINED else self._after_item(value, depth=depth)

    def _after_zeros(self, at: int) -> int:
        """Where zeros end that somebody wrote between two elements."""
        while at < self._end:
            self._left -= 16
            piece = self._bytes(at, _WINDOW)
            zeros = len(piece) - len(piece.lstrip(b"\0"))
            if self._left < 0 or not piece:
                break
            if zeros < len(piece):
                return at + zeros - zeros % 2  # the group of the next one may begin with a zero
            at += zeros
        raise _Lost

    def _value(self, vr: bytes, at: int, length: int) -> bytes:
        raw = self._source.read(at, length)
        return swapped(raw, SWAPPED[vr]) if self._big and vr in SWAPPED else raw

    def _bytes(self, at: int, count: int) -> bytes:
        start = at - self._window_at
        if start < 0 or start + count > len(self._window):
            self._window, self._window_at, start = self._source.read(at, _WINDOW), at, 0
        return self._window[start : start + count]

    def _header(self, at: int, end: int, *, nested: bool) -> Header:
        """The header at *at*, read as it is most likely meant."""
        self._left -= 1
        head = self._bytes(at, 12)
        if self._left < 0 or len(head) < 8:
            raise _Lost
        group, number = self._tag(head)
        tag = group << 16 | number
        if group == 0xFFFE:  # items have no VR, in any encoding (PS3.5 §7.5)
            return tag, b"", self._long(head, 4)[0], at + 8
        fitting = None
        for vr, length, offset in self._ways(head):
            value = at + offset
            if length == UNDEFINED:
                if tag >= PIXEL_DATA_GROUP or self._begins_item(value):
                    return tag, vr, length, value
            elif value + length <= end:
                if self._begins_element(value + length, end, after=tag, nested=nested):
                    return tag, vr, length, value
                fitting = fitting or (tag, vr, length, value)
        if fitting is None:
            raise _Lost
        return fitting

    def _ways(self, head: bytes) -> Iterator[tuple[bytes, int, int]]:
        """(VR, length of the value, of the header) in the ways that a header can be meant, likely ones first."""
        vr = head[4:6]
        implicit = (b"", self._long(head, 4)[0], 8)
        if not self._explicit:
            yield implicit
        if vr in LONG_VRS and len(head) == 12:
            yield vr, self._long(head, 8)[0], 12
        if vr in _VRS:  # of the others some write a long one as if it were short
            yield vr, self._short(head, 6)[0], 8
            if vr in SHORT_VRS and len(head) == 12 and head[6:8] == b"\0\0":  # and others the other way round
                yield vr, self._long(head, 8)[0], 12
        elif vr.isalpha() or not vr.strip(b" \0-?"):  # a later edition's; blank, or a filler
            if len(head) == 12 and head[6:8] == b"\0\0":
                yield b"", self._long(head, 8)[0], 12
            yield b"", self._short(head, 6)[0], 8
        if self._explicit:
            yield implicit

    def _begins_item(self, at: int) -> bool:
        head = self._bytes(at, 4)
        if len(head) < 4:
            return False
        group, number = self._tag(head)
        return group << 16 | number in (ITEM, SEQUENCE_END)

    def _begins_element(self, at: int, end: int, *, after: int, nested: bool) -> bool:
        """Whether an element of its own begins at *at*, or nothing."""
        if at == end:
            return True
        head = self._bytes(at, 8)
        if len(head) < 8:
            return False
        group, number = self._tag(head)
        tag = group << 16 | number
        if group == 0xFFFE:
            return nested and tag in (ITEM_END, SEQUENCE_END)
        if head[4:6] in _VRS:
            return True
        length = self._long(head, 4)[0]
        return tag > after and (length == UNDEFINED or at + 8 + length <= end or not head[4:6].strip(b" \0-?"))

    def _surely_begins_element(self, at: int, *, after: int) -> bool:
        """Whether there is nothing at *at*, or an element with a VR of its own, or one behind which the next one is."""
        head = self._bytes(at, 8)
        if at == self._end or len(head) < 8:
            return at == self._end
        group, number = self._tag(head)
        tag, length = group << 16 | number, self._long(head, 4)[0]
        if not after < tag < ITEM:
            return False
        if head[4:6] in _VRS:
            return True
        behind = self._bytes(at + 8 + length, 4) if at + 8 + length < self._end else b""
        return at + 8 + length == self._end or (len(behind) == 4 and self._tag(behind) > (group, number))

    def _after_sequence(self, at: int, *, depth: int, of: int = 0) -> int:
        """The offset after the sequence *of* undefined length whose first item is at *at* (PS3.5 §7.5.2)."""
        try:
            return self._after_items(at, depth=depth, of=of)
        except _Lost:
            if self._left < 0 or depth > 1:
                raise
            return self._after_delimiter(at)

    def _after_items(self, at: int, *, depth: int, of: int) -> int:
        if depth > DEPTH_LIMIT:
            raise _Lost
        while True:
            tag, _, length, value = self._header(at, self._end, nested=True)
            if tag == SEQUENCE_END:
                return value
            if tag != ITEM:
                if depth == 1 and self._surely_begins_element(at, after=of):
                    return at  # nobody wrote a delimiter
                raise _Lost
            at = value + length if length != UNDEFINED else self._after_item(value, depth=depth)

    def _after_item(self, at: int, *, depth: int) -> int:
        while True:
            tag, _, length, value = self._header(at, self._end, nested=True)
            if tag == ITEM_END:
                return value
            if tag >> 16 == 0xFFFE:
                raise _Lost
            at = value + length if length != UNDEFINED else self._after_sequence(value, depth=depth + 1)

    def _after_delimiter(self, at: int) -> int:
        """Where a sequence that cannot be followed ends, by its delimiter."""
        while at + 8 <= self._end:
            self._left -= 16
            if self._left < 0:
                break
            piece = self._source.read(at, _WINDOW)
            place = piece.find(self._delimiter)
            if place >= 0:
                return at + place + 8
            at += max(len(piece) - 7, 1)
        raise _Lost
