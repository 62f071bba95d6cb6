"""Identifiers of queries: the data set that says what is asked for (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gateway.dicom import IMPLICIT_LITTLE_ENDIAN

QUERY_LEVEL = 0x00080052
_UIDS = frozenset((0x00080016, 0x00080018, 0x0020000D, 0x0020000E))
_VR = {
    0x00080012: b"DA", 0x00080013: b"TM", 0x00080016: b"UI", 0x00080018: b"UI", 0x00080020: b"DA",
    0x00080030: b"TM", 0x00080050: b"SH", 0x00080052: b"CS", 0x00080060: b"CS", 0x00080061: b"CS",
    0x00080090: b"PN", 0x00081030: b"LO", 0x0008103E: b"LO", 0x00100010: b"PN", 0x00100020: b"LO",
    0x00100021: b"LO", 0x00100030: b"DA", 0x00100040: b"CS", 0x0020000D: b"UI", 0x0020000E: b"UI",
    0x00200010: b"SH", 0x00200011: b"IS", 0x00200013: b"IS", 0x00201206: b"IS", 0x00201208: b"IS",
    0x00201209: b"IS", 0x00280008: b"IS",
}  # fmt: skip


def encode_identifier(level: str, keys: Mapping[int, str], transfer_syntax_uid: str) -> bytes:
    """The identifier of a query at *level* with *keys* (tag → value, empty where it is only to be returned)."""
    elements = {QUERY_LEVEL: level, **keys}
    parts = []
    for tag in sorted(elements):
        raw = elements[tag].encode("ascii")
        if len(raw) % 2:
            raw += b"\0" if tag in _UIDS else b" "
        if transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN:
            parts.append(struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw)))
        else:
            parts.append(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, _VR[tag], len(raw)))
        parts.append(raw)
    return b"".join(parts)
