"""Reads element headers, and mends those whose VR is a slip of the writer (PS3.5 §7.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from pydicom.datadict import dictionary_VR

from gateway.dicom.elements import (
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    ElementReader,
    MalformedDataSet,
)
from gateway.dicom.stretches import tag_name
from gateway.dicom.structure import MAX_ELEMENTS

VRS = LONG_VRS | SHORT_VRS


class HeaderMender:
    """Reads the headers of one data set."""

    def __init__(self, data: memoryview, reader: ElementReader, *, big: bool, note: Callable[[str], None]) -> None:
        """*big* says whether it is big endian; *note* records what was mended."""
        self._data = data
        self._reader = reader
        self._big = big
        self._note = note
        self._count = 0
        self._tag = struct.Struct(">HH" if big else "<HH")
        self.anew = False
        """Whether the header that was read last has to be written anew."""

    def read(self, at: int, end: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR, length and offset of the value of the element at *at*, which ends by *end*. Raises
        MalformedDataSet."""
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise MalformedDataSet(f"more than {MAX_ELEMENTS} elements")
        if at + 8 > end:
            raise MalformedDataSet(f"it ends within an element, at byte {at} of its data set")
        self.anew = False
        if explicit and self.tag(at) >> 16 != 0xFFFE:
            vr = bytes(self._data[at + 4 : at + 6])
            if vr not in VRS:
                return self._odd_vr(at, end, vr)
            if vr in LONG_VRS and self.number(at + 6, 2) and not self._long_form_fits(at, end):
                return self._odd_vr(at, end, vr)
        tag, vr, length, value = self._reader.element(at, explicit=explicit)
        if length != UNDEFINED and value + length > end:
            raise MalformedDataSet(
                f"element {tag_name(tag)} at byte {at} of its data set is longer than what is left: the file was cut "
                "off, or lies"
            )
        return tag, vr, length, value

    def tag(self, at: int) -> int:
        """The tag at *at*."""
        group, element = self._tag.unpack_from(self._data, at)
        return int(group) << 16 | int(element)

    def number(self, at: int, width: int) -> int:
        """The unsigned number of so many bytes at *at*."""
        return int.from_bytes(self._data[at : at + width], "big" if self._big else "little")

    def _long_form_fits(self, at: int, end: int) -> bool:
        length = self.number(at + 8, 4)
        return at + 12 <= end and (length == UNDEFINED or at + 12 + length <= end)

    def _odd_vr(self, at: int, end: int, vr: bytes) -> tuple[int, bytes, int, int]:
        """An element whose VR there is none of, or that has the header of another one's: of the three forms that a
        header has (PS3.5 §7.1), the only one behind which another element follows."""
        tag = self.tag(at)
        forms = {(self.number(at + 6, 2), at + 8)}
        if vr not in LONG_VRS:
            forms |= {(self.number(at + 4, 4), at + 8), (self.number(at + 8, 4), at + 12)}
        fit = [(length, value) for length, value in forms if self.is_element(value + length, end, after=tag)]
        kind = vr if vr in LONG_VRS else dictionary_vr(tag)
        if len(fit) != 1 or kind == b"SQ":
            written = vr.decode("ascii") if vr.isalnum() else f"bytes {vr.hex()}"
            raise MalformedDataSet(
                f"element {tag_name(tag)} at byte {at} of its data set has no VR that there is ({written}), and where "
                "it ends is not certain"
            )
        self.anew = True
        self._note(f"the header of element {tag_name(tag)} written as {kind.decode()}")
        return tag, kind, *fit[0]

    def is_element(self, at: int, end: int, *, after: int) -> bool:
        """Whether an element with a VR, or the end of what it is in, lies at *at*, behind the element *after*."""
        if at >= end:
            return at == end
        if at + 8 > end:
            return False
        tag = self.tag(at)
        return tag in (ITEM_END, SEQUENCE_END) or (tag > after and bytes(self._data[at + 4 : at + 6]) in VRS)


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> bytes:
    """The VR that the standard gives it, the first where it gives several; LO of a private creator, else UN."""
    try:
        return dictionary_VR(tag)[:2].encode()
    except KeyError:
        return b"LO" if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"
