"""Looks for studies by QIDO-RS (PS3.18 §10.6), where a PACS is reached over HTTP."""

from __future__ import annotations

from urllib.parse import quote

from gateway.dicom import is_usable, tags
from gateway.pacs import Claim, Lane, Urgent, background
from gateway.pacs.dicomweb.json_model import JsonObject, first_value, values_of
from gateway.pacs.dicomweb.qido import QidoFinder
from gateway.pacs.scu import (
    Found,
    SeriesTraits,
    StudyQuery,
    StudyTraits,
    modalities_of,
)

PAGE = 200
"""Studies that are asked for at a time."""

MOST_PAGES = 5


class QidoSearch:
    """Looks for studies by QIDO-RS (a ``StudySearch``)."""

    def __init__(self, finder: QidoFinder) -> None:
        self._finder = finder

    async def studies(self, query: StudyQuery, *, urgency: Urgent = background) -> Found:
        """As :class:`~gateway.pacs.scu.StudySearch` has it."""
        wanted = (
            tags.STUDY_DESCRIPTION,
            tags.ISSUER_OF_PATIENT_ID,
            tags.MODALITIES_IN_STUDY,
            tags.INSTANCE_AVAILABILITY,
            tags.NUMBER_OF_STUDY_RELATED_INSTANCES,
        )
        keys = {
            "StudyDate": query.study_date, "StudyTime": query.study_time, "PatientID": query.patient_id,
            "StudyInstanceUID": query.study_instance_uid,
        }  # fmt: skip
        asked = [(key, value) for key, value in keys.items() if value]
        asked += [("includefield", f"{tag:08X}") for tag in wanted]
        found: dict[str, StudyTraits] = {}
        for page in range(MOST_PAGES):
            paged = [("limit", str(PAGE)), ("offset", str(page * PAGE))]
            answers, warned = await self._finder.search("/studies", Claim(Lane.QUERY, "", urgency), [*asked, *paged])
            before = len(found)
            for answer in answers:
                if is_usable(uid := first_value(answer, tags.STUDY_INSTANCE_UID)):
                    found[uid] = _traits(uid, answer)
            # One that knows no paging gives the same every time.
            if len(found) == before or (len(answers) < PAGE and not warned):
                return Found(tuple(found.values()), more=warned and len(found) > before)
        return Found(tuple(found.values()), more=True)

    async def series(self, study_instance_uid: str, *, urgency: Urgent = background) -> SeriesTraits:
        """As :class:`~gateway.pacs.scu.StudySearch` has it."""
        fields = [
            ("includefield", f"{tag:08X}")
            for tag in (tags.STATION_NAME, tags.INSTITUTION_NAME, tags.BODY_PART_EXAMINED)
        ]
        path = f"/studies/{quote(study_instance_uid, safe='')}/series"
        answers, _ = await self._finder.search(path, Claim(Lane.QUERY, "", urgency), fields)

        def every(tag: int) -> frozenset[str]:
            return frozenset(first_value(answer, tag) for answer in answers) - {""}

        return SeriesTraits(
            every(tags.STATION_NAME),
            every(tags.INSTITUTION_NAME),
            frozenset(part.upper() for part in every(tags.BODY_PART_EXAMINED)),
        )


def _traits(uid: str, answer: JsonObject) -> StudyTraits:
    count = first_value(answer, tags.NUMBER_OF_STUDY_RELATED_INSTANCES)
    return StudyTraits(
        uid,
        modalities_of([str(value) for value in values_of(answer, tags.MODALITIES_IN_STUDY)]),
        first_value(answer, tags.STUDY_DESCRIPTION),
        first_value(answer, tags.STUDY_DATE),
        first_value(answer, tags.STUDY_TIME),
        first_value(answer, tags.PATIENT_ID),
        first_value(answer, tags.ISSUER_OF_PATIENT_ID),
        int(count) or None if count.isascii() and count.isdecimal() and len(count) < 10 else None,
        first_value(answer, tags.INSTANCE_AVAILABILITY).upper(),
    )
