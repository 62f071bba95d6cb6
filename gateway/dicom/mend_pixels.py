"""Mends what is certain to be a slip of the writer in pixel data (PS3.5 §8, §A.2, §A.4); told where it is not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

from gateway.dicom import encapsulated
from gateway.dicom.elements import ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, ElementReader, MalformedDataSet
from gateway.dicom.encapsulated import Fragment
from gateway.dicom.stretches import Pieces, tag_name
from gateway.dicom.syntaxes import EXPLICIT_BIG_ENDIAN, IMPLICIT, RLE, VIDEO

PIXELS = 0x7FE00010

SURPLUS = 2
"""Bytes of zeros that native pixel data may have too many: a writer's idea of padding."""

_ROWS, _COLUMNS, _BITS, _SAMPLES, _FRAMES = 0x00280010, 0x00280011, 0x00280100, 0x00280002, 0x00280008
_PHOTOMETRIC = 0x00280004
GEOMETRY = frozenset((_ROWS, _COLUMNS, _BITS, _SAMPLES, _FRAMES, _PHOTOMETRIC))

_FRAMES_TOGETHER = VIDEO | {f"1.2.840.10008.1.2.4.{n}" for n in (92, 93, 94, 95, 204, 205)}
"""Transfer syntaxes in which a code stream may hold several frames, or none at all: video, JPEG 2000 of several
components, JPIP."""

_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


class PixelMender:
    """Mends the one pixel data element of a data set."""

    def __init__(
        self,
        data: memoryview,
        transfer_syntax_uid: str,
        reader: ElementReader,
        slack_from: int,
        note: Callable[[str], None],
    ) -> None:
        """*slack_from* is where nothing but padding follows; *note* records what was mended."""
        self._data, self._end = data, len(data)
        self._syntax = transfer_syntax_uid
        self._explicit = transfer_syntax_uid not in IMPLICIT
        self._big = transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
        self._reader = reader
        self._slack_from = slack_from
        self._note = note
        self.geometry: dict[int, bytes] = {}
        """The attributes that describe the pixels, by tag."""
        self.has_extended_offsets = False
        self.seen = False

    def mend(self, out: Pieces, at: int, tag: int, vr: bytes, length: int, value: int) -> int:
        """Adds the mended element at *at* to *out*; the offset after it. Raises MalformedDataSet."""
        if self.seen:
            raise MalformedDataSet(f"pixel data twice, the second at byte {at} of its data set")
        self.seen = True
        if length == UNDEFINED:
            return self._fragments(out, at, value, wrong_vr=self._explicit and tag == PIXELS and vr != b"OB")
        right = self._native_vr(tag, vr)
        if right != vr:
            self._note(f"the VR of element {tag_name(tag)} corrected from {vr.decode()} to {right.decode()}")
        surplus = self._surplus(tag, length, value)
        if surplus:
            self._note(f"{surplus} bytes too many behind the pixels left out")
        kept = length - surplus
        if kept % 2:
            self._note(f"element {tag_name(tag)} padded to an even length")
        order = ">" if self._big else "<"
        written = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        written += struct.pack("2sH", right, 0) if self._explicit else b""
        written += struct.pack(order + "I", kept + kept % 2)
        if written == bytes(self._data[at:value]):
            out.keep(at, value)
        else:
            out.put(written)
        out.keep(value, value + kept)
        out.put(b"\0" * (kept % 2))
        return value + length

    def _native_vr(self, tag: int, vr: bytes) -> bytes:
        """That of native pixel data (PS3.5 §A.2). Raises MalformedDataSet."""
        bits = self._number(_BITS)
        if not self._explicit or tag != PIXELS or (vr in (b"OB", b"OW") and (bits is None or bits <= 8 or vr == b"OW")):
            return vr
        if self._big:  # the VR says which bytes are the other way round
            raise MalformedDataSet(f"pixel data of VR {vr.decode()} in big endian, with {bits} bits allocated")
        return b"OW" if bits is None or bits > 8 else b"OB"

    def _surplus(self, tag: int, length: int, value: int) -> int:
        """Bytes of zeros that native pixel data have more than their attributes demand, where these are few."""
        expected = self._expected_length()
        if tag != PIXELS or expected is None:
            return 0
        padded = expected + expected % 2
        surplus = length - padded
        if not 0 < surplus <= SURPLUS or bytes(self._data[value + padded : value + length]).strip(b"\0"):
            return 0
        return surplus

    def _number(self, tag: int) -> int | None:
        raw = self.geometry.get(tag, b"")
        return int.from_bytes(raw, "big" if self._big else "little") if len(raw) in (2, 4) else None

    def _frame_count(self) -> int:
        text = self.geometry.get(_FRAMES, b"").strip(b" \0")
        return int(text) if text.isdigit() and len(text) < 10 else 1

    def _expected_length(self) -> int | None:
        numbers = [self._number(tag) for tag in (_ROWS, _COLUMNS, _BITS, _SAMPLES)]
        if not all(numbers):
            return None
        rows, columns, bits, samples = (n or 0 for n in numbers)
        if self.geometry.get(_PHOTOMETRIC, b"").strip(b" \0") in (b"YBR_FULL_422", b"YBR_PARTIAL_422"):
            samples = 2
        return (rows * columns * bits * samples * self._frame_count() + 7) // 8

    def _fragments(self, out: Pieces, start: int, at: int, *, wrong_vr: bool) -> int:
        """Encapsulated pixel data, whose first item is at *at*; the offset after them."""
        first = items_from = at
        table_at: Fragment | None = None
        fragments: list[Fragment] = []
        items: list[int] = []
        notes = [f"the VR of element {tag_name(PIXELS)} corrected to OB"] if wrong_vr else []
        while True:
            if at >= self._slack_from or self._end - at < 8:
                self._may_end_here(fragments)
                notes.append("the delimiter behind the fragments of the pixel data added")
                if _DELIMITER.startswith(bytes(self._data[at:])):
                    at = self._end
                break
            tag, _, length, value = self._reader.element(at, explicit=False)
            if tag == SEQUENCE_END:
                at = value
                if length:
                    notes.append("the delimiter behind the fragments of the pixel data given no length")
                break
            if tag == ITEM_END and not length:
                self._may_end_here(fragments)
                notes.append("the delimiter behind the fragments of the pixel data made that of a sequence")
                at = value
                if self._item_follows(at) and self._reader.element(at, explicit=False)[0] == SEQUENCE_END:
                    at += 8
                break
            if tag != ITEM:
                if not fragments or tag >> 16 == 0xFFFE or tag <= PIXELS:
                    raise MalformedDataSet("encapsulated pixel data with something other than fragments")
                self._may_end_here(fragments)
                notes.append("the delimiter behind the fragments of the pixel data added")
                break
            if length == UNDEFINED or value + length > self._end:
                raise MalformedDataSet("encapsulated pixel data that do not end: the file was cut off")
            if table_at is None:
                if not self._begins_frame(value, length):
                    table_at = Fragment(value, length)
                    at = first = value + length
                    continue
                # An offset table is empty or begins with a zero (PS3.5 §A.4).
                notes.append("the offset table item of the pixel data added")
                table_at, first = Fragment(value, 0), at
            fragments.append(Fragment(value, length))
            items.append(at - first)
            at = value + length
            if length % 2 and not self._item_follows(at) and self._item_follows(at + 1):
                at += 1  # the pad byte is there, and not counted
        if table_at is None:
            raise MalformedDataSet("encapsulated pixel data without a single fragment")
        header = Pieces()
        if wrong_vr:
            header.put(struct.pack("<HH2sHI", PIXELS >> 16, PIXELS & 0xFFFF, b"OB", 0, UNDEFINED))
        else:
            header.keep(start, items_from)
        self._encapsulate(out, start, at, header, table_at, fragments, items, notes)
        return at

    def _begins_frame(self, value: int, length: int) -> bool:
        """Whether the item that is to be the offset table holds pixels."""
        start = bytes(self._data[value : value + min(length, 64)])
        if self._syntax == RLE:  # its header has 16 numbers: how many segments, and where each begins (PS3.5 §G.5)
            return len(start) == 64 and 1 <= start[0] <= 15 and start[1:8] == b"\0\0\0\x40\0\0\0"
        return encapsulated.begins(start)

    def _check_frames(self, fragments: list[Fragment], frames: list[list[Fragment]] | None) -> None:
        """Whether there is a frame of pixels for each that there is to be. Raises MalformedDataSet."""
        if self._syntax in _FRAMES_TOGETHER or not fragments:
            return
        count = self._frame_count()
        filled = sum(1 for f in fragments if f.length)
        if 0 < filled < count:
            raise MalformedDataSet(f"its pixel data have {filled} fragments where Number of Frames says {count}")
        for number, frame in enumerate(frames or [], 1):
            if count > 1 and not any(f.length for f in frame):
                raise MalformedDataSet(f"frame {number} of its pixel data is empty")
            for before, f in pairwise(frame):
                start = bytes(self._data[f.offset : f.offset + min(f.length, 64)])
                if encapsulated.begins(start) and encapsulated.ends(self._data, before):
                    raise MalformedDataSet(
                        f"its pixel data have more code streams than Number of Frames says, {count}: another begins "
                        f"at byte {f.offset} of its data set"
                    )

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
        self, out: Pieces, start: int, end: int, header: Pieces, table_at: Fragment, fragments: list[Fragment],
        items: list[int], notes: list[str],
    ) -> None:  # fmt: skip
        """Writes the pixel data anew, behind *header*, where anything about them has to be mended."""
        raw = bytes(self._data[table_at.offset : table_at.offset + table_at.length])
        table = list(struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4]))
        frames = encapsulated.frames_of(self._data, fragments, table, items, self._frame_count()) if fragments else []
        self._check_frames(fragments, frames)
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
            if wrong_table and not self.has_extended_offsets:
                raise MalformedDataSet(
                    f"{len(fragments)} fragments and {self._frame_count()} frames, and its offset table does not tell "
                    "which fragment belongs to which frame"
                )
            if odd and raw:
                raise MalformedDataSet("fragments of odd length, and an offset table that cannot be written anew")
        elif wrong_table and not (odd or split):
            notes.append("the offset table of the pixel data corrected")
        unmarked = not raw and frames is not None and len(frames) > 1 and len(frames) != len(fragments) and not split
        if unmarked and not self.has_extended_offsets:
            notes.append("the offset table of the pixel data added")
        if not notes:
            out.keep(start, end)
            return
        if self.has_extended_offsets and (odd or split):
            raise MalformedDataSet("fragments that have to be written anew beside an Extended Offset Table")
        for note in notes:
            self._note(note)
        groups = frames if frames is not None else [fragments]
        lengths = [[sum(f.length for f in g)] if rle else [f.length for f in g] for g in groups]
        even = [[n + n % 2 for n in group] for group in lengths]
        written = encapsulated.offset_table(even) if (raw or unmarked) and not self.has_extended_offsets else b""
        out.join(header)
        out.put(_item(len(written)) + written)
        for group, sizes in zip(groups, even, strict=True):
            for pieces, size in zip([group] if rle else [[f] for f in group], sizes, strict=True):
                out.put(_item(size))
                for fragment in pieces:
                    out.keep(fragment.offset, fragment.offset + fragment.length)
                out.put(b"\0" * (size - sum(f.length for f in pieces)))
        out.put(_DELIMITER)


def _begins(frames: list[list[Fragment]], fragments: list[Fragment], items: list[int]) -> list[int]:
    """Where each frame's first item lies."""
    at, found = 0, []
    for frame in frames:
        found.append(items[at])
        at += len(frame)
    return found


def _item(length: int) -> bytes:
    return b"\xfe\xff\x00\xe0" + length.to_bytes(4, "little")
