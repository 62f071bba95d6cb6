"""What is around the data set of an uploaded file: preamble, prefix and file meta information, or what stands in their
place (PS3.10 §7.1).

Writers leave out the preamble, the prefix, the whole of the file meta information, or its transfer syntax, or name
another one than they wrote. Where the data set itself says how it is encoded, that is enough.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pydicom import uid

from gateway.dicom import (
    COMMONEST_FIRST,
    DEFLATED_EXPLICIT_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    UNCOMPRESSED,
    ElementReader,
    MalformedDataSet,
    PixelData,
    inflated,
    read_structure,
    slack_from,
    string,
    syntax_of_code_stream,
)

PREFIX = b"DICM"

MAX_META = 64 * 1024
"""Bytes of the file meta information."""

MAX_PREAMBLE = 1024
"""Bytes before the prefix among which it is looked for."""

IMPLICIT_META = "the file meta information, which was in implicit VR, written anew"

KNOWN_SYNTAXES = frozenset(COMMONEST_FIRST)

_SAME_STREAM = {
    str(uid.JPEGBaseline8Bit): (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
    str(uid.JPEGLossless): (uid.JPEGLossless, uid.JPEGLosslessSV1),
    str(uid.JPEGLSNearLossless): (uid.JPEGLSNearLossless, uid.JPEGLSLossless),
    str(uid.JPEG2000): (uid.JPEG2000, uid.JPEG2000Lossless, uid.JPEG2000MC, uid.JPEG2000MCLossless),
    str(uid.HTJ2K): (uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL),
}
"""The transfer syntaxes that a code stream may as well be in as in the one that it is certain to be in."""


class Unacceptable(Exception):
    """An upload that is not to be stored. The text says why, in words for an operator and without patient data."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where in a file its data set begins, and how it is encoded."""

    data_offset: int
    transfer_syntax_uid: str
    notes: tuple[str, ...] = ()
    """What was wrong and is put right by a new envelope."""


def open_envelope(view: memoryview) -> Envelope:
    """The envelope of a file. Raises Unacceptable, MalformedDataSet."""
    notes: list[str] = []
    start = _meta_offset(view, notes)
    data_offset, syntax = _read_meta(view, start, notes)
    if data_offset == start:
        notes.append("the file meta information added")
    if view[data_offset + 128 : data_offset + 132] == PREFIX:
        notes.append("the preamble and file meta information around another one left out")
        data_offset, inner = _read_meta(view, data_offset + 132, notes)
        syntax = inner or syntax
    data = view[data_offset:]
    if not syntax:
        syntax = _syntax_of(data, "its file meta information names no transfer syntax")
        notes.append(f"the transfer syntax added, {syntax} by its data set")
    elif syntax not in KNOWN_SYNTAXES:  # a private one cannot be looked into
        raise Unacceptable("its file meta information names no transfer syntax that is known")
    elif (shown := _shown(data, syntax)) != syntax:
        notes.append(f"the transfer syntax corrected from {syntax} to {shown} by its data set")
        syntax = shown
    return Envelope(data_offset, syntax, tuple(notes))


def _meta_offset(view: memoryview, notes: list[str]) -> int:
    """Where the file meta information begins, or what stands in its place. Raises Unacceptable."""
    if view[128:132] == PREFIX:
        return 132
    if view[0:4] == PREFIX:
        notes.append("the preamble added")
        return 4
    if bytes(view[0:2]) == b"\2\0" or _begins_data_set(view):
        notes.append("preamble and prefix added")
        return 0
    if bytes(view[128:132]) == b"\2\0\0\0" and not any(view[0:128]):
        notes.append("the prefix added")
        return 128
    found = bytes(view[:MAX_PREAMBLE]).find(PREFIX + b"\2\0")
    if found > 0:
        notes.append(f"a preamble of {found} bytes made one of 128")
        return found + 4
    raise Unacceptable("it is no DICOM file: DICM is missing at its 129th byte (PS3.10 §7.1)")


def _read_meta(view: memoryview, start: int, notes: list[str]) -> tuple[int, str]:
    """Where the data set begins, and its transfer syntax; empty where none is named."""
    reader = ElementReader(view[start : start + MAX_META], explicit=True, big=False)
    at, end, syntax = 0, min(len(view) - start, MAX_META), ""
    while at + 8 <= end:
        if struct.unpack_from("<H", view, start + at)[0] != 0x0002:
            break
        explicit = bytes(view[start + at + 4 : start + at + 6]).isalpha()
        if not explicit and IMPLICIT_META not in notes:
            notes.append(IMPLICIT_META)
        tag, _, length, value = reader.element(at, explicit=explicit)
        if value + length > end:
            raise MalformedDataSet("its file meta information is longer than the file, or than any is")
        if tag == 0x00020010:
            syntax = string(bytes(view[start + value : start + value + length]))
        at = value + length
    return start + at, syntax


def _begins_data_set(view: memoryview) -> bool:
    """Whether a file begins with a data set: an element of the first group that any has (PS3.6)."""
    return bytes(view[0:2]) in (b"\x08\0", b"\0\x08") and view[2] + view[3] != 0


def _encoding_of(data: memoryview) -> str:
    """How a data set that begins like one is encoded, its pixel data apart; empty where it does not, or contradicts
    itself."""
    if len(data) < 8 or not (_begins_data_set(data) or bytes(data[0:2]) == b"\0\2"):  # meta in big endian, too
        return ""
    big = bytes(data[0:1]) == b"\0"
    explicit = bytes(data[4:6]).isalpha() and bytes(data[4:6]).isupper()
    if big:
        return EXPLICIT_BIG_ENDIAN if explicit else ""
    return EXPLICIT_LITTLE_ENDIAN if explicit else IMPLICIT_LITTLE_ENDIAN


def _shown(data: memoryview, syntax: str) -> str:
    """The transfer syntax *syntax*, or the one that the data set shows itself to be in. Raises Unacceptable,
    MalformedDataSet."""
    encoding = _encoding_of(data)
    if syntax == DEFLATED_EXPLICIT_LITTLE_ENDIAN:
        return _syntax_of(data, f"it is not deflated, as its transfer syntax {syntax} has it") if encoding else syntax
    if not encoding:
        return DEFLATED_EXPLICIT_LITTLE_ENDIAN if _is_deflated(data) else syntax
    named = syntax if syntax in UNCOMPRESSED else EXPLICIT_LITTLE_ENDIAN
    if encoding != named:
        return _syntax_of(data, f"its data set is not encoded as its transfer syntax {syntax} has it")
    if encoding != EXPLICIT_LITTLE_ENDIAN:
        return syntax
    try:
        pixels = read_structure(data, encoding, slack_from(data)).pixel_data
    except MalformedDataSet:  # what is wrong is told, or mended, where it is looked into
        return syntax
    if pixels is None:
        return syntax
    if pixels.fragments is None:
        return encoding
    found = _code_stream(data, pixels)
    return syntax if not found or syntax in _SAME_STREAM.get(found, (found,)) else found


def _is_deflated(data: memoryview) -> bool:
    try:
        return _begins_data_set(memoryview(inflated(data[:4096], 64)))
    except MalformedDataSet:
        return False


def _code_stream(data: memoryview, pixels: PixelData) -> str:
    """The transfer syntax that the first fragment is certain to be in; empty where none is."""
    if not pixels.fragments:
        return ""
    table_at = pixels.offset + 12
    table = int.from_bytes(data[table_at + 4 : table_at + 8], "little")
    first = table_at + 8 + table + 8
    return syntax_of_code_stream(bytes(data[first : first + 64 * 1024]))


def _syntax_of(data: memoryview, why: str) -> str:
    """The transfer syntax that a data set shows itself to be in. Raises Unacceptable, which begins with *why* it is
    looked at, and MalformedDataSet."""
    if len(data) < 8:
        raise Unacceptable(f"{why}, and there is no data set")
    plain = _encoding_of(data)
    if not plain:
        raise Unacceptable(f"{why}, and its data set does not say how it is encoded")
    pixels = read_structure(data, plain, slack_from(data)).pixel_data
    if pixels is None or pixels.fragments is None:
        return plain
    found = _code_stream(data, pixels) if plain == EXPLICIT_LITTLE_ENDIAN else ""
    if not found:
        raise Unacceptable(
            f"{why}, and its pixel data are compressed, which does not say how: have it uploaded again with the right "
            "transfer syntax"
        )
    return found
