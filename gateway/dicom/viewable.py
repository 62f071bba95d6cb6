"""Data sets that viewers in a browser do not read, as explicit VR little endian, losing nothing (PS3.5 A.2, A.3, A.5).

Big endian and little endian headers have the same size, so a data set is turned round where it lies.
"""

from __future__ import annotations

import struct
from array import array

from gateway.dicom.elements import (
    DEPTH_LIMIT,
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    MalformedDataSet,
    inflated,
)
from gateway.dicom.syntaxes import DEFLATED_EXPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN

MADE_VIEWABLE = frozenset((EXPLICIT_BIG_ENDIAN, DEFLATED_EXPLICIT_LITTLE_ENDIAN))

LIMIT = 512 * 1024 * 1024
"""Bytes; a larger data set, which would have to fit in memory, stays as it is."""

_UNITS = {
    **dict.fromkeys((b"US", b"SS", b"OW", b"AT"), "H"),
    **dict.fromkeys((b"UL", b"SL", b"FL", b"OF", b"OL"), "I"),
    **dict.fromkeys((b"FD", b"OD", b"SV", b"UV", b"OV"), "Q"),
}
"""What the values of a VR are made of (PS3.5 §7.3); all others are bytes."""


def made_viewable(data: bytes, transfer_syntax_uid: str) -> bytes:
    """*data* in explicit VR little endian. Raises MalformedDataSet where that cannot be."""
    if transfer_syntax_uid == DEFLATED_EXPLICIT_LITTLE_ENDIAN:
        plain = inflated(data, LIMIT)
        if len(plain) >= LIMIT:
            raise MalformedDataSet("a deflated data set of more than is taken")
        return plain
    turn = _Turn(data)
    try:
        turn.elements(0, len(data), depth=0)
    except struct.error as e:
        raise MalformedDataSet("it ends within an element") from e
    return bytes(turn.data)


class _Turn:
    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def _turn(self, at: int, length: int, unit: str) -> None:
        whole = length - length % array(unit).itemsize
        values = array(unit, self.data[at : at + whole])
        values.byteswap()
        self.data[at : at + whole] = values.tobytes()

    def _tag(self, at: int) -> int:
        group, element = struct.unpack_from(">HH", self.data, at)
        self._turn(at, 4, "H")
        return int(group << 16 | element)

    def _length(self, at: int) -> int:
        (length,) = struct.unpack_from(">I", self.data, at)
        self._turn(at, 4, "I")
        return int(length)

    def elements(self, at: int, end: int, *, depth: int, delimited: bool = False) -> int:
        """Turns elements round, to *end* or their delimiter; the offset after it."""
        if depth > DEPTH_LIMIT:
            raise MalformedDataSet("sequences nested too deep")
        while at < end:
            tag = self._tag(at)
            if tag == ITEM_END and delimited:
                self._length(at + 4)
                return at + 8
            vr = bytes(self.data[at + 4 : at + 6])
            if vr in LONG_VRS:
                length, value = self._length(at + 8), at + 12
            elif vr in SHORT_VRS:
                (length,) = struct.unpack_from(">H", self.data, at + 6)
                self._turn(at + 6, 2, "H")
                value = at + 8
            else:
                raise MalformedDataSet("an element without a value representation")
            if vr == b"SQ":
                undefined = length == UNDEFINED
                at = self._items(value, end if undefined else value + length, depth=depth + 1, delimited=undefined)
                continue
            if length == UNDEFINED or value + length > end:
                raise MalformedDataSet("an element that is longer than what is left")
            if vr in _UNITS:
                self._turn(value, length, _UNITS[vr])
            at = value + length
        if delimited:
            raise MalformedDataSet("an item that does not end")
        return at

    def _items(self, at: int, end: int, *, depth: int, delimited: bool) -> int:
        if end > len(self.data):
            raise MalformedDataSet("a sequence that is longer than what is left")
        while at < end:
            tag, length = self._tag(at), self._length(at + 4)
            if tag == SEQUENCE_END and delimited:
                return at + 8
            if tag != ITEM:
                raise MalformedDataSet("a sequence with something between its items")
            undefined = length == UNDEFINED
            if not undefined and at + 8 + length > end:
                raise MalformedDataSet("an item that is longer than its sequence")
            at = self.elements(at + 8, end if undefined else at + 8 + length, depth=depth + 1, delimited=undefined)
        if delimited:
            raise MalformedDataSet("a sequence that does not end")
        return at
