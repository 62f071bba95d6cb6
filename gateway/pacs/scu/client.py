"""What we ask of a PACS as SCU: echo, find a study, list its instances (PS3.4 Annexes A, C).

The listing itself is in :mod:`gateway.pacs.scu.instances`, what is answered in :mod:`gateway.pacs.scu.results`. The
methods that bring instances here have a file each: :mod:`gateway.pacs.scu.move`, :mod:`gateway.pacs.scu.get`,
:mod:`gateway.pacs.dicomweb.wado`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import TypeVar

from gateway.dicom import READABLE, STUDY_ROOT_FIND, VERIFICATION, is_usable, string, tags
from gateway.pacs import (
    ECHO,
    AssociationRejected,
    Breaker,
    Claim,
    Lane,
    Lanes,
    OperationFailed,
    Peer,
    Urgent,
    background,
    interactive,
)
from gateway.pacs.scu.exchange import raise_for_status, request, response
from gateway.pacs.scu.find import AnotherAnswer, Enough, find, once_more
from gateway.pacs.scu.instances import InstanceListing, series_of
from gateway.pacs.scu.kept import KeptAssociations, LostWhileKept
from gateway.pacs.scu.results import NOTHING_ELSE, InstanceList, OnFound, StudiesFound, StudyRecord, record_of, the_one
from gateway.pacs.upper import Association, Context, dimse
from gateway.runtime import Spools

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_FOREIGN = 200
"""Studies that nobody asked for, in one answer, after which the rest of it is not listened to: a PACS that takes no
list of UIDs may answer with all that it has."""

BUSY_RETRIES = 4
"""Times that an association refused for now ("local limit exceeded", field note 8) is asked for again."""

_RECORD = frozenset((
    tags.SPECIFIC_CHARACTER_SET, tags.MODALITIES_IN_STUDY, tags.STUDY_DATE, tags.STUDY_TIME, tags.ACCESSION_NUMBER,
    tags.REFERRING_PHYSICIAN_NAME, tags.STUDY_DESCRIPTION, tags.PATIENT_NAME, tags.PATIENT_ID,
    tags.ISSUER_OF_PATIENT_ID, tags.PATIENT_BIRTH_DATE, tags.PATIENT_SEX, tags.STUDY_INSTANCE_UID, tags.STUDY_ID,
    tags.NUMBER_OF_STUDY_RELATED_SERIES, tags.NUMBER_OF_STUDY_RELATED_INSTANCES, tags.INSTANCE_AVAILABILITY,
))  # fmt: skip


class PacsClient:
    """Requests to one PACS; at most ``peer.max_associations`` at once, the others wait their turn."""

    service = "C-FIND"
    """By which it finds (a ``Finder``)."""

    def __init__(
        self,
        peer: Peer,
        *,
        advertised: str,
        lists_sop_classes: bool = True,
        lists_geometry: bool = False,
        also: Mapping[str, int] = NOTHING_ELSE,
    ) -> None:
        """*advertised* is how the PACS has to know us, for messages: ``AVARAGW at 10.1.2.3:11112``.

        *lists_sop_classes* asks for the SOP Class UID with each listed instance. It is needed to propose contexts
        for a C-GET; Orthanc reads each instance's file for it, which makes the list four times slower.
        *lists_geometry* asks for what describes its pixels, too.

        *also* are tags that are asked for with a study besides, by the names of their fields in :class:`StudyRecord`.
        """
        self._also = also
        self._record_keys = _RECORD | frozenset(also.values())
        self.peer = peer
        self.advertised = advertised
        self._lists_sop_classes = lists_sop_classes
        self._lists_geometry = lists_geometry
        self.cuts_at: int | None = None
        """Answers after which it is known to end one, though there may be more."""
        self.breaker = Breaker(str(peer))
        self._lanes = Lanes(peer.max_associations)
        self._kept = KeptAssociations(self._lanes)
        self._keeps_queries = True

    async def close(self) -> None:
        """Ends the associations that were kept for what might follow."""
        await self._kept.close()

    @asynccontextmanager
    async def association(
        self, contexts: Sequence[Context], claim: Claim, *, receives_in: Spools | None = None
    ) -> AsyncIterator[Association]:
        """An association of ours with it, when its turn comes. Raises PacsError.

        *receives_in* is where large data sets lie that it sends on it, as it does in a C-GET.
        """
        async with self._lanes.turn(claim):
            with self.breaker.attempt(claim):
                async with await self._open(contexts, receives_in) as association:
                    yield association

    @asynccontextmanager
    async def kept_association(self, contexts: Sequence[Context], claim: Claim) -> AsyncIterator[Association]:
        """As :meth:`association`, and kept for a moment afterwards, for the next one of these *contexts*. Raises
        PacsError, LostWhileKept."""

        def attempt() -> AbstractContextManager[None]:
            return self.breaker.attempt(claim)

        async with self._kept.use(contexts, claim, lambda: self._open(contexts, None), attempt) as association:
            yield association

    def _query(self, owner: str, urgency: Urgent) -> AbstractAsyncContextManager[Association]:
        return self.association([Context(STUDY_ROOT_FIND, READABLE)], Claim(Lane.QUERY, owner, urgency))

    async def _open(self, contexts: Sequence[Context], receives_in: Spools | None) -> Association:
        pause = 0.25  # seconds
        for _ in range(BUSY_RETRIES):
            try:
                return await Association.open(self.peer, contexts, receives_in=receives_in)
            except AssociationRejected as e:
                if not e.transient:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  (no secret depends on it)
            pause *= 2
        return await Association.open(self.peer, contexts, receives_in=receives_in)

    async def echo(self, claim: Claim = ECHO) -> None:
        """C-ECHO (PS3.7 §9.1.5). Raises PacsError."""
        async with self.association([Context(VERIFICATION, READABLE)], claim) as association:
            command = request(association, dimse.C_ECHO_RQ, VERIFICATION, data=False)
            await association.send(association.context_for(VERIFICATION), command)
            reply = await response(association)
            raise_for_status(association.peer, reply, "C-ECHO")

    async def _ask(self, question: Callable[[Association, bool], Awaitable[T]]) -> T:
        """What a *question* finds out that nobody waits for, by an association that is kept for the next one: many
        objects of one study come in a row. It is told whether it has to be certain of what it is answered. Where that
        fails by what the association went through before, it is asked anew on one of its own. Raises PacsError."""
        contexts, claim = [Context(STUDY_ROOT_FIND, READABLE)], Claim(Lane.QUERY, urgency=background)
        if self._keeps_queries:
            try:
                async with self.kept_association(contexts, claim) as association:
                    return await question(association, True)
            except AnotherAnswer as e:
                log.info("from now on each question is asked on an association of its own: %s", e)
                self._keeps_queries = False
            except LostWhileKept as e:
                log.debug("asked again: %s", e)
        async with self.association(contexts, claim) as association:
            return await question(association, False)

    async def find_study(self, study_instance_uid: str, *, urgency: Urgent = interactive) -> StudyRecord | None:
        """The study, by a C-FIND at STUDY level; None where the PACS has none. Raises PacsError."""
        if urgency is background:
            return await self._ask(lambda a, certain: self._find_one(a, study_instance_uid, certain=certain))

        async def ask() -> StudyRecord | None:
            async with self._query(study_instance_uid, urgency) as association:
                return await self._find_one(association, study_instance_uid)

        return await once_more(ask)

    async def _find_one(
        self, association: Association, study_instance_uid: str, *, certain: bool = False
    ) -> StudyRecord | None:
        keys = dict.fromkeys(self._record_keys - {tags.SPECIFIC_CHARACTER_SET}, "") | {
            tags.STUDY_INSTANCE_UID: study_instance_uid
        }
        records, answers = list[StudyRecord](), 0
        nameless: dict[int, bytes] | None = None
        async for raw in find(association, "STUDY", keys, self._record_keys, certain=certain):
            answers += 1
            uid = string(raw.get(tags.STUDY_INSTANCE_UID))
            if uid == study_instance_uid:
                records.append(record_of(raw, self._also))
            elif not uid:
                nameless = raw
        if nameless is not None and not records:
            series = await series_of(association, study_instance_uid)
            if any(s.uid for s in series):
                # It has the study, and did not say which its answer is of. A single answer is of it: what it says of
                # the patient is how a correction is noticed. Of several, nothing can be relied on.
                known = nameless if answers == 1 else {}
                records = [record_of(known | {tags.STUDY_INSTANCE_UID: study_instance_uid.encode()}, self._also)]
        return the_one(records)

    async def find_studies(
        self, study_instance_uids: Sequence[str], *, urgency: Urgent = background, in_a_list: bool = True
    ) -> StudiesFound:
        """Several studies: by one C-FIND with a list of UIDs (PS3.4 C.2.2.2.2) where *in_a_list*, and each that its
        answer leaves out by one of its own. Raises PacsError."""
        lists = in_a_list and len(study_instance_uids) > 1
        listed = await self._find_listed(study_instance_uids, urgency) if lists else None
        alone = dict[str, StudyRecord | None]()
        if left := [uid for uid in study_instance_uids if uid not in (listed or {})]:
            async with self._query("", urgency) as association:
                for uid in left:
                    alone[uid] = await self._find_one(association, uid)
        return StudiesFound.of(listed, alone)

    async def _find_listed(self, study_instance_uids: Sequence[str], urgency: Urgent) -> dict[str, StudyRecord | None]:
        """Those that are answered where all are asked for at once; fewer, or none, where the PACS does not take it."""
        wanted, found, foreign = frozenset(study_instance_uids), dict[str, list[StudyRecord]](), 0
        keys = dict.fromkeys(self._record_keys - {tags.SPECIFIC_CHARACTER_SET}, "") | {
            tags.STUDY_INSTANCE_UID: "\\".join(study_instance_uids)
        }
        try:
            async with self._query("", urgency) as association:
                async for raw in find(association, "STUDY", keys, self._record_keys):
                    uid = string(raw.get(tags.STUDY_INSTANCE_UID))
                    if uid in wanted:
                        found.setdefault(uid, []).append(record_of(raw, self._also))
                    elif (foreign := foreign + 1) > MOST_FOREIGN:
                        raise Enough
        except Enough:
            return {}
        except OperationFailed as e:
            log.info("%s takes no list of studies: %s", self.peer, e)
            return {}
        return {uid: the_one(records) for uid, records in found.items()}

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """Study Instance UIDs of up to *limit* studies; *study_date* may be a range. Raises PacsError."""
        found: list[str] = []
        keys = {tags.STUDY_INSTANCE_UID: "", tags.STUDY_DATE: study_date}
        try:
            async with self._query("", interactive) as association:
                async for raw in find(association, "STUDY", keys, {tags.STUDY_INSTANCE_UID}):
                    uid = string(raw.get(tags.STUDY_INSTANCE_UID))
                    if is_usable(uid):
                        found.append(uid)
                    if len(found) >= limit:
                        raise Enough
        except Enough:
            pass
        return found

    async def studies_of(self, *, patient_id: str = "", accession_number: str = "") -> list[str]:
        """Study Instance UIDs of the studies that have exactly this, by a C-FIND at STUDY level. Raises PacsError."""
        wanted = {tags.PATIENT_ID: patient_id, tags.ACCESSION_NUMBER: accession_number}
        found: list[str] = []
        async with self._query("", interactive) as association:
            keys = wanted | {tags.STUDY_INSTANCE_UID: ""}
            async for raw in find(association, "STUDY", keys, set(keys)):
                # A PACS that ignores a key answers with everything.
                same = all(string(raw.get(tag)) == value for tag, value in wanted.items() if value)
                if same and is_usable(uid := string(raw.get(tags.STUDY_INSTANCE_UID))):
                    found.append(uid)
        return found

    async def list_instances(
        self,
        study_instance_uid: str,
        on_found: OnFound | None = None,
        *,
        urgency: Urgent = interactive,
        counted: int | None = None,
    ) -> InstanceList:
        """Every instance that the PACS lists, series by series as these are read; *on_found* is told as they come.
        *counted* is how many it says that the study has. What an answer leaves out is asked for by Instance Number.

        IMAGE level is asked for with the Series Instance UID, as the hierarchical model has it: some PACS
        answer nothing else (field note 3). One that answers neither is no error: the list is then not
        complete. Raises PacsError where the PACS cannot be reached.
        """

        async def ask() -> InstanceList:
            async with self._query(study_instance_uid, urgency) as association:
                listing = InstanceListing(
                    association, study_instance_uid, on_found=on_found, counted=counted,
                    sop_classes=self._lists_sop_classes, geometry=self._lists_geometry, cuts_at=self.cuts_at,
                )  # fmt: skip
                return await listing.run()

        return await once_more(ask)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the PACS lists an instance; False, too, where it answers no query at IMAGE level. Raises PacsError
        where it cannot be reached."""
        keys = {
            tags.STUDY_INSTANCE_UID: study_instance_uid, tags.SERIES_INSTANCE_UID: series_instance_uid,
            tags.SOP_INSTANCE_UID: sop_instance_uid,
        }  # fmt: skip
        wanted = {tags.STUDY_INSTANCE_UID, tags.SOP_INSTANCE_UID}

        async def ask(association: Association, certain: bool) -> bool:
            found = False
            try:
                async for raw in find(association, "IMAGE", keys, wanted, certain=certain):
                    # A PACS that ignores keys answers with it where another study has it by now, too.
                    of_it = string(raw.get(tags.STUDY_INSTANCE_UID)) in ("", study_instance_uid)
                    found |= of_it and string(raw.get(tags.SOP_INSTANCE_UID)) == sop_instance_uid
            except OperationFailed as e:
                log.info("%s does not say whether it holds an instance: %s", self.peer, e)
            return found

        return await self._ask(ask)
