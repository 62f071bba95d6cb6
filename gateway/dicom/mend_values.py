"""Mends what is certain to be a slip of the writer in a value that is no sequence and no pixels (PS3.5 §6.2, §7.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from gateway.dicom.elements import LONG_VRS, MalformedDataSet
from gateway.dicom.mend_headers import HeaderMender, dictionary_vr
from gateway.dicom.stretches import Pieces, tag_name

_WIDTHS = {
    b"AT": 4, b"FD": 8, b"FL": 4, b"OD": 8, b"OF": 4, b"OL": 4, b"OV": 8, b"SL": 4, b"SS": 2, b"SV": 8, b"UL": 4,
    b"US": 2, b"UV": 8,
}  # fmt: skip
"""Bytes of one value of a binary VR: one that is cut short cannot be made up."""

_NUL_PADDED = frozenset((b"OB", b"OW", b"UI", b"UN"))

_LONGEST_UIDS = 64 * 1024
"""Bytes of an element of UIDs that is looked into for blanks."""


class ValueMender:
    """Mends the values of one data set."""

    def __init__(
        self, data: memoryview, headers: HeaderMender, *, big: bool, slack_from: int, note: Callable[[str], None]
    ) -> None:
        """*slack_from* is where nothing but padding follows; *note* records what was mended."""
        self._data = data
        self._headers = headers
        self._order = ">" if big else "<"
        self._slack_from = slack_from
        self._note = note

    def mend(
        self, out: Pieces, at: int, end: int, tag: int, vr: bytes, length: int, value: int, *, explicit: bool
    ) -> int:
        """Adds the mended element at *at* to *out*; the offset after it. Raises MalformedDataSet."""
        kind, anew = vr if explicit else dictionary_vr(tag), self._headers.anew
        if explicit and length % 2 and self.has_uncounted_pad(tag, value + length, end):
            length, anew = length + 1, True
        if kind == b"UI" and length <= _LONGEST_UIDS:
            raw = bytes(self._data[value : value + length])
            uids = b"\\".join(uid.strip(b" \0\t\r\n") for uid in raw.split(b"\\"))
            if raw not in (uids, uids + b"\0" * (len(uids) % 2)):
                # PS3.5 §9.1: digits and dots, padded with one NUL where its length is odd.
                self._note(f"the UID {tag_name(tag)} freed of what surrounds it")
                self._header(out, at, tag, vr, len(uids) + len(uids) % 2, value, explicit=explicit, anew=anew)
                out.put(uids + b"\0" * (len(uids) % 2))
                return value + length
        if length % 2 and kind in _WIDTHS:
            raise MalformedDataSet(
                f"element {tag_name(tag)} at byte {at} of its data set has {length} bytes, which is not a whole number "
                f"of values of its VR {kind.decode()}"
            )
        if not (length % 2 or anew):
            out.keep(at, value + length)
            return value + length
        if explicit and vr not in LONG_VRS and length == 0xFFFF:
            raise MalformedDataSet(f"element {tag_name(tag)} has {length} bytes, and there is no room for one more")
        if length % 2:
            self._note(f"element {tag_name(tag)} padded to an even length")
        self._header(out, at, tag, vr, length + length % 2, value, explicit=explicit, anew=anew)
        out.keep(value, value + length)
        if length % 2:
            out.put(b"\0" if kind in _NUL_PADDED else b" ")
        return value + length

    def has_uncounted_pad(self, tag: int, at: int, end: int) -> bool:
        """Whether the pad byte of a value of odd length is there, and its length leaves it out."""
        if at >= end or at >= self._slack_from or bytes(self._data[at : at + 1]) not in (b"\0", b" "):
            return False
        found = self._headers.is_element(at + 1, end, after=tag) and not self._headers.is_element(at, end, after=tag)
        if found:
            self._note(f"the pad byte of element {tag_name(tag)} counted")
        return found

    def _header(
        self, out: Pieces, at: int, tag: int, vr: bytes, length: int, value: int, *, explicit: bool, anew: bool
    ) -> None:
        long = not explicit or vr in LONG_VRS
        if not anew:
            out.keep(at, value - (4 if long else 2))
            out.put(struct.pack(self._order + ("I" if long else "H"), length))
        elif long:
            out.put(struct.pack(self._order + "HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length))
        elif length > 0xFFFF:
            raise MalformedDataSet(f"element {tag_name(tag)} has {length} bytes, more than its VR {vr.decode()} allows")
        else:
            out.put(struct.pack(self._order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, length))
