"""What all PDUs have in common, and P-DATA-TF as bytes (PS3.8 §9.3)."""

from __future__ import annotations

import struct

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

MAX_PDU = 256 * 1024
"""Bytes; the Maximum Length that we announce (PS3.8 D.1)."""

PDU_HEADER = struct.Struct(">BxI")
"""Type and length of a PDU."""

PDV_HEADER = struct.Struct(">IBB")
"""Length of a presentation data value, its context's ID, and its flags."""


class ServiceProvider:
    """Reasons of an A-ABORT by the service provider (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


def data_pdus(
    context_id: int, payload: bytes | memoryview, *, command: bool, last: bool, max_pdu: int
) -> list[bytes | memoryview]:
    """P-DATA-TF PDUs that carry *payload*, one presentation data value each (PS3.8 §9.3.5).

    *max_pdu* is the other side's Maximum Length; *last* says whether the message's command or data set
    ends with this payload.
    """
    view = memoryview(payload)
    room = max_pdu - 6
    pdus: list[bytes | memoryview] = []
    for at in range(0, len(view), room) or (0,):
        fragment = view[at : at + room]
        flags = (1 if command else 0) | (2 if last and at + room >= len(view) else 0)
        header = PDU_HEADER.pack(P_DATA_TF, len(fragment) + 6) + PDV_HEADER.pack(len(fragment) + 2, context_id, flags)
        pdus += (header, fragment)
    return pdus
