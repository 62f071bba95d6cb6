"""What a PACS answers queries with: studies, instances, lists of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from gateway.dicom import integer, string, tags, text


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """What a PACS says of a study (PS3.4 C.6.2.1.2). Texts are empty where it does not say."""

    study_instance_uid: str
    instances: int | None
    """Number of Study Related Instances; None where the PACS leaves it out (field note 3)."""
    series: int | None
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    issuer_of_patient_id: str
    accession_number: str
    study_id: str
    study_date: str
    study_time: str
    study_description: str
    referring_physician: str
    modalities: str = ""
    """Modalities in Study (0008,0061), in order, with backslashes between."""
    availability: str = ""
    """Instance Availability (PS3.3 C.4.23.1.1): ``NEARLINE`` is what the PACS has to bring from elsewhere first."""
    disputed: bool = False
    """Whether the PACS has it under several patients' IDs, so that nobody can tell whose it is."""
    specific_character_set: str = ""
    """In which it said so (PS3.3 C.12.1.1.2), as it claims; for objects of ours that are to be like its own."""
    institution: str = ""
    """Institution Name (0008,0080), where it is asked for."""
    status: str = ""
    """Of the attribute that says whether it is released, where that is asked for."""


class ListedGeometry(NamedTuple):
    """What a PACS says of an image's pixels in its list (PS3.3 C.7.6.3); None or empty where it does not."""

    photometric_interpretation: str
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    pixel_representation: int | None
    samples_per_pixel: int | None
    number_of_frames: int | None

    @property
    def is_whole(self) -> bool:
        """Whether it is enough to show the image's place before the image is there."""
        numbers = (self.rows, self.columns, self.bits_allocated, self.samples_per_pixel)
        return all(n is not None and n > 0 for n in numbers) and bool(self.photometric_interpretation)


GEOMETRY = (
    tags.PHOTOMETRIC_INTERPRETATION, tags.ROWS, tags.COLUMNS, tags.BITS_ALLOCATED, tags.BITS_STORED, tags.HIGH_BIT,
    tags.PIXEL_REPRESENTATION, tags.SAMPLES_PER_PIXEL, tags.NUMBER_OF_FRAMES,
)  # fmt: skip
"""Tags of :class:`ListedGeometry`, in its order: a code string, and numbers."""


@lru_cache(maxsize=256)
def whole_geometry(found: ListedGeometry) -> ListedGeometry | None:
    """The same, or None where it is not whole. Slices of a series share one."""
    return found if found.is_whole else None


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An instance that a PACS lists."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    """Empty where the PACS does not say it; so too the modality and the description of its series."""
    fingerprint: str = ""
    """Of all else that it says of it: another one means that the instance was replaced. Empty where it says nothing."""
    modality: str = ""
    series_description: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    geometry: ListedGeometry | None = None
    """Where it was asked for, and the PACS says all that it takes."""


@dataclass(frozen=True, slots=True)
class InstanceList:
    """The instances of a study, as far as the PACS lists them."""

    instances: tuple[InstanceRef, ...]
    complete: bool
    """False: this PACS could not be made to list them all."""
    reason: str = ""
    """Why not, for the operator."""
    short: bool = False
    """Whether that is because it lists fewer than it counts, or may."""
    cut_at: int | None = None
    """The answers after which it ended one, though there were more."""
    series: int | None = None
    """Series that it lists, empty ones too; None where it was not asked for them."""
    may_lack_series: bool = False
    """Whether it answers with as many series as a limit may be."""
    partly: bool = False
    """Whether it is all that those have who could be asked, of several that have parts of the study."""


@dataclass(frozen=True, slots=True)
class StudiesFound:
    """What a PACS says of several studies."""

    records: Mapping[str, StudyRecord | None]
    """By Study Instance UID: each that was asked for; None where the PACS has none."""
    lists_work: bool = True
    """Whether it answers where several are asked for at once."""

    @classmethod
    def of(
        cls, listed: Mapping[str, StudyRecord | None] | None, alone: Mapping[str, StudyRecord | None]
    ) -> StudiesFound:
        """Of what was *listed* when all were asked for at once, None where they were not, and what was said of each
        that was then asked for *alone*."""
        records = {**(listed or {}), **alone}
        # A list that has none of them, of which it has some: where it has none, nothing is learnt.
        return cls(records, listed is None or bool(listed) or not any(records.values()))


OnFound = Callable[[Sequence[InstanceRef]], None]

NOTHING_ELSE: Mapping[str, int] = MappingProxyType({})
"""Of attributes that are asked for with a study because somebody wants to know them."""


def the_one(records: Sequence[StudyRecord]) -> StudyRecord | None:
    """The record of a study, of all that a PACS answers for its UID; None where it answers none."""
    if not records:
        return None
    # An answer that leaves the Patient ID out disputes none, where the others name its patient so, too.
    named = [r for r in records if r.patient_id]
    names = {r.patient_name for r in named}
    nameless = [r for r in records if not r.patient_id and r.patient_name and r.patient_name not in names]
    patients = {r.patient_id for r in named} | ({""} if named and nameless else set())
    return replace(
        (named or records)[-1],
        # An archive of several parts answers for each of them. Of too few it would not be seen that a list is cut.
        instances=max((r.instances for r in records if r.instances is not None), default=None),
        series=max((r.series for r in records if r.series is not None), default=None),
        disputed=len(patients) > 1,
    )


def fingerprint(series_instance_uid: str, values: Iterable[str]) -> str:
    """A few letters that stand for what a PACS lists of an instance; empty where it lists none of *values*."""
    texts = list(values)
    if not any(texts):
        return ""
    return hashlib.blake2b("\0".join((series_instance_uid, *texts)).encode(), digest_size=6).hexdigest()


def count(raw: bytes | None) -> int | None:
    """A number of related instances or series; none where it is absent, 0 or less, which are no counts."""
    number = integer(raw)
    return number if number is not None and number > 0 else None


def record_of(raw: dict[int, bytes], also: Mapping[str, int] = NOTHING_ELSE) -> StudyRecord:
    """What an answer at STUDY level says of its study; *also* as :class:`PacsClient` has it."""
    charset = raw.get(tags.SPECIFIC_CHARACTER_SET, b"")

    def value(tag: int) -> str:
        # Of these only: 00A0 is the end of an à to a PACS that labels its UTF-8 as Latin-1.
        return text(raw.get(tag, b""), charset).strip(" \t\r\n\0")

    return StudyRecord(
        study_instance_uid=string(raw.get(tags.STUDY_INSTANCE_UID)),
        instances=count(raw.get(tags.NUMBER_OF_STUDY_RELATED_INSTANCES)),
        series=count(raw.get(tags.NUMBER_OF_STUDY_RELATED_SERIES)),
        patient_id=value(tags.PATIENT_ID),
        patient_name=value(tags.PATIENT_NAME),
        patient_birth_date=value(tags.PATIENT_BIRTH_DATE),
        patient_sex=value(tags.PATIENT_SEX),
        issuer_of_patient_id=value(tags.ISSUER_OF_PATIENT_ID),
        accession_number=value(tags.ACCESSION_NUMBER),
        study_id=value(tags.STUDY_ID),
        study_date=value(tags.STUDY_DATE),
        study_time=value(tags.STUDY_TIME),
        study_description=value(tags.STUDY_DESCRIPTION),
        referring_physician=value(tags.REFERRING_PHYSICIAN_NAME),
        modalities="\\".join(sorted({m.strip() for m in value(tags.MODALITIES_IN_STUDY).split("\\")} - {""})),
        availability=string(raw.get(tags.INSTANCE_AVAILABILITY)).upper(),
        specific_character_set=string(charset),
        institution=value(also["institution"]) if "institution" in also else "",
        status=value(also["status"]) if "status" in also else "",
    )
