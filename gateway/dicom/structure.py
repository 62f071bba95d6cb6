"""Whether a whole data set is one: walks every element to the end, and builds nothing (PS3.5 §7).

For what comes from people nobody has to trust: a file that ends early, lies about its lengths, nests a thousand
sequences or has a million elements is told from one that a library can safely be given.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.dicom.elements import (
    DEPTH_LIMIT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    ElementReader,
    MalformedDataSet,
)
from gateway.dicom.syntaxes import EXPLICIT_BIG_ENDIAN, IMPLICIT

MAX_ELEMENTS = 200_000
"""Elements and items of a data set, pixel data fragments apart; a large SR has some tens of thousands."""

PIXEL_DATA = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Float, Double Float and (integer) Pixel Data."""


@dataclass(frozen=True, slots=True)
class PixelData:
    """Where the pixel data lie in an encoded data set."""

    offset: int
    """Of the element, header included."""
    length: int
    """Bytes of the value; of encapsulated ones, of all fragments but the first, the offset table."""
    fragments: int | None
    """How many fragments; None where the pixel data are not encapsulated."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A data set that was walked to its end."""

    pixel_data: PixelData | None


def read_structure(data: memoryview, transfer_syntax_uid: str, padding_from: int | None = None) -> Structure:
    """The structure of a whole data set, which may have padding behind it, from *padding_from* on. Raises
    MalformedDataSet, which says what is wrong with it."""
    return _Walk(data, transfer_syntax_uid, len(data) if padding_from is None else padding_from).all()


class _Walk:
    def __init__(self, data: memoryview, transfer_syntax_uid: str, padding_from: int) -> None:
        self._padding_from = padding_from
        self._explicit = transfer_syntax_uid not in IMPLICIT
        self._reader = ElementReader(data, explicit=self._explicit, big=transfer_syntax_uid == EXPLICIT_BIG_ENDIAN)
        self._end = len(data)
        self._count = 0
        self._pixel_data: PixelData | None = None

    def all(self) -> Structure:
        self._elements(0, self._end, explicit=self._explicit, depth=0)
        return Structure(self._pixel_data)

    def _header(self, at: int, end: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise MalformedDataSet(f"more than {MAX_ELEMENTS} elements")
        if at + 8 > end:
            raise MalformedDataSet("it ends within an element")
        tag, vr, length, value = self._reader.element(at, explicit=explicit)
        if length != UNDEFINED and value + length > end:
            raise MalformedDataSet(f"element {tag:08X} is longer than what is left: the file was cut off, or lies")
        return tag, vr, length, value

    def _elements(self, at: int, end: int, *, explicit: bool, depth: int, delimited: bool = False) -> int:
        """Walks elements to *end*, or to their delimiter; the offset after it."""
        if depth > DEPTH_LIMIT:
            raise MalformedDataSet("sequences nested too deep")
        while at < end:
            if depth == 0 and at >= self._padding_from:
                break
            start = at
            tag, vr, length, value = self._header(at, end, explicit=explicit)
            if tag == ITEM_END and delimited:
                return value
            if tag >> 16 == 0xFFFE:
                raise MalformedDataSet("an item delimiter where an element is due")
            if depth == 0 and tag in PIXEL_DATA:
                at = self._pixels(start, length, value)
            elif length == UNDEFINED:
                at = self._items(value, end, explicit=explicit and vr != b"UN", depth=depth + 1, delimited=True)
            elif vr == b"SQ":
                self._items(value, value + length, explicit=explicit, depth=depth + 1)
                at = value + length
            else:
                at = value + length
        if delimited:
            raise MalformedDataSet("an item that does not end")
        return at

    def _items(self, at: int, end: int, *, explicit: bool, depth: int, delimited: bool = False) -> int:
        while at < end:
            tag, _, length, value = self._header(at, end, explicit=False)
            if tag == SEQUENCE_END and delimited:
                return value
            if tag != ITEM:
                raise MalformedDataSet("a sequence with something between its items")
            if length == UNDEFINED:
                at = self._elements(value, end, explicit=explicit, depth=depth + 1, delimited=True)
            else:
                self._elements(value, value + length, explicit=explicit, depth=depth + 1)
                at = value + length
        if delimited:
            raise MalformedDataSet("a sequence that does not end")
        return at

    def _pixels(self, start: int, length: int, value: int) -> int:
        if self._pixel_data is not None:
            raise MalformedDataSet("pixel data twice")
        if length != UNDEFINED:
            self._pixel_data = PixelData(start, length, None)
            return value + length
        at, fragments, size = value, 0, 0
        while True:
            if at + 8 > self._end:
                raise MalformedDataSet("encapsulated pixel data that do not end: the file was cut off")
            tag, _, length, value = self._reader.element(at, explicit=False)
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or length == UNDEFINED or value + length > self._end:
                raise MalformedDataSet("encapsulated pixel data with something other than fragments")
            if fragments:
                size += length
            fragments += 1
            at = value + length
        self._pixel_data = PixelData(start, size, max(fragments - 1, 0))
        return value
