"""Part 10 files: the preamble and file meta information that turn a data set into a file (PS3.10 §7.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from gateway.dicom.elements import ElementReader, MalformedDataSet, string

IMPLEMENTATION_CLASS_UID = "2.25.316897963117625659941516579884566933723"
"""Identifies this software as a writer of files and a party to associations (PS3.7 D.3.3.2); a UUID-derived
UID (PS3.5 B.2) that stays the same for ever."""

IMPLEMENTATION_VERSION_NAME = "AVARA_GATEWAY_1"
"""16 characters at most (PS3.7 D.3.3.2.4)."""

_SHORT = struct.Struct("<HH2sH")


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(0x0002, element, vr, len(value)) + value


_VERSION = struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1"
_IMPLEMENTATION = _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()) + _element(
    0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()
)


@lru_cache(maxsize=256)
def _syntax(transfer_syntax_uid: str) -> bytes:
    return _element(0x0010, b"UI", transfer_syntax_uid.encode()) + _IMPLEMENTATION


def file_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta of an instance; its data set follows unaltered (PS3.10 Table 7.1-1).

    No Source Application Entity Title: the same instance is the same file, whichever PACS it comes from, so what comes
    once more, at times after a crash, changes nothing."""
    meta = (
        _VERSION
        + _element(0x0002, b"UI", sop_class_uid.encode())
        + _element(0x0003, b"UI", sop_instance_uid.encode())
        + _syntax(transfer_syntax_uid)
    )
    group_length = _SHORT.pack(0x0002, 0x0000, b"UL", 4) + len(meta).to_bytes(4, "little")
    return b"\0" * 128 + b"DICM" + group_length + meta


def header_length(start: bytes | memoryview) -> int:
    """Bytes of a header of :func:`file_header`'s, by the file's first 144: its meta information begins with its group
    length (PS3.10 §7.1)."""
    return 144 + int.from_bytes(start[140:144], "little")


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta information of a Part 10 file says."""

    sop_class_uid: str
    """Empty where it is absent, as the two others are."""
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_offset: int
    """Where in the file the data set begins."""


MAX_META = 64 * 1024
"""Bytes; a longer file meta information means no good."""

_META_UIDS = {0x00020002: "sop_class_uid", 0x00020003: "sop_instance_uid", 0x00020010: "transfer_syntax_uid"}


def read_file_meta(head: memoryview, *, needs_preamble: bool = True) -> FileMeta | None:
    """The file meta information of a file that begins with *head*; None where that ends before the data set does
    begin. Raises MalformedDataSet where it is no Part 10 file, of which some come without a preamble."""
    if len(head) < 132:
        return None
    start = 132
    if bytes(head[128:132]) != b"DICM":
        if needs_preamble or bytes(head[:4]) != b"\2\0\0\0":
            raise MalformedDataSet("DICM is missing at its 129th byte (PS3.10 §7.1)")
        start = 0
    reader = ElementReader(head, explicit=True, big=False)
    found = dict.fromkeys(_META_UIDS.values(), "")
    at = start
    while at - start < MAX_META:
        if at + 12 > len(head):
            return None
        if bytes(head[at : at + 2]) != b"\2\0":  # the data set, in an encoding of its own
            return FileMeta(**found, data_offset=at)
        tag, _, length, value = reader.element(at, explicit=True)
        if value + length > len(head):
            if value + length - start > MAX_META:
                break
            return None
        if tag in _META_UIDS:
            found[_META_UIDS[tag]] = string(bytes(head[value : value + length]))
        at = value + length
    raise MalformedDataSet("its file meta information is too long")
