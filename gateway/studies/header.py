"""The attributes of an arriving instance that the index keeps: identity, order, and pixel geometry."""

from __future__ import annotations

from functools import lru_cache

from gateway.dicom.elements import (
    MalformedDataSet,
    decimal,
    integer,
    read_elements,
    string,
    text,
    unsigned_short,
)
from gateway.dicom.uid import is_uid
from gateway.pacs.receiver import IncomingInstance
from gateway.studies.index import Instance

HEADER_LIMIT = 512 * 1024
"""Bytes of a data set that are read for its attributes. All of them have tags below (0028,1054) and
come, in tag order, before anything large; sequences before them are small."""

CHARACTER_SET = 0x00080005
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
SERIES_DESCRIPTION = 0x0008103E
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SERIES_NUMBER = 0x00200011
INSTANCE_NUMBER = 0x00200013
IMAGE_POSITION = 0x00200032
IMAGE_ORIENTATION = 0x00200037
SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
BITS_STORED = 0x00280101
HIGH_BIT = 0x00280102
PIXEL_REPRESENTATION = 0x00280103
RESCALE_INTERCEPT = 0x00281052
RESCALE_SLOPE = 0x00281053

WANTED = frozenset(
    (
        CHARACTER_SET, SOP_INSTANCE_UID, MODALITY, SERIES_DESCRIPTION, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID,
        SERIES_NUMBER, INSTANCE_NUMBER, IMAGE_POSITION, IMAGE_ORIENTATION, SAMPLES_PER_PIXEL,
        PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT,
        PIXEL_REPRESENTATION, RESCALE_INTERCEPT, RESCALE_SLOPE,
    )
)  # fmt: skip


def read_header(incoming: IncomingInstance) -> tuple[str, Instance]:
    """The Study Instance UID of an instance, and what the index keeps of it; its size is that of the data set.

    Only what identifies it has to be right. Whatever else is absent or cannot be read is left out: it
    costs an entry in the manifest, never the instance. The data set says which instance it is: that is what a
    PACS lists and a viewer reads, and some C-STORE requests of old images name another one. Raises
    MalformedDataSet where the data set cannot be parsed, lacks a UID, or has one that is none.
    """
    raw = read_elements(incoming.body.head(HEADER_LIMIT), incoming.transfer_syntax_uid, WANTED)

    def uid(tag: int, name: str) -> str:
        value = string(raw.get(tag))
        if not is_uid(value):
            raise MalformedDataSet(f"{name} is absent or not a UID")
        return value

    study_instance_uid = uid(STUDY_INSTANCE_UID, "Study Instance UID")
    charset = raw.get(CHARACTER_SET, b"")
    return study_instance_uid, Instance(
        sop_instance_uid=uid(SOP_INSTANCE_UID, "SOP Instance UID"),
        series_instance_uid=uid(SERIES_INSTANCE_UID, "Series Instance UID"),
        sop_class_uid=incoming.sop_class_uid,
        transfer_syntax_uid=incoming.transfer_syntax_uid,
        size=incoming.body.size,
        modality=string(raw.get(MODALITY)),
        series_number=integer(raw.get(SERIES_NUMBER)),
        series_description=text(raw.get(SERIES_DESCRIPTION, b""), charset).strip(),
        instance_number=integer(raw.get(INSTANCE_NUMBER)),
        position=_position(raw.get(IMAGE_POSITION), raw.get(IMAGE_ORIENTATION)),
        rows=unsigned_short(raw.get(ROWS)),
        columns=unsigned_short(raw.get(COLUMNS)),
        bits_allocated=unsigned_short(raw.get(BITS_ALLOCATED)),
        bits_stored=unsigned_short(raw.get(BITS_STORED)),
        high_bit=unsigned_short(raw.get(HIGH_BIT)),
        pixel_representation=unsigned_short(raw.get(PIXEL_REPRESENTATION)),
        samples_per_pixel=unsigned_short(raw.get(SAMPLES_PER_PIXEL)),
        photometric_interpretation=string(raw.get(PHOTOMETRIC_INTERPRETATION)),
        number_of_frames=integer(raw.get(NUMBER_OF_FRAMES)),
        rescale_slope=decimal(raw.get(RESCALE_SLOPE)),
        rescale_intercept=decimal(raw.get(RESCALE_INTERCEPT)),
    )


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
    values = [value for part in raw.split(b"\\") if (value := decimal(part)) is not None]
    return values if len(values) == count == raw.count(b"\\") + 1 else None
