"""Mends what is certain to be a slip of the writer in an encoded data set (PS3.5 §7, §8, §A.4).

Values of odd length, fragments without their pad byte or their delimiter, bytes behind the data set, RLE frames in
several fragments: a PACS answers some of these with an error, and others never. What can be put right without a guess
is, and is told; for what cannot, the error says what is wrong and where.

The data set is walked from end to end and nothing is built, so this is fit for what comes from a stranger.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from pydicom.datadict import dictionary_VR

from gateway.dicom import encapsulated
from gateway.dicom.elements import (
    DEPTH_LIMIT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    ElementReader,
    MalformedDataSet,
)
from gateway.dicom.encapsulated import Fragment
from gateway.dicom.structure import MAX_ELEMENTS, PIXEL_DATA
from gateway.dicom.syntaxes import EXPLICIT_BIG_ENDIAN, IMPLICIT, RLE

SLACK = b"\0\r\n \x1a"
"""What writers and transports leave behind a file: padding, line ends, an end-of-file mark."""

SURPLUS = 2
"""Bytes of zeros that native pixel data may have too many: a writer's idea of padding."""

_WIDTHS = {
    b"AT": 4, b"FD": 8, b"FL": 4, b"OD": 8, b"OF": 4, b"OL": 4, b"OV": 8, b"SL": 4, b"SS": 2, b"SV": 8, b"UL": 4,
    b"US": 2, b"UV": 8,
}  # fmt: skip
"""Bytes of one value of a binary VR: one that is cut short cannot be made up."""

_NUL_PADDED = frozenset((b"OB", b"OW", b"UI", b"UN"))
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))

_ROWS, _COLUMNS, _BITS, _SAMPLES, _FRAMES = 0x00280010, 0x00280011, 0x00280100, 0x00280002, 0x00280008
_PHOTOMETRIC = 0x00280004
_GEOMETRY = frozenset((_ROWS, _COLUMNS, _BITS, _SAMPLES, _FRAMES, _PHOTOMETRIC))
EXTENDED_OFFSET_TABLE = 0x7FE00001


@dataclass(slots=True)
class _Pieces:
    """What an encoded part becomes: stretches of the original, and bytes in between."""

    parts: list[tuple[int, int] | bytes] = field(default_factory=list)
    length: int = 0

    def keep(self, start: int, end: int) -> None:
        if end <= start:
            return
        last = self.parts[-1] if self.parts else None
        if isinstance(last, tuple) and last[1] == start:
            self.parts[-1] = (last[0], end)
        else:
            self.parts.append((start, end))
        self.length += end - start

    def put(self, written: bytes) -> None:
        if written:
            self.parts.append(written)
            self.length += len(written)

    def join(self, other: _Pieces) -> None:
        for part in other.parts:
            if isinstance(part, bytes):
                self.put(part)
            else:
                self.keep(*part)


@dataclass(frozen=True, slots=True)
class Mended:
    """A data set as it should have been written."""

    parts: tuple[tuple[int, int] | bytes, ...]
    """Stretches (start, end) of the original, and bytes in between."""
    length: int
    """Bytes of it all."""
    notes: tuple[str, ...]
    """What was mended; empty where nothing had to be."""


def mend(data: memoryview, transfer_syntax_uid: str) -> Mended:
    """*data*, a whole encoded data set, mended where that is certain. Raises MalformedDataSet where it is not."""
    return _Mender(data, transfer_syntax_uid).all()


class _Mender:
    def __init__(self, data: memoryview, transfer_syntax_uid: str) -> None:
        self._data, self._end = data, len(data)
        self._syntax = transfer_syntax_uid
        self._explicit = transfer_syntax_uid not in IMPLICIT
        self._big = transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
        self._reader = ElementReader(data, explicit=self._explicit, big=self._big)
        self._count = 0
        self._notes: dict[str, int] = {}
        self._geometry: dict[int, bytes] = {}
        self._has_extended_offsets = False
        self._pixels_seen = False
        self._slack_from = _slack_from(data)

    def all(self) -> Mended:
        pieces, _ = self._elements(0, self._end, explicit=self._explicit, depth=0)
        notes = tuple(note if times == 1 else f"{note} ({times} times)" for note, times in self._notes.items())
        return Mended(tuple(pieces.parts), pieces.length, notes)

    def _note(self, what: str) -> None:
        self._notes[what] = self._notes.get(what, 0) + 1

    def _header(self, at: int, end: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise MalformedDataSet(f"more than {MAX_ELEMENTS} elements")
        if at + 8 > end:
            raise MalformedDataSet(f"it ends within an element, at byte {at} of its data set")
        tag, vr, length, value = self._reader.element(at, explicit=explicit)
        if length != UNDEFINED and value + length > end:
            raise MalformedDataSet(f"element {_name(tag)} is longer than what is left: the file was cut off, or lies")
        return tag, vr, length, value

    # -- elements

    def _elements(
        self, at: int, end: int, *, explicit: bool, depth: int, delimited: bool = False
    ) -> tuple[_Pieces, int]:
        """Elements to *end*, or to their delimiter, which is not among them; and the offset after it."""
        if depth > DEPTH_LIMIT:
            raise MalformedDataSet("sequences nested too deep")
        out = _Pieces()
        while at < end:
            if depth == 0 and self._only_slack(at):
                self._note(f"{end - at} bytes behind the data set left out")
                return out, end
            tag, vr, length, value = self._header(at, end, explicit=explicit)
            if tag == ITEM_END and delimited:
                return out, value
            if tag >> 16 == 0xFFFE:
                raise MalformedDataSet(f"an item delimiter where an element is due, at byte {at} of its data set")
            if depth == 0 and tag in PIXEL_DATA:
                at = self._pixel_data(out, at, tag, vr, length, value)
            elif length == UNDEFINED:
                items, after = self._items(
                    value, end, explicit=explicit and vr != b"UN", depth=depth + 1, delimited=True
                )
                out.keep(at, value)
                out.join(items)
                at = after
            elif vr == b"SQ" or (not explicit and _dictionary_vr(tag) == b"SQ"):
                items, after = self._items(value, value + length, explicit=explicit, depth=depth + 1)
                self._with_length(out, at, value, items, length)
                at = after
            else:
                self._remember(depth, tag, value, length)
                self._value(out, at, tag, vr, length, value, explicit=explicit)
                at = value + length
        if delimited:
            raise MalformedDataSet("an item that does not end")
        return out, at

    def _items(self, at: int, end: int, *, explicit: bool, depth: int, delimited: bool = False) -> tuple[_Pieces, int]:
        """The items of a sequence, its delimiter among them where it has one; and the offset after it."""
        out = _Pieces()
        while at < end:
            tag, _, length, value = self._header(at, end, explicit=False)
            if tag == SEQUENCE_END and delimited:
                out.keep(at, value)
                return out, value
            if tag != ITEM:
                raise MalformedDataSet(f"a sequence with something between its items, at byte {at} of its data set")
            if length == UNDEFINED:
                elements, after = self._elements(value, end, explicit=explicit, depth=depth + 1, delimited=True)
                out.keep(at, value)
                out.join(elements)
                out.keep(after - 8, after)  # its delimiter
                at = after
            else:
                elements, _ = self._elements(value, value + length, explicit=explicit, depth=depth + 1)
                self._with_length(out, at, value, elements, length)
                at = value + length
        if delimited:
            raise MalformedDataSet("a sequence that does not end")
        return out, at

    def _with_length(self, out: _Pieces, at: int, value: int, content: _Pieces, length: int) -> None:
        """A header whose last four bytes are the length of what follows."""
        if content.length == length:
            out.keep(at, value)
        else:
            out.keep(at, value - 4)
            out.put(content.length.to_bytes(4, "big" if self._big else "little"))
        out.join(content)

    def _value(self, out: _Pieces, at: int, tag: int, vr: bytes, length: int, value: int, *, explicit: bool) -> None:
        if not length % 2:
            out.keep(at, value + length)
            return
        kind = vr if explicit else _dictionary_vr(tag)
        if kind in _WIDTHS:
            raise MalformedDataSet(
                f"element {_name(tag)} at byte {at} of its data set has {length} bytes, which is no number of values "
                f"of its VR {kind.decode()}"
            )
        if explicit and vr not in _LONG and length == 0xFFFF:
            raise MalformedDataSet(f"element {_name(tag)} has {length} bytes, and there is no room for one more")
        self._note(f"element {_name(tag)} padded to an even length")
        self._write_header(out, at, vr, value, length + 1, explicit=explicit)
        out.keep(value, value + length)
        out.put(b"\0" if kind in _NUL_PADDED else b" ")

    def _write_header(self, out: _Pieces, at: int, vr: bytes, value: int, length: int, *, explicit: bool) -> None:
        width = 2 if explicit and vr not in _LONG else 4
        out.keep(at, value - width)
        out.put(length.to_bytes(width, "big" if self._big else "little"))

    def _remember(self, depth: int, tag: int, value: int, length: int) -> None:
        if depth == 0 and tag in _GEOMETRY and length <= 64:
            self._geometry[tag] = bytes(self._data[value : value + length])
        self._has_extended_offsets |= depth == 0 and tag == EXTENDED_OFFSET_TABLE and length > 0

    def _only_slack(self, at: int) -> bool:
        """Whether nothing but padding follows."""
        return at >= self._slack_from

    # -- pixel data

    def _pixel_data(self, out: _Pieces, at: int, tag: int, vr: bytes, length: int, value: int) -> int:
        if self._pixels_seen:
            raise MalformedDataSet("pixel data twice")
        self._pixels_seen = True
        if length == UNDEFINED:
            return self._fragments(out, at, value)
        surplus = self._surplus(tag, length, value)
        if surplus:
            self._note(f"{surplus} bytes too many behind the pixels left out")
        kept = length - surplus
        if kept != length or kept % 2:
            if kept % 2:
                self._note(f"element {_name(tag)} padded to an even length")
            self._write_header(out, at, vr, value, kept + kept % 2, explicit=self._explicit)
        else:
            out.keep(at, value)
        out.keep(value, value + kept)
        out.put(b"\0" * (kept % 2))
        return value + length

    def _surplus(self, tag: int, length: int, value: int) -> int:
        """Bytes of zeros that native pixel data have more than their attributes demand, where these are few."""
        expected = self._expected_length()
        if tag != 0x7FE00010 or expected is None:
            return 0
        padded = expected + expected % 2
        surplus = length - padded
        if not 0 < surplus <= SURPLUS or bytes(self._data[value + padded : value + length]).strip(b"\0"):
            return 0
        return surplus

    def _number(self, tag: int) -> int | None:
        raw = self._geometry.get(tag, b"")
        return int.from_bytes(raw, "big" if self._big else "little") if len(raw) in (2, 4) else None

    def _frame_count(self) -> int:
        text = self._geometry.get(_FRAMES, b"").strip(b" \0")
        return int(text) if text.isdigit() and len(text) < 10 else 1

    def _expected_length(self) -> int | None:
        numbers = [self._number(tag) for tag in (_ROWS, _COLUMNS, _BITS, _SAMPLES)]
        if not all(numbers):
            return None
        rows, columns, bits, samples = (n or 0 for n in numbers)
        if self._geometry.get(_PHOTOMETRIC, b"").strip(b" \0") in (b"YBR_FULL_422", b"YBR_PARTIAL_422"):
            samples = 2
        return (rows * columns * bits * samples * self._frame_count() + 7) // 8

    def _fragments(self, out: _Pieces, start: int, at: int) -> int:
        """Encapsulated pixel data, whose first item is at *at*; the offset after them."""
        first = at
        table_at: Fragment | None = None
        fragments: list[Fragment] = []
        items: list[int] = []
        notes: list[str] = []
        while True:
            if self._only_slack(at) or self._end - at < 8:
                self._may_end_here(fragments)
                notes.append("the delimiter behind the fragments of the pixel data added")
                break
            tag, _, length, value = self._reader.element(at, explicit=False)
            if tag == SEQUENCE_END:
                at = value
                break
            if tag != ITEM:
                if not fragments or tag >> 16 == 0xFFFE or tag <= 0x7FE00010:
                    raise MalformedDataSet("encapsulated pixel data with something else than fragments")
                self._may_end_here(fragments)
                notes.append("the delimiter behind the fragments of the pixel data added")
                break
            if length == UNDEFINED or value + length > self._end:
                raise MalformedDataSet("encapsulated pixel data that do not end: the file was cut off")
            if table_at is None:
                table_at = Fragment(value, length)
                at = first = value + length
                continue
            fragments.append(Fragment(value, length))
            items.append(at - first)
            at = value + length
            if length % 2 and not self._item_follows(at) and self._item_follows(at + 1):
                at += 1  # the pad byte is there, and not counted
        if table_at is None:
            raise MalformedDataSet("encapsulated pixel data without a single fragment")
        self._encapsulate(out, start, at, table_at, fragments, items, notes)
        return at

    def _item_follows(self, at: int) -> bool:
        return at + 8 <= self._end and self._reader.element(at, explicit=False)[0] in (ITEM, SEQUENCE_END)

    def _may_end_here(self, fragments: list[Fragment]) -> None:
        """Whether fragments without their delimiter are all there. Raises MalformedDataSet."""
        frames = self._frame_count()
        whole = bool(fragments) and (
            (len(fragments) == frames and self._syntax == RLE)
            or (len(fragments) >= frames and encapsulated.ends(self._data, fragments[-1]))
        )
        if not whole:
            raise MalformedDataSet("encapsulated pixel data that do not end: the file was cut off")

    def _encapsulate(
        self, out: _Pieces, start: int, end: int, table_at: Fragment, fragments: list[Fragment], items: list[int],
        notes: list[str],
    ) -> None:  # fmt: skip
        """Writes the pixel data anew where anything about them has to be mended."""
        raw = bytes(self._data[table_at.offset : table_at.offset + table_at.length])
        table = list(struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4]))
        frames = encapsulated.frames_of(self._data, fragments, table, items, self._frame_count()) if fragments else []
        rle = self._syntax == RLE
        odd = sum(f.length % 2 for f in fragments)
        if odd:
            notes.append(f"{odd} fragments of the pixel data padded to an even length")
        split = rle and frames is not None and any(len(frame) > 1 for frame in frames)
        if split:
            # A frame of RLE is one fragment (PS3.5 §A.4.2); a general writer cuts it like any other.
            notes.append("RLE frames in several fragments joined")
        begins = [] if frames is None else _begins(frames, fragments, items)
        wrong_table = bool(raw) and (bool(len(raw) % 4) or table != begins)
        if frames is None:
            if wrong_table and not self._has_extended_offsets:
                raise MalformedDataSet(
                    f"{len(fragments)} fragments and {self._frame_count()} frames, and its offset table does not tell "
                    "which fragment belongs to which frame"
                )
            if odd and raw:
                raise MalformedDataSet("fragments of odd length, and an offset table that cannot be written anew")
        elif wrong_table and not (odd or split):
            notes.append("the offset table of the pixel data corrected")
        unmarked = not raw and frames is not None and len(frames) > 1 and len(frames) != len(fragments) and not split
        if unmarked and not self._has_extended_offsets:
            notes.append("the offset table of the pixel data added")
        if not notes:
            out.keep(start, end)
            return
        if self._has_extended_offsets and (odd or split):
            raise MalformedDataSet("fragments that have to be written anew beside an Extended Offset Table")
        for note in notes:
            self._note(note)
        groups = frames if frames is not None else [fragments]
        lengths = [[sum(f.length for f in g)] if rle else [f.length for f in g] for g in groups]
        even = [[n + n % 2 for n in group] for group in lengths]
        written = encapsulated.offset_table(even) if (raw or unmarked) and not self._has_extended_offsets else b""
        out.keep(start, table_at.offset - 8)
        out.put(_item(len(written)) + written)
        for group, sizes in zip(groups, even, strict=True):
            for pieces, size in zip([group] if rle else [[f] for f in group], sizes, strict=True):
                out.put(_item(size))
                for fragment in pieces:
                    out.keep(fragment.offset, fragment.offset + fragment.length)
                out.put(b"\0" * (size - sum(f.length for f in pieces)))
        out.put(b"\xfe\xff\xdd\xe0\0\0\0\0")


def _slack_from(data: memoryview) -> int:
    """Where the padding at the end of *data* begins. No element begins with nothing but such bytes."""
    end = len(data)
    while end:
        start = max(end - 65536, 0)
        kept = len(bytes(data[start:end]).rstrip(SLACK))
        if kept:
            return start + kept
        end = start
    return 0


def _begins(frames: list[list[Fragment]], fragments: list[Fragment], items: list[int]) -> list[int]:
    """Where each frame's first item lies."""
    at, found = 0, []
    for frame in frames:
        found.append(items[at])
        at += len(frame)
    return found


def _item(length: int) -> bytes:
    return b"\xfe\xff\x00\xe0" + length.to_bytes(4, "little")


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@lru_cache(maxsize=4096)
def _dictionary_vr(tag: int) -> bytes:
    try:
        return dictionary_VR(tag)[:2].encode()
    except KeyError:
        return b"LO" if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"


def pieces(data: memoryview, mended: Mended, size: int = 1024 * 1024) -> Iterator[memoryview | bytes]:
    """The mended data set, a piece at a time."""
    for part in mended.parts:
        if isinstance(part, bytes):
            yield part
        else:
            for at in range(part[0], part[1], size):
                yield data[at : min(at + size, part[1])]
