"""What is around the data set of an uploaded file: preamble, prefix and file meta information, or what stands in their
place (PS3.10 §7.1).

Writers leave out the preamble, the prefix, the whole of the file meta information, or its transfer syntax. Where the
data set itself says how it is encoded, that is enough.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gateway.dicom import (
    COMMONEST_FIRST,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    ElementReader,
    MalformedDataSet,
    read_structure,
    string,
    syntax_of_code_stream,
)

PREFIX = b"DICM"

MAX_META = 64 * 1024
"""Bytes of the file meta information."""

KNOWN_SYNTAXES = frozenset(COMMONEST_FIRST)


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
    if view[128:132] == PREFIX:
        start = 132
    elif view[0:4] == PREFIX:
        start = 4
        notes.append("the preamble added")
    elif bytes(view[0:2]) == b"\2\0" or _begins_data_set(view):
        start = 0
        notes.append("preamble and prefix added")
    else:
        raise Unacceptable("it is no DICOM file: DICM is missing at its 129th byte (PS3.10 §7.1)")
    data_offset, syntax = _read_meta(view, start)
    if data_offset == start:
        notes.append("the file meta information added")
    if not syntax:
        syntax = _syntax_of(view[data_offset:])
        notes.append(f"the transfer syntax added, {syntax} by its data set")
    elif syntax not in KNOWN_SYNTAXES:  # a private one cannot be looked into
        raise Unacceptable("its file meta information names no transfer syntax that is known")
    return Envelope(data_offset, syntax, tuple(notes))


def _read_meta(view: memoryview, start: int) -> tuple[int, str]:
    """Where the data set begins, and its transfer syntax; empty where none is named."""
    reader = ElementReader(view[start : start + MAX_META], explicit=True, big=False)
    at, end, syntax = 0, min(len(view) - start, MAX_META), ""
    while at + 8 <= end:
        if struct.unpack_from("<H", view, start + at)[0] != 0x0002:
            break
        tag, _, length, value = reader.element(at, explicit=True)
        if value + length > end:
            raise MalformedDataSet("its file meta information is longer than the file, or than any is")
        if tag == 0x00020010:
            syntax = string(bytes(view[start + value : start + value + length]))
        at = value + length
    return start + at, syntax


def _begins_data_set(view: memoryview) -> bool:
    """Whether a file begins with a data set: an element of the first group that any has (PS3.6)."""
    return bytes(view[0:2]) in (b"\x08\0", b"\0\x08") and view[2] + view[3] != 0


def _syntax_of(data: memoryview) -> str:
    """The transfer syntax that a data set shows itself to be in. Raises Unacceptable, MalformedDataSet."""
    if len(data) < 8:
        raise Unacceptable("its file meta information names no transfer syntax, and there is no data set")
    big = bytes(data[0:1]) == b"\0"
    explicit = bytes(data[4:6]).isalpha() and bytes(data[4:6]).isupper()
    if big and not explicit:
        raise Unacceptable("its file meta information names no transfer syntax that is known")
    plain = EXPLICIT_BIG_ENDIAN if big else EXPLICIT_LITTLE_ENDIAN if explicit else IMPLICIT_LITTLE_ENDIAN
    structure = read_structure(data, plain)
    pixels = structure.pixel_data
    if pixels is None or pixels.fragments is None:
        return plain
    found = ""
    if explicit and not big and pixels.fragments:
        tag_at = pixels.offset + 12
        table = int.from_bytes(data[tag_at + 4 : tag_at + 8], "little")
        first = tag_at + 8 + table + 8
        found = syntax_of_code_stream(bytes(data[first : first + 64 * 1024]))
    if not found:
        raise Unacceptable(
            "its file meta information names no transfer syntax, and its pixel data are compressed, which does not "
            "say how: have it uploaded again with one"
        )
    return found
