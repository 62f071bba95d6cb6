"""Reads a few elements of a data set, fast (PS3.5 §7.1).

Every instance that arrives and every answer to a C-FIND is read for a handful of attributes. This walks
the encoded elements without building a data set, in some 20 µs for a header of 36 elements. Little endian
syntaxes are walked here; big endian and deflated ones, which are rare, are turned into them first.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Collection

from pydicom.charset import convert_encodings, decode_bytes

from gateway.dicom.syntaxes import DEFLATED, EXPLICIT_BIG_ENDIAN, IMPLICIT

INFLATE_LIMIT = 1024 * 1024
"""Bytes that the start of a deflated data set may grow to: never a deflate bomb."""

DEPTH_LIMIT = 32
"""Nested sequences that are followed; no object that means well has more than a few."""

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA_GROUP = 0x7FE00000
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_LITTLE, _BIG = (
    tuple(struct.Struct(order + form).unpack_from for form in ("HH2sH", "HHI", "I")) for order in ("<", ">")
)
"""Readers of a tag with VR and length, of a tag with a length, and of a length, by byte order."""
_CHINESE = "\x1b$)A"
"""The escape sequence to ISO-IR 58, which pydicom leaves in the text."""
SHORT_VRS = frozenset((
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
))  # fmt: skip
SWAPPED = {b"US": 2, b"SS": 2, b"UL": 4, b"SL": 4}
"""Bytes of a number, which big endian has the other way round."""


class MalformedDataSet(ValueError):
    """The bytes are no data set in the transfer syntax that they were sent in."""


def read_elements(
    data: memoryview | bytes, transfer_syntax_uid: str, wanted: Collection[int], *, size: float = math.inf
) -> dict[int, bytes]:
    """The raw values of the top-level elements in *wanted* (tags as ``0xGGGGEEEE``) that *data* has.

    *data* is the start of an encoded data set; it may end anywhere after the last wanted element. *size* is how many
    bytes the data set has, where that is known: an element that would reach beyond shows that its reader went astray.
    Values are as little endian has them. Raises MalformedDataSet.
    """
    if transfer_syntax_uid in DEFLATED:
        data, size = inflated(data, INFLATE_LIMIT), math.inf
    big = transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
    reader = ElementReader(memoryview(data), explicit=transfer_syntax_uid not in IMPLICIT, big=big)
    return reader.read(wanted, size)


def inflated(data: memoryview | bytes, limit: int) -> bytes:
    """The start of a deflated data set, *limit* bytes of it at most. Raises MalformedDataSet.

    It is a bare deflate stream (PS3.5 A.5); some writers put the header of zlib or gzip before it.
    """
    for window_bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS + 32):
        try:
            return zlib.decompressobj(window_bits).decompress(data, limit)
        except zlib.error:
            continue
    raise MalformedDataSet("a deflated data set that cannot be inflated")


class ElementReader:
    """Walks the elements of one encoding."""

    def __init__(self, data: memoryview, *, explicit: bool, big: bool) -> None:
        self._data, self._end = data, len(data)
        self._explicit, self._big = explicit, big
        self._tag_vr, self._tag_length, self._length = _BIG if big else _LITTLE

    def read(self, wanted: Collection[int], size: float = math.inf) -> dict[int, bytes]:
        """The raw values of the top-level elements in *wanted*, of a data set of *size* bytes. Raises
        MalformedDataSet."""
        data, end, last, explicit, tag_vr = self._data, self._end, max(wanted), self._explicit, self._tag_vr
        found: dict[int, bytes] = {}
        at = 0
        while at + 8 <= end:
            group, number, vr, length = tag_vr(data, at)
            if explicit and vr in SHORT_VRS:  # most elements: a call less for each
                tag, value = group << 16 | number, at + 8
            else:
                tag, vr, length, value = self.element(at, explicit=explicit)
            if tag > last:
                if tag >> 16 == 0xFFFE:
                    raise MalformedDataSet("an item or a delimiter outside of a sequence")
                if not self._goes_back(tag, length, value, last):
                    break
                at = value + length
                continue
            if length == UNDEFINED:
                at = self.after_sequence(value, explicit=explicit and vr != b"UN", depth=1)
                if at == end and self._tag_length(data, end - 8)[:2] != (0xFFFE, 0xE0DD):
                    at += 1  # it goes on
                continue
            at = value + length
            if tag in wanted:
                if at > end:
                    raise MalformedDataSet(f"element {tag:08X} is longer than the data set")
                raw = bytes(data[value:at])
                found[tag] = swapped(raw, SWAPPED[vr]) if self._big and vr in SWAPPED else raw
        if at > size:
            raise MalformedDataSet("an element that is longer than the data set")
        return found

    def _goes_back(self, tag: int, length: int, value: int, last: int) -> bool:
        """Whether an element beyond all that is wanted is merely out of order (PS3.5 §7.1 has them ascend)."""
        if tag >= PIXEL_DATA_GROUP or length == UNDEFINED or value + length + 8 > self._end:
            return False
        group, element, _ = self._tag_length(self._data, value + length)
        return bool(0x00080000 <= group << 16 | element <= last)

    def element(self, at: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR, value length and value offset of the element at *at*; 8 bytes of it are there."""
        if not explicit:
            group, element, length = self._tag_length(self._data, at)
            return group << 16 | element, b"", length, at + 8
        group, element, vr, length = self._tag_vr(self._data, at)
        if group == 0xFFFE:  # items have no VR, in any encoding (PS3.5 §7.5)
            return group << 16 | element, b"", self._length(self._data, at + 4)[0], at + 8
        if vr in LONG_VRS:
            if at + 12 > self._end:
                raise MalformedDataSet("data set ends within an element")
            return group << 16 | element, vr, self._length(self._data, at + 8)[0], at + 12
        if not (vr.isalpha() and vr.isupper()):
            raise MalformedDataSet(f"element {group:04X}{element:04X} has no value representation")
        return group << 16 | element, vr, length, at + 8

    def after_sequence(self, at: int, *, explicit: bool, depth: int) -> int:
        """The offset after a sequence of undefined length whose first item is at *at* (PS3.5 §7.5.2)."""
        if depth > DEPTH_LIMIT:
            raise MalformedDataSet("sequences nested too deep")
        while at + 8 <= self._end:
            tag, _, length, value = self.element(at, explicit=False)
            if tag == SEQUENCE_END:
                return value
            if tag != ITEM:
                raise MalformedDataSet("a sequence with something between its items")
            at = value + length if length != UNDEFINED else self._after_item(value, explicit=explicit, depth=depth)
        return self._end

    def _after_item(self, at: int, *, explicit: bool, depth: int) -> int:
        while at + 8 <= self._end:
            tag, vr, length, value = self.element(at, explicit=explicit)
            if tag == ITEM_END:
                return value
            if length == UNDEFINED:
                at = self.after_sequence(value, explicit=explicit and vr != b"UN", depth=depth + 1)
            else:
                at = value + length
        return self._end


def swapped(raw: bytes, width: int) -> bytes:
    """Numbers of *width* bytes each, turned round."""
    return b"".join(raw[i : i + width][::-1] for i in range(0, len(raw), width))


def text(raw: bytes, specific_character_set: bytes = b"") -> str:
    """A text value in Unicode, whatever its character set is or claims to be (field note 13).

    What cannot be decoded is replaced: a name that reads oddly never keeps a study from opening.
    """
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").rstrip(" \0")
    terms = specific_character_set.decode("ascii", "replace").strip(" \0").split("\\")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoded = decode_bytes(raw, convert_encodings([t.strip() for t in terms]), set())
            return decoded.replace(_CHINESE, "").rstrip(" \0")
        except (LookupError, UnicodeError, ValueError):
            return raw.decode("latin-1").rstrip(" \0")


def string(raw: bytes | None) -> str:
    """A value of the default repertoire (UI, CS, DA, AE, …), padding removed; empty where there is none."""
    return raw.decode("ascii", "replace").strip(" \0") if raw else ""


def decimal(raw: bytes | None) -> float | None:
    """A single Decimal String; None where there is none, or none that is a number."""
    try:
        value = float((raw or b"").strip(b" \0"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def integer(raw: bytes | None) -> int | None:
    """A single Integer String; devices write ``3.0`` and ``1e2`` where one is due."""
    value = decimal(raw)
    return int(value) if value is not None and value.is_integer() and abs(value) < 2**31 else None


def unsigned_short(raw: bytes | None) -> int | None:
    """A single US value."""
    return int.from_bytes(raw, "little") if raw is not None and len(raw) == 2 else None
