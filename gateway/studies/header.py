"""The attributes of an arriving instance that the index keeps: identity, order, and pixel geometry.

Two ways: a quick one for all that it can read, and one that takes a closer look at the others. What the second cannot
tell either, the association does (:mod:`gateway.studies.attribution`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gateway.dicom import (
    MalformedDataSet,
    decimal,
    integer,
    is_uid,
    is_usable,
    read_elements,
    read_tolerantly,
    string,
    tags,
    text,
    unsigned_short,
)
from gateway.pacs import IncomingInstance
from gateway.studies.index import Instance

HEADER_LIMIT = 512 * 1024
"""Bytes of a data set that the quick way reads. All that is wanted has tags below (0028,1054), and nearly always
comes before anything large."""


_SHARED = (
    tags.SPECIFIC_CHARACTER_SET, tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.MODALITY, tags.SERIES_NUMBER,
    tags.SERIES_DESCRIPTION, tags.ROWS, tags.COLUMNS, tags.BITS_ALLOCATED, tags.BITS_STORED, tags.HIGH_BIT,
    tags.PIXEL_REPRESENTATION, tags.SAMPLES_PER_PIXEL, tags.PHOTOMETRIC_INTERPRETATION, tags.NUMBER_OF_FRAMES,
    tags.RESCALE_SLOPE, tags.RESCALE_INTERCEPT,
)  # fmt: skip
"""What the instances of a series mostly have in common."""

WANTED = frozenset(_SHARED) | {
    tags.SOP_INSTANCE_UID, tags.INSTANCE_NUMBER, tags.IMAGE_POSITION_PATIENT, tags.IMAGE_ORIENTATION_PATIENT,
}  # fmt: skip

_SHORTS = (
    tags.ROWS,
    tags.COLUMNS,
    tags.BITS_ALLOCATED,
    tags.BITS_STORED,
    tags.HIGH_BIT,
    tags.PIXEL_REPRESENTATION,
    tags.SAMPLES_PER_PIXEL,
)
_INTEGER_STRINGS = (tags.SERIES_NUMBER, tags.INSTANCE_NUMBER, tags.NUMBER_OF_FRAMES)
_BINARY = {b"US": 2, b"UL": 4, b"UV": 8, b"SS": 2, b"SL": 4, b"SV": 8}
"""Bytes of a number."""


def read_header(incoming: IncomingInstance) -> tuple[str, Instance]:
    """The Study Instance UID of an instance, and what the index keeps of it; its size is that of the data set.

    The quick way, for nearly all. The data set says which instance it is: that is what a PACS lists and a viewer
    reads, and some C-STORE requests of old images name another one. Raises MalformedDataSet where the data set cannot
    be parsed, lacks a UID, or has something in a form that takes a closer look.
    """
    body = incoming.body
    raw = read_elements(body.head(HEADER_LIMIT), incoming.transfer_syntax_uid, WANTED, size=body.size)
    for tag in _SHORTS:
        value = raw.get(tag)
        # Digits may be an Integer String in the place of a number.
        if value and (len(value) != 2 or value.strip(b" ").isdigit()):
            raise MalformedDataSet("a number in another value representation")
    study_instance_uid, instance = _read(incoming, raw)
    if not (study_instance_uid and instance.sop_instance_uid and instance.series_instance_uid):
        raise MalformedDataSet("a UID is absent or not valid")
    return study_instance_uid, instance


def read_header_tolerantly(incoming: IncomingInstance) -> tuple[str, Instance]:
    """As :func:`read_header`, of a data set that takes a closer look: UIDs that are not in it are empty.

    It may take seconds, and reads a large data set from the disk, so is not for the event loop. Never raises for what
    the data set holds.
    """
    raw = {}
    for tag, (vr, value) in read_tolerantly(incoming.body, incoming.transfer_syntax_uid, WANTED).items():
        if tag in _SHORTS:
            number = _number(vr, value)
            value = number.to_bytes(2, "little") if number is not None and 0 <= number < 1 << 16 else b""  # noqa: PLW2901
        elif tag in _INTEGER_STRINGS and vr in _BINARY:
            value = str(_number(vr, value)).encode()  # noqa: PLW2901
        raw[tag] = value
    return _read(incoming, raw)


def _number(vr: bytes, raw: bytes) -> int | None:
    """An integer, whichever value representation its writer took for it (PS3.5 §6.2 has one for each attribute)."""
    width = _BINARY.get(vr, 0)
    # Implicit, unknown or of words: its bytes tell whether it is digits.
    if vr in (b"", b"UN", b"OW", b"OB") and len(raw) in (2, 4) and not raw.strip(b" \0").isdigit():
        width = len(raw)
    if width:
        return int.from_bytes(raw[:width], "little") if len(raw) >= width else None
    return integer(raw.split(b"\\")[0])


def _read(incoming: IncomingInstance, raw: Mapping[int, bytes]) -> tuple[str, Instance]:
    """Whatever but the UIDs is absent or cannot be read is left out: it costs an entry in the manifest, never the
    instance."""
    study, series, modality, number, description, *pixels = _shared(tuple(map(raw.get, _SHARED)))
    return study, Instance(
        _uid(raw.get(tags.SOP_INSTANCE_UID)),
        series,
        incoming.sop_class_uid,
        incoming.transfer_syntax_uid,
        incoming.body.size,
        modality,
        number,
        description,
        integer(raw.get(tags.INSTANCE_NUMBER)),
        _position(raw.get(tags.IMAGE_POSITION_PATIENT), raw.get(tags.IMAGE_ORIENTATION_PATIENT)),
        *pixels,
    )


@lru_cache(maxsize=16)
def _shared(values: tuple[bytes | None, ...]) -> tuple[Any, ...]:
    """What the raw *values* of :data:`_SHARED` say. The instances of a series have them in common, and so each
    series's are read once; of few, since a hostile header is as large as may be."""
    raw = dict(zip(_SHARED, values, strict=True))
    return (
        _uid(raw[tags.STUDY_INSTANCE_UID]),
        _uid(raw[tags.SERIES_INSTANCE_UID]),
        string(raw[tags.MODALITY]),
        integer(raw[tags.SERIES_NUMBER]),
        _line(text(raw[tags.SERIES_DESCRIPTION] or b"", raw[tags.SPECIFIC_CHARACTER_SET] or b"")),
        unsigned_short(raw[tags.ROWS]),
        unsigned_short(raw[tags.COLUMNS]),
        unsigned_short(raw[tags.BITS_ALLOCATED]),
        unsigned_short(raw[tags.BITS_STORED]),
        unsigned_short(raw[tags.HIGH_BIT]),
        unsigned_short(raw[tags.PIXEL_REPRESENTATION]),
        unsigned_short(raw[tags.SAMPLES_PER_PIXEL]),
        string(raw[tags.PHOTOMETRIC_INTERPRETATION]),
        integer(raw[tags.NUMBER_OF_FRAMES]),
        decimal(raw[tags.RESCALE_SLOPE]),
        decimal(raw[tags.RESCALE_INTERCEPT]),
    )


def _line(value: str) -> str:
    """A text without control characters, which no LO has (PS3.5 §6.2), and some writers."""
    if not value.isprintable():
        value = "".join(letter if letter.isprintable() else " " for letter in value)
    return value.strip()


def _uid(raw: bytes | None) -> str:
    value = string(raw)
    return value if is_uid(value) or is_usable(value) else ""


def _position(image_position: bytes | None, image_orientation: bytes | None) -> float | None:
    """Distance of the slice along the normal of its plane, in mm (PS3.3 C.7.6.2.1.1)."""
    place = _decimals(image_position or b"", 3)
    normal = _normal(image_orientation or b"")
    if place is None or normal is None:
        return None
    return round(sum(n * x for n, x in zip(normal, place, strict=True)), 4)


@lru_cache(maxsize=256)
def _normal(image_orientation: bytes) -> tuple[float, float, float] | None:
    a = _decimals(image_orientation, 6)
    if a is None:
        return None
    return (a[1] * a[5] - a[2] * a[4], a[2] * a[3] - a[0] * a[5], a[0] * a[4] - a[1] * a[3])


def _decimals(raw: bytes, count: int) -> list[float] | None:
    try:
        values = [float(part.strip(b" \0")) for part in raw.split(b"\\")]
    except ValueError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None
