"""Other UIDs put into an encoded data set, where it lies: every other byte stays as it came.

The former ones are kept in it, as an item of its Original Attributes Sequence (PS3.3 C.12.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE

from gateway.dicom.elements import SEQUENCE_END, UNDEFINED, ElementReader, MalformedDataSet, string
from gateway.dicom.encoding import encode_data_set
from gateway.dicom.original import original_attributes
from gateway.dicom.syntaxes import (
    DEFLATED,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT,
    IMPLICIT_LITTLE_ENDIAN,
)

ORIGINAL_ATTRIBUTES = 0x04000561

WINDOW = 16 * 1024 * 1024
"""Bytes of a data set that are looked through for the place of the Original Attributes Sequence; pixels come later."""

Part = tuple[int, int] | bytes
"""A stretch (start, end) of the original, or bytes in between."""


def with_uids(
    head: memoryview, size: int, transfer_syntax_uid: str, uids: Mapping[int, tuple[str, str]]
) -> tuple[Part, ...]:
    """A data set of *size* bytes that begins with *head*, with other UIDs; *uids* are the former and the new one by
    tag, the former empty where there is none that can be read.

    Raises MalformedDataSet where that cannot be done without a guess.
    """
    if transfer_syntax_uid == EXPLICIT_BIG_ENDIAN or transfer_syntax_uid in DEFLATED:
        raise MalformedDataSet("its transfer syntax is not little endian, or is deflated")
    return _Writer(head, size, explicit=transfer_syntax_uid not in IMPLICIT).all(uids)


class _Writer:
    def __init__(self, head: memoryview, size: int, *, explicit: bool) -> None:
        self._head, self._size, self._explicit = head, size, explicit
        self._reader = ElementReader(head, explicit=explicit, big=False)
        self._parts: list[Part] = []
        self._kept = 0
        self._former = Dataset()

    def all(self, uids: Mapping[int, tuple[str, str]]) -> tuple[Part, ...]:
        left = dict(sorted(uids.items()))
        at = last = 0
        while at < self._size:
            tag, vr, length, value = self._element(at)
            if tag <= last:
                raise MalformedDataSet("its elements are out of order")
            last = tag
            self._insert(at, [absent for absent in left if absent < tag], left)
            if tag > ORIGINAL_ATTRIBUTES:
                break
            end = self._end(tag, vr, length, value)
            if tag in left:
                self._put(at, end, tag, bytes(self._head[value:end]), left.pop(tag))
            elif tag == ORIGINAL_ATTRIBUTES:
                self._append_item(at, vr, length, value, end)
                break
            at = end
        else:
            self._insert(at, list(left), left)
        if last != ORIGINAL_ATTRIBUTES:
            item = self._item()
            self._replace(at, at, self._header(ORIGINAL_ATTRIBUTES, b"SQ", len(item)) + item)
        self._keep(self._size)
        return tuple(self._parts)

    # -- what is there

    def _element(self, at: int) -> tuple[int, bytes, int, int]:
        if at + 12 > len(self._head) and len(self._head) < self._size:
            raise MalformedDataSet(f"its header is longer than {WINDOW} bytes")
        if at + 8 > len(self._head):
            raise MalformedDataSet("it ends within an element")
        return self._reader.element(at, explicit=self._explicit)

    def _end(self, tag: int, vr: bytes, length: int, value: int) -> int:
        if length == UNDEFINED:
            end = self._reader.after_sequence(value, explicit=self._explicit and vr != b"UN", depth=1)
            if bytes(self._head[end - 8 : end]) != _DELIMITER:
                raise MalformedDataSet(f"sequence {tag:08X} does not end")
            return end
        if value + length > len(self._head):
            raise MalformedDataSet(f"element {tag:08X} is longer than what is left")
        return value + length

    # -- what becomes of it

    def _keep(self, end: int) -> None:
        if end > self._kept:
            self._parts.append((self._kept, end))
        self._kept = end

    def _replace(self, start: int, end: int, written: bytes) -> None:
        self._keep(start)
        self._parts.append(written)
        self._kept = end

    def _insert(self, at: int, absent: Iterable[int], left: dict[int, tuple[str, str]]) -> None:
        for tag in absent:
            self._put(at, at, tag, b"", left.pop(tag))

    def _put(self, start: int, end: int, tag: int, raw: bytes, uids: tuple[str, str]) -> None:
        former, new = uids
        if former and string(raw) != former:
            raise MalformedDataSet(f"element {tag:08X} is not where it is due")
        readable = string(raw).encode("ascii", "replace").decode()
        self._former.add(DataElement(tag, "UI", readable, validation_mode=IGNORE))
        value = new.encode() + b"\0" * (len(new) % 2)
        self._replace(start, end, self._header(tag, b"UI", len(value)) + value)

    def _header(self, tag: int, vr: bytes, length: int) -> bytes:
        group, element = tag >> 16, tag & 0xFFFF
        if not self._explicit:
            return struct.pack("<HHI", group, element, length)
        if vr == b"SQ":
            return struct.pack("<HH2sxxI", group, element, vr, length)
        return struct.pack("<HH2sH", group, element, vr, length)

    def _item(self) -> bytes:
        syntax = EXPLICIT_LITTLE_ENDIAN if self._explicit else IMPLICIT_LITTLE_ENDIAN
        encoded = encode_data_set(original_attributes(self._former), syntax)
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(encoded)) + encoded

    def _append_item(self, at: int, vr: bytes, length: int, value: int, end: int) -> None:
        if self._explicit and vr != b"SQ":
            raise MalformedDataSet("its Original Attributes Sequence is no sequence")
        item = self._item()
        if length == UNDEFINED:
            self._replace(end - len(_DELIMITER), end - len(_DELIMITER), item)
            return
        self._replace(at, value, self._header(ORIGINAL_ATTRIBUTES, b"SQ", length + len(item)))
        self._replace(end, end, item)


_DELIMITER = struct.pack("<HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
