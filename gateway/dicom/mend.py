"""Mends what is certain to be a slip of the writer in an encoded data set (PS3.5 §7, §8, §A.4).

Values of odd length, sequences without their delimiters, VRs that there are none of, bytes behind the data set: a PACS
answers some of these with an error, and others never. What can be put right without a guess is, and is told; for what
cannot, the error says what is wrong and where. Here is how elements, items and delimiters lie in each other; headers,
values and pixel data have files of their own (mend_headers.py, mend_values.py, mend_pixels.py).

The data set is walked from end to end and nothing is built, so this is fit for what comes from a stranger.
"""

from __future__ import annotations

import struct

from gateway.dicom.elements import (
    DEPTH_LIMIT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    ElementReader,
    MalformedDataSet,
)
from gateway.dicom.mend_headers import VRS, HeaderMender, dictionary_vr
from gateway.dicom.mend_pixels import GEOMETRY, PixelMender
from gateway.dicom.mend_values import ValueMender
from gateway.dicom.stretches import Mended, Pieces, tag_name
from gateway.dicom.structure import PIXEL_DATA
from gateway.dicom.syntaxes import EXPLICIT_BIG_ENDIAN, IMPLICIT

SLACK = b"\0\r\n \x1a\xff"
"""What writers and transports leave behind a file: padding, line ends, an end-of-file mark."""

_NOT_OF_A_DATA_SET = frozenset((0x0000, 0x0002))
"""Groups of the command set and of the file meta information."""

EXTENDED_OFFSET_TABLE = 0x7FE00001


def mend(data: memoryview, transfer_syntax_uid: str) -> Mended:
    """*data*, a whole encoded data set, mended where that is certain. Raises MalformedDataSet where it is not."""
    return _Mender(data, transfer_syntax_uid).all()


class _Mender:
    def __init__(self, data: memoryview, transfer_syntax_uid: str) -> None:
        self._data, self._end = data, len(data)
        self._explicit = transfer_syntax_uid not in IMPLICIT
        self._big = transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
        self._order = ">" if self._big else "<"
        self._reader = ElementReader(data, explicit=self._explicit, big=self._big)
        self._notes: dict[str, int] = {}
        self._slack_from = slack_from(data)
        self._pixels = PixelMender(data, transfer_syntax_uid, self._reader, self._slack_from, self._note)
        self._headers = HeaderMender(data, self._reader, big=self._big, note=self._note)
        self._values = ValueMender(data, self._headers, big=self._big, slack_from=self._slack_from, note=self._note)
        self._group_lengths: list[tuple[int, int, int]] = []
        """Of the data set itself: where each lies, and where it says that its group ends."""
        self._group_ends: dict[int, int] = {}

    def all(self) -> Mended:
        pieces, _ = self._elements(0, self._end, explicit=self._explicit, depth=0)
        stale = any(self._group_ends.get(at) != says for at, _, says in self._group_lengths)
        if self._group_lengths and (stale or self._notes):
            # PS3.5 §7.2: retired, and better absent than wrong.
            self._note("group lengths left out")
            pieces = pieces.without([(at, value_end) for at, value_end, _ in self._group_lengths])
        notes = tuple(note if times == 1 else f"{note} ({times} times)" for note, times in self._notes.items())
        return Mended(tuple(pieces.parts), pieces.length, notes)

    def _note(self, what: str) -> None:
        self._notes[what] = self._notes.get(what, 0) + 1

    # -- elements

    def _elements(
        self, at: int, end: int, *, explicit: bool, depth: int, delimited: bool = False
    ) -> tuple[Pieces, int]:
        """Elements to *end*, or to their delimiter, which is among them; and the offset after it."""
        if depth > DEPTH_LIMIT:
            raise MalformedDataSet("sequences nested too deep")
        out = Pieces()
        seen: dict[int, int] = {}
        sequence_end = -1  # of the sequence of defined length that was read last
        while at < end:
            if depth == 0 and at >= self._slack_from:
                self._note(f"{end - at} bytes behind the data set left out")
                self._group_goes_on(at, -1)
                return out, end
            start = at
            if at + 8 <= end and (tag := self._headers.tag(at)) >> 16 == 0xFFFE:
                if tag == ITEM_END and delimited:
                    self._delimiter(out, at, ITEM_END)
                    return out, at + 8
                if self._is_stray(tag, at, end, sequence_end, depth):
                    self._note("delimiters where none is due left out")
                    at += 8
                    continue
                if tag in (ITEM, SEQUENCE_END) and delimited:
                    self._add_delimiter(out, ITEM_END)
                    return out, at
                raise MalformedDataSet(f"an item delimiter where an element is due, at byte {at} of its data set")
            tag, vr, length, value = self._header_behind_pixels(at, end, explicit=explicit, depth=depth)
            if tag in seen and not (depth == 0 and tag in PIXEL_DATA):
                at = self._twice(tag, seen[tag], start, length, value)
                continue
            seen[tag] = start
            if depth == 0:
                self._group_goes_on(at, tag)
                if self._pixels.seen and 0x0002 < tag >> 16 < 0x7FE0:  # where a reader of the header does not look
                    raise MalformedDataSet(
                        f"element {tag_name(tag)} at byte {at} of its data set lies behind the pixel data"
                    )
                if tag >> 16 in _NOT_OF_A_DATA_SET and length != UNDEFINED:
                    self._note(f"element {tag_name(tag)}, which is of no data set, left out")
                    at = value + length
                    continue
                if not tag & 0xFFFF and length != UNDEFINED:
                    if self._headers.anew or length != 4:
                        self._note("group lengths left out")
                    else:
                        self._group_lengths.append((at, value + 4, value + 4 + self._headers.number(value, 4)))
                        out.keep(at, value + 4)
                    at = value + length
                    continue
            if depth == 0 and tag in PIXEL_DATA:
                if explicit and length % 2 and length != UNDEFINED:
                    length += self._values.has_uncounted_pad(tag, value + length, end)
                at = self._pixels.mend(out, at, tag, vr, length, value)
            elif length == UNDEFINED:
                at = self._undefined(out, at, end, tag, vr, value, explicit=explicit, depth=depth)
            elif vr == b"SQ" or (not explicit and dictionary_vr(tag) == b"SQ"):
                items, at = self._items(value, value + length, explicit=explicit, depth=depth + 1, of=tag)
                self._with_length(out, start, value, items, length)
                sequence_end = at
            else:
                if depth == 0:
                    self._remember(tag, value, length)
                at = self._values.mend(out, at, end, tag, vr, length, value, explicit=explicit)
        if delimited:
            # Where the whole file ends there, more may have followed.
            if end == self._end:
                raise MalformedDataSet("an item that does not end")
            self._add_delimiter(out, ITEM_END)
        if depth == 0:
            self._group_goes_on(at, -1)
        return out, at

    def _header_behind_pixels(self, at: int, end: int, *, explicit: bool, depth: int) -> tuple[int, bytes, int, int]:
        try:
            return self._headers.read(at, end, explicit=explicit)
        except MalformedDataSet as e:
            if depth or not self._pixels.seen:
                raise
            if bytes(self._data[at + 128 : at + 132]) == b"DICM":
                raise MalformedDataSet(f"a second file begins at byte {at} of its data set") from e
            raise MalformedDataSet(
                f"{end - at} bytes follow its pixel data, at byte {at} of its data set, and are no element ({e})"
            ) from e

    def _undefined(
        self, out: Pieces, at: int, end: int, tag: int, vr: bytes, value: int, *, explicit: bool, depth: int
    ) -> int:
        """A sequence of undefined length; the offset after it."""
        unknown = explicit and vr == b"UN"  # its items are in implicit VR (PS3.5 §6.2.2, Note 7)
        if unknown and self._has_explicit_items(value, end):
            self._note(f"the VR of element {tag_name(tag)} corrected from UN to SQ")
            out.put(struct.pack(self._order + "HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, UNDEFINED))
            unknown = False
        else:
            out.keep(at, value)
        items, after = self._items(
            value, end, explicit=explicit and not unknown, depth=depth + 1, of=tag, delimited=True
        )
        out.join(items)
        return after

    def _has_explicit_items(self, at: int, end: int) -> bool:
        """Whether the first element of the first item has a VR, and no length that would fit in its place."""
        return (
            at + 16 <= end
            and self._headers.tag(at) == ITEM
            and bytes(self._data[at + 12 : at + 14]) in VRS
            and at + 16 + self._headers.number(at + 12, 4) > end
        )

    def _items(
        self, at: int, end: int, *, explicit: bool, depth: int, of: int, delimited: bool = False
    ) -> tuple[Pieces, int]:
        """The items of the sequence *of*, its delimiter among them where it has one; and the offset after it."""
        out = Pieces()
        while at < end:
            tag = self._headers.tag(at) if at + 8 <= end else 0
            if tag == SEQUENCE_END and delimited:
                self._delimiter(out, at, SEQUENCE_END)
                return out, at + 8
            if tag == SEQUENCE_END and at + 8 == end and not self._headers.number(at + 4, 4):
                self._note("delimiters where none is due left out")
                at += 8
                continue
            if delimited and (tag == ITEM_END or (tag >> 16 != 0xFFFE and tag > of)):
                self._add_delimiter(out, SEQUENCE_END)  # nothing but items is in a sequence (PS3.5 §7.5)
                return out, at
            if tag != ITEM:
                raise MalformedDataSet(
                    f"the sequence {tag_name(of)} with something between its items, at byte {at} of its data set"
                )
            tag, _, length, value = self._headers.read(at, end, explicit=False)
            if length == UNDEFINED:
                elements, after = self._elements(value, end, explicit=explicit, depth=depth + 1, delimited=True)
                out.keep(at, value)
                out.join(elements)
                at = after
            else:
                elements, _ = self._elements(value, value + length, explicit=explicit, depth=depth + 1)
                self._with_length(out, at, value, elements, length)
                at = value + length
        if delimited:
            if end == self._end:
                raise MalformedDataSet(f"the sequence {tag_name(of)} does not end")
            self._add_delimiter(out, SEQUENCE_END)
        return out, at

    # -- delimiters

    def _is_stray(self, tag: int, at: int, end: int, sequence_end: int, depth: int) -> bool:
        """Whether a delimiter ends nothing: one behind an item or a sequence whose length says where it ends."""
        if self._headers.number(at + 4, 4):
            return False
        if tag == ITEM_END:
            return depth > 0 and at + 8 == end
        following = self._headers.tag(at + 8) >> 16 if at + 16 <= end else -1
        return tag == SEQUENCE_END and at == sequence_end and (at + 8 == end or following not in (-1, 0xFFFE))

    def _delimiter(self, out: Pieces, at: int, tag: int) -> None:
        if self._headers.number(at + 4, 4):
            self._note("delimiters with a length given none")
            out.put(self._written(tag))
        else:
            out.keep(at, at + 8)

    def _add_delimiter(self, out: Pieces, tag: int) -> None:
        self._note("delimiters of sequences and items added")
        out.put(self._written(tag))

    def _written(self, tag: int) -> bytes:
        return struct.pack(self._order + "HHI", tag >> 16, tag & 0xFFFF, 0)

    # -- values

    def _twice(self, tag: int, first: int, start: int, length: int, value: int) -> int:
        """The offset after an element that was there before: readers differ in which one counts (PS3.5 §7.1 has none
        twice)."""
        size = value + length - start
        if length == UNDEFINED or self._data[first : first + size] != self._data[start : start + size]:
            raise MalformedDataSet(
                f"element {tag_name(tag)} twice, with two values, at bytes {first} and {start} of its data set"
            )
        self._note(f"element {tag_name(tag)}, which is there twice, left out once")
        return value + length

    def _group_goes_on(self, at: int, tag: int) -> None:
        """An element of the data set itself is at *at*: remembers where the group before it ended."""
        if not self._group_lengths:
            return
        last = self._group_lengths[-1][0]
        if tag < 0 or tag >> 16 != self._headers.tag(last) >> 16:
            self._group_ends.setdefault(last, at)

    def _with_length(self, out: Pieces, at: int, value: int, content: Pieces, length: int) -> None:
        """A header whose last four bytes are the length of what follows."""
        if content.length == length:
            out.keep(at, value)
        else:
            out.keep(at, value - 4)
            out.put(struct.pack(self._order + "I", content.length))
        out.join(content)

    def _remember(self, tag: int, value: int, length: int) -> None:
        if tag in GEOMETRY and length <= 64:
            self._pixels.geometry[tag] = bytes(self._data[value : value + length])
        self._pixels.has_extended_offsets |= tag == EXTENDED_OFFSET_TABLE and length > 0


def slack_from(data: memoryview) -> int:
    """Where the padding at the end of *data* begins. No element begins with nothing but such bytes."""
    end = len(data)
    while end:
        start = max(end - 65536, 0)
        kept = len(bytes(data[start:end]).rstrip(SLACK))
        if kept:
            return start + kept
        end = start
    return 0
