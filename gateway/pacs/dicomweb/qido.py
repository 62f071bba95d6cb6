"""QIDO-RS: finding studies and their instances in a DICOMweb service (PS3.18 §10.6), in place of C-FIND."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from gateway.dicom import is_usable, tags
from gateway.pacs import Breaker, Claim, Lane, ProtocolViolation, RequestRefused, Urgent, background, interactive
from gateway.pacs.dicomweb.json_model import JsonObject, first_value, instance_ref, study_record
from gateway.pacs.dicomweb.service import JSON, DicomWeb
from gateway.pacs.scu import (
    GEOMETRY,
    NOTHING_ELSE,
    InstanceList,
    InstanceRef,
    OnFound,
    StudiesFound,
    StudyRecord,
    the_one,
)

log = logging.getLogger(__name__)

PAGE = 500
"""Instances that are asked for at a time."""

FIRST_PAGE = 100
"""The same at first: what is on it can be retrieved while the others are listed."""

MAX_PAGE = 32 * 1024 * 1024
"""Bytes of one answer in JSON; 500 instances with every attribute that anybody returns are a tenth of it."""


class QidoFinder:
    """Finds in a DICOMweb service (a ``Finder``)."""

    service = "QIDO-RS"

    def __init__(self, web: DicomWeb, *, lists_geometry: bool = False, also: Mapping[str, int] = NOTHING_ELSE) -> None:
        """*lists_geometry* and *also* are as with the DIMSE client."""
        self.web = web
        self._lists_geometry = lists_geometry
        self._also = also

    @property
    def breaker(self) -> Breaker:
        """Whether the service answers."""
        return self.web.breaker

    async def find_study(self, study_instance_uid: str, *, urgency: Urgent = interactive) -> StudyRecord | None:
        """The study; None where the PACS has none. Raises PacsError."""
        answers = await self._answers([study_instance_uid], urgency)
        found = self._records(answers, [study_instance_uid]).get(study_instance_uid)
        nameless = [a for a in answers if not first_value(a, tags.STUDY_INSTANCE_UID)]
        if found is not None or not nameless:
            return found
        path = f"/studies/{quote(study_instance_uid, safe='')}/instances"
        claim = Claim(Lane.QUERY, study_instance_uid, urgency)
        listed, _ = await self.search(path, claim, [("limit", "1"), ("offset", "0")])
        if not any(instance_ref(a, study_instance_uid) for a in listed):
            return None
        # It has the study, and did not say which its answer is of. A single answer is of it; of several, nothing can be
        # relied on.
        known = nameless[0] if len(answers) == 1 else {}
        return replace(study_record(known, self._also), study_instance_uid=study_instance_uid)

    async def find_studies(
        self, study_instance_uids: Sequence[str], *, urgency: Urgent = background, in_a_list: bool = True
    ) -> StudiesFound:
        """Several studies: by one query with a list of UIDs (PS3.18 §8.3.4.1) where *in_a_list*, and each that its
        answer leaves out by one of its own. Raises PacsError."""
        lists = in_a_list and len(study_instance_uids) > 1
        listed = dict[str, StudyRecord | None]() if lists else None
        try:
            if lists:
                listed = self._records(await self._answers(study_instance_uids, urgency), study_instance_uids)
        except (RequestRefused, ProtocolViolation) as e:
            log.info("%s takes no list of studies: %s", self.web.peer, e)
        left = [uid for uid in study_instance_uids if uid not in (listed or {})]
        return StudiesFound.of(listed, {uid: await self.find_study(uid, urgency=urgency) for uid in left})

    async def _answers(self, study_instance_uids: Sequence[str], urgency: Urgent) -> list[JsonObject]:
        """What is answered when the studies are asked for."""
        wanted = (
            tags.STUDY_DESCRIPTION, tags.ISSUER_OF_PATIENT_ID, tags.MODALITIES_IN_STUDY, tags.INSTANCE_AVAILABILITY,
            *self._also.values(),
        )  # fmt: skip
        fields = [("includefield", f"{tag:08X}") for tag in wanted]
        owner = study_instance_uids[0] if len(study_instance_uids) == 1 else ""
        query = [("StudyInstanceUID", ",".join(study_instance_uids)), *fields]
        answers, _ = await self.search("/studies", Claim(Lane.QUERY, owner, urgency), query)
        return answers

    def _records(
        self, answers: Sequence[JsonObject], study_instance_uids: Sequence[str]
    ) -> dict[str, StudyRecord | None]:
        """What *answers* say of the studies, by Study Instance UID."""
        found: dict[str, list[StudyRecord]] = {}
        for answer in reversed(answers):
            if (uid := first_value(answer, tags.STUDY_INSTANCE_UID)) in study_instance_uids:
                found.setdefault(uid, []).append(study_record(answer, self._also))
        return {uid: the_one(records) for uid, records in found.items()}

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """Study Instance UIDs of up to *limit* studies; *study_date* may be a range. Raises PacsError."""
        query = [("StudyDate", study_date)] if study_date else []
        found, _ = await self.search("/studies", Claim(Lane.QUERY), [*query, ("limit", str(limit))])
        return [uid for a in found if is_usable(uid := first_value(a, tags.STUDY_INSTANCE_UID))][:limit]

    async def studies_of(self, *, patient_id: str = "", accession_number: str = "") -> list[str]:
        """Study Instance UIDs of the studies that have exactly this. Raises PacsError."""
        wanted = {tags.PATIENT_ID: patient_id, tags.ACCESSION_NUMBER: accession_number}
        query = [(f"{tag:08X}", value) for tag, value in wanted.items() if value]
        found, _ = await self.search("/studies", Claim(Lane.QUERY), query)
        same = (a for a in found if all(first_value(a, tag) == value for tag, value in wanted.items() if value))
        return [uid for a in same if is_usable(uid := first_value(a, tags.STUDY_INSTANCE_UID))]

    async def list_instances(
        self,
        study_instance_uid: str,
        on_found: OnFound | None = None,
        *,
        urgency: Urgent = interactive,
        counted: int | None = None,
    ) -> InstanceList:
        """Every instance that the PACS lists, page by page; *on_found* is told of them as they come.

        An answer that says that it is not all (``Warning: 299``), or pages that go round in circles, are a list that
        is not complete. Raises PacsError.
        """
        wanted = (
            tags.SOP_CLASS_UID, tags.SOP_INSTANCE_UID, tags.SERIES_INSTANCE_UID, tags.MODALITY,
            tags.SERIES_DESCRIPTION, tags.SERIES_NUMBER, tags.INSTANCE_NUMBER, tags.INSTANCE_CREATION_DATE,
            tags.INSTANCE_CREATION_TIME, *(GEOMETRY if self._lists_geometry else ()),
        )  # fmt: skip
        fields = [("includefield", f"{tag:08X}") for tag in wanted]
        path = f"/studies/{quote(study_instance_uid, safe='')}/instances"
        found: dict[str, InstanceRef] = {}
        offset, partial = 0, False
        while True:
            limit = PAGE if offset else FIRST_PAGE
            page, more = await self.search(
                path,
                Claim(Lane.QUERY, study_instance_uid, urgency),
                [*fields, ("limit", str(limit)), ("offset", str(offset))],
            )
            new = [
                ref for a in page if (ref := instance_ref(a, study_instance_uid)) and ref.sop_instance_uid not in found
            ]
            found.update((ref.sop_instance_uid, ref) for ref in new)
            if new and on_found is not None:
                on_found(new)
            if not page and (more or partial):
                return self._incomplete(found, "says that there are more than it lists")
            if not page:  # only this is the end: a short page may be one that was capped without a word
                break
            if not new:
                # One that knows no paging gives everything every time, and that is rarely just what was asked for.
                if len(page) != limit and not more:
                    break
                return self._incomplete(found, "gives the same instances on every page")
            partial = more
            offset += len(page)
        if not found:
            return self._incomplete(found, "lists no instance of the study")
        return InstanceList(tuple(found.values()), True)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the PACS lists an instance. Raises PacsError."""
        path = f"/studies/{quote(study_instance_uid, safe='')}"
        if series_instance_uid:
            path += f"/series/{quote(series_instance_uid, safe='')}"
        path += "/instances"
        claim = Claim(Lane.QUERY, study_instance_uid)
        found, _ = await self.search(path, claim, [("SOPInstanceUID", sop_instance_uid)])
        return any(first_value(a, tags.SOP_INSTANCE_UID) == sop_instance_uid for a in found)

    def _incomplete(self, found: Mapping[str, InstanceRef], reason: str) -> InstanceList:
        return InstanceList(tuple(found.values()), False, f"{self.web.peer} {reason}")

    async def search(self, path: str, claim: Claim, query: Sequence[tuple[str, str]]) -> tuple[list[JsonObject], bool]:
        """What matches, and whether the service warns that there is more (PS3.18 §8.3.4.4)."""
        async with self.web.get(path, claim, query, accept=JSON, within=self.web.peer.timeouts.respond) as answer:
            content = bytearray()
            async for data in self.web.chunks(answer):
                content += data
                if len(content) > MAX_PAGE:
                    raise ProtocolViolation(f"{self.web.peer} answers a query with more than {MAX_PAGE} bytes")
            more = any("299" in warning for warning in answer.headers.getall("Warning", ()))
        if not content:  # 204, no match
            return [], more
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as e:
            raise ProtocolViolation(
                f"{self.web.peer} answers a query with something other than JSON: is dicomweb_url the root of its "
                "DICOMweb service, such as https://pacs/dicom-web?"
            ) from e
        if not isinstance(found, list):
            raise ProtocolViolation(f"{self.web.peer} answers a query with something other than a list (PS3.18 F.2)")
        return [a for a in found if isinstance(a, dict)], more
