"""Identifiers of queries: the data set that says what is asked for (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gateway.dicom import IMPLICIT_LITTLE_ENDIAN, tags

_VR = {
    tag: vr
    for vr, of in {
        b"DA": (tags.INSTANCE_CREATION_DATE, tags.STUDY_DATE, tags.PATIENT_BIRTH_DATE),
        b"TM": (tags.INSTANCE_CREATION_TIME, tags.STUDY_TIME),
        b"UI": (tags.SOP_CLASS_UID, tags.SOP_INSTANCE_UID, tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID),
        b"SH": (tags.ACCESSION_NUMBER, tags.STATION_NAME, tags.STUDY_ID),
        b"CS": (tags.QUERY_RETRIEVE_LEVEL, tags.INSTANCE_AVAILABILITY, tags.MODALITY, tags.MODALITIES_IN_STUDY,
            tags.PATIENT_SEX, tags.BODY_PART_EXAMINED, tags.STUDY_STATUS_ID, tags.VERIFICATION_FLAG,
            tags.SOP_INSTANCE_STATUS, tags.PHOTOMETRIC_INTERPRETATION),
        b"LO": (tags.INSTITUTION_NAME, tags.STUDY_DESCRIPTION, tags.SERIES_DESCRIPTION, tags.PATIENT_ID,
            tags.ISSUER_OF_PATIENT_ID),
        b"US": (tags.ROWS, tags.COLUMNS, tags.BITS_ALLOCATED, tags.BITS_STORED, tags.HIGH_BIT,
            tags.PIXEL_REPRESENTATION, tags.SAMPLES_PER_PIXEL),
        b"PN": (tags.REFERRING_PHYSICIAN_NAME, tags.PATIENT_NAME),
        b"IS": (tags.SERIES_NUMBER, tags.INSTANCE_NUMBER, tags.NUMBER_OF_STUDY_RELATED_SERIES,
            tags.NUMBER_OF_STUDY_RELATED_INSTANCES, tags.NUMBER_OF_SERIES_RELATED_INSTANCES, tags.NUMBER_OF_FRAMES),
    }.items()
    for tag in of
}  # fmt: skip
"""Of what is asked for, since every element says its own where the encoding is explicit (PS3.5 7.1.2)."""
_UIDS = frozenset(tag for tag, vr in _VR.items() if vr == b"UI")


def encode_identifier(level: str, keys: Mapping[int, str], transfer_syntax_uid: str) -> bytes:
    """The identifier of a query at *level* with *keys* (tag → value, empty where it is only to be returned)."""
    elements = {tags.QUERY_RETRIEVE_LEVEL: level, **keys}
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
