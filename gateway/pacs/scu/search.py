"""Looks for studies by what they are, and not by their UID: what came lately, what else there is of a patient.

C-FIND at STUDY level, and at SERIES level for what only series tell (PS3.4 C.6.2.1). QIDO-RS does the same
(:mod:`gateway.pacs.dicomweb.search`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from gateway.dicom import READABLE, STUDY_ROOT_FIND, integer, is_usable, string, tags, text
from gateway.pacs import Claim, Lane, Urgent, background
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.find import Enough, find
from gateway.pacs.upper import Context

NEARLINE, OFFLINE = "NEARLINE", "OFFLINE"
"""Values of Instance Availability (PS3.3 C.4.23.1.1)."""

MOST = 1000
"""Answers to one search that are taken; who has more is asked for less at once."""


@dataclass(frozen=True, slots=True)
class StudyQuery:
    """What is looked for; empty where that is all the same. Ranges are as PS3.4 C.2.2.2.5 has them."""

    study_date: str = ""
    study_time: str = ""
    patient_id: str = ""
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class StudyTraits:
    """What a PACS says of a study by which one tells whether it is worth fetching. Empty where it does not say."""

    study_instance_uid: str
    modalities: frozenset[str] = frozenset()
    description: str = ""
    study_date: str = ""
    study_time: str = ""
    patient_id: str = ""
    issuer: str = ""
    """Issuer of Patient ID."""
    instances: int | None = None
    """Number of Study Related Instances; None where it is left out (field note 3)."""
    availability: str = ""
    """Instance Availability: ``ONLINE``, ``NEARLINE``, ``OFFLINE``, ``UNAVAILABLE``."""


@dataclass(frozen=True, slots=True)
class SeriesTraits:
    """What the series of a study say of where it was made, and of what."""

    stations: frozenset[str] = frozenset()
    """Station names."""
    institutions: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found."""

    studies: tuple[StudyTraits, ...]
    more: bool = False
    """Whether there are, or may be, others."""


class StudySearch(Protocol):
    """One way of looking for studies in a PACS."""

    async def studies(self, query: StudyQuery, *, urgency: Urgent = background) -> Found:
        """What matches; a PACS that takes a key for a suggestion answers with other studies, too. Raises PacsError."""

    async def series(self, study_instance_uid: str, *, urgency: Urgent = background) -> SeriesTraits:
        """What the series of a study say. Raises PacsError."""


_STUDY = frozenset((
    tags.SPECIFIC_CHARACTER_SET, tags.STUDY_INSTANCE_UID, tags.STUDY_DATE, tags.STUDY_TIME, tags.STUDY_DESCRIPTION,
    tags.MODALITIES_IN_STUDY, tags.PATIENT_ID, tags.ISSUER_OF_PATIENT_ID, tags.NUMBER_OF_STUDY_RELATED_INSTANCES,
    tags.INSTANCE_AVAILABILITY,
))  # fmt: skip
_SERIES = frozenset((
    tags.SPECIFIC_CHARACTER_SET, tags.STUDY_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.MODALITY, tags.STATION_NAME,
    tags.INSTITUTION_NAME, tags.BODY_PART_EXAMINED,
))  # fmt: skip


class FindSearch:
    """Looks for studies by C-FIND (a ``StudySearch``)."""

    def __init__(self, client: PacsClient) -> None:
        self._client = client

    async def studies(self, query: StudyQuery, *, urgency: Urgent = background) -> Found:
        """As :class:`StudySearch` has it."""
        keys = dict.fromkeys(_STUDY - {tags.SPECIFIC_CHARACTER_SET}, "") | {
            tags.STUDY_DATE: query.study_date,
            tags.STUDY_TIME: query.study_time,
            tags.PATIENT_ID: query.patient_id,
            tags.STUDY_INSTANCE_UID: query.study_instance_uid,
        }
        found: dict[str, StudyTraits] = {}
        answers = 0
        try:
            async for raw in self._find("STUDY", keys, _STUDY, urgency):
                answers += 1
                if is_usable(uid := string(raw.get(tags.STUDY_INSTANCE_UID))):
                    found[uid] = _traits(uid, raw)
                if answers > MOST:
                    raise Enough
        except Enough:
            return Found(tuple(found.values()), more=True)
        return Found(tuple(found.values()))

    async def series(self, study_instance_uid: str, *, urgency: Urgent = background) -> SeriesTraits:
        """As :class:`StudySearch` has it."""
        keys = dict.fromkeys(_SERIES - {tags.SPECIFIC_CHARACTER_SET}, "") | {
            tags.STUDY_INSTANCE_UID: study_instance_uid
        }
        stations, institutions, parts = set[str](), set[str](), set[str]()
        async for raw in self._find("SERIES", keys, _SERIES, urgency):
            if string(raw.get(tags.STUDY_INSTANCE_UID)) not in ("", study_instance_uid):
                continue
            stations.add(_text(raw, tags.STATION_NAME))
            institutions.add(_text(raw, tags.INSTITUTION_NAME))
            parts.add(string(raw.get(tags.BODY_PART_EXAMINED)).upper())
        return SeriesTraits(*(frozenset(values - {""}) for values in (stations, institutions, parts)))

    async def _find(
        self, level: str, keys: dict[int, str], wanted: frozenset[int], urgency: Urgent
    ) -> AsyncIterator[dict[int, bytes]]:
        contexts = [Context(STUDY_ROOT_FIND, READABLE)]
        async with self._client.association(contexts, Claim(Lane.QUERY, "", urgency)) as association:
            async for raw in find(association, level, keys, wanted):
                yield raw


def _traits(uid: str, raw: dict[int, bytes]) -> StudyTraits:
    return StudyTraits(
        uid,
        modalities_of(string(raw.get(tags.MODALITIES_IN_STUDY)).split("\\")),
        _text(raw, tags.STUDY_DESCRIPTION),
        string(raw.get(tags.STUDY_DATE)),
        string(raw.get(tags.STUDY_TIME)),
        _text(raw, tags.PATIENT_ID),
        _text(raw, tags.ISSUER_OF_PATIENT_ID),
        integer(raw.get(tags.NUMBER_OF_STUDY_RELATED_INSTANCES)) or None,
        string(raw.get(tags.INSTANCE_AVAILABILITY)).upper(),
    )


def modalities_of(values: list[str]) -> frozenset[str]:
    """The modalities that are named, as PS3.3 C.7.3.1.1.1 writes them."""
    return frozenset(value.strip().upper() for value in values) - {""}


def _text(raw: dict[int, bytes], tag: int) -> str:
    return text(raw.get(tag, b""), raw.get(tags.SPECIFIC_CHARACTER_SET, b"")).strip(" \t\r\n\0")
