"""What we ask of a PACS as SCU: echo, find a study, list its instances (PS3.4 Annexes A, C).

The methods that bring instances here have a file each: :mod:`gateway.pacs.scu.move`, :mod:`gateway.pacs.scu.get`,
:mod:`gateway.pacs.dicomweb.wado`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from gateway.dicom import (
    READABLE,
    STUDY_ROOT_FIND,
    VERIFICATION,
    MalformedDataSet,
    has_images,
    integer,
    is_usable,
    read_elements,
    string,
    text,
)
from gateway.pacs import (
    ECHO,
    AssociationRejected,
    Breaker,
    Claim,
    Lane,
    Lanes,
    OperationFailed,
    PacsError,
    Peer,
    Urgent,
    ahead,
    opened,
)
from gateway.pacs.scu.exchange import raise_for_status, request, response
from gateway.pacs.scu.identifier import encode_identifier
from gateway.pacs.scu.kept import KeptAssociations
from gateway.pacs.scu.numbered import ROUND, Others, the_others
from gateway.pacs.upper import Association, Context, dimse
from gateway.runtime import Spools

log = logging.getLogger(__name__)

CHARACTER_SET, QUERY_LEVEL = 0x00080005, 0x00080052
STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, REFERRING_PHYSICIAN = 0x00080020, 0x00080030, 0x00080050, 0x00080090
STUDY_DESCRIPTION, SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00081030, 0x00080016, 0x00080018
MODALITIES_IN_STUDY, INSTANCE_CREATION_DATE, INSTANCE_CREATION_TIME = 0x00080061, 0x00080012, 0x00080013
INSTANCE_NUMBER, NUMBER_OF_FRAMES = 0x00200013, 0x00280008
PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID = 0x00100010, 0x00100020, 0x00100021
PATIENT_BIRTH_DATE, PATIENT_SEX = 0x00100030, 0x00100040
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, STUDY_ID = 0x0020000D, 0x0020000E, 0x00200010
MODALITY, SERIES_DESCRIPTION, SERIES_NUMBER = 0x00080060, 0x0008103E, 0x00200011
STUDY_SERIES, STUDY_INSTANCES, SERIES_INSTANCES = 0x00201206, 0x00201208, 0x00201209

TELL_EVERY = 100
"""Instances of a list that are told of at once, while the others are still being listed."""

BUSY_RETRIES = 4
"""Times that an association refused for now ("local limit exceeded", field note 8) is asked for again."""


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
    disputed: bool = False
    """Whether the PACS has it under several patients' IDs, so that nobody can tell whose it is."""
    specific_character_set: str = ""
    """In which it said so (PS3.3 C.12.1.1.2), as it claims; for objects of ours that are to be like its own."""


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


@dataclass(frozen=True, slots=True)
class _Series:
    """A series that a PACS lists."""

    uid: str
    """Empty where it has none: it is listed last, and has what no other has."""
    instances: int | None
    """Number of Series Related Instances, where it says it."""
    number: int | None
    modality: str
    description: str

    @property
    def place(self) -> tuple[bool, float]:
        """Sorts series as they are read: those with images first, by their numbers."""
        return not has_images(self.modality), math.inf if self.number is None else self.number


@dataclass(frozen=True, slots=True)
class _Listed:
    """What was answered when a series was asked for."""

    refs: Sequence[InstanceRef]
    answers: int
    """Those included that it cannot have."""


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
    partly: bool = False
    """Whether it is all that those have who could be asked, of several that have parts of the study."""


OnFound = Callable[[Sequence[InstanceRef]], None]

_RECORD = frozenset((
    CHARACTER_SET, MODALITIES_IN_STUDY, STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, REFERRING_PHYSICIAN,
    STUDY_DESCRIPTION, PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_SEX,
    STUDY_INSTANCE_UID, STUDY_ID, STUDY_SERIES, STUDY_INSTANCES,
))  # fmt: skip
_SERIES = frozenset((STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SERIES_INSTANCES, SERIES_NUMBER, MODALITY,
                     SERIES_DESCRIPTION, CHARACTER_SET))  # fmt: skip
_TELLING = (INSTANCE_CREATION_DATE, INSTANCE_CREATION_TIME, INSTANCE_NUMBER, NUMBER_OF_FRAMES)
"""What tells an instance from one that replaced it, of what a PACS lists without opening files."""
_IMAGE = frozenset((STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID, SOP_CLASS_UID, *_TELLING))


class PacsClient:
    """Requests to one PACS; at most ``peer.max_associations`` at once, the others wait their turn."""

    service = "C-FIND"
    """By which it finds (a ``Finder``)."""

    def __init__(self, peer: Peer, *, advertised: str, lists_sop_classes: bool = True) -> None:
        """*advertised* is how the PACS has to know us, for messages: ``AVARAGW at 10.1.2.3:11112``.

        *lists_sop_classes* asks for the SOP Class UID with each listed instance. It is needed to propose contexts
        for a C-GET; Orthanc reads each instance's file for it, which makes the list four times slower.
        """
        self.peer = peer
        self.advertised = advertised
        self._lists_sop_classes = lists_sop_classes
        self.cuts_at: int | None = None
        """Answers after which it is known to end one, though there may be more."""
        self.breaker = Breaker(str(peer))
        self._lanes = Lanes(peer.max_associations)
        self._kept = KeptAssociations(self._lanes)

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
        with self.breaker.attempt(claim):
            async with self._kept.use(contexts, claim, lambda: self._open(contexts, None)) as association:
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

    async def find_study(self, study_instance_uid: str, *, urgency: Urgent = opened) -> StudyRecord | None:
        """The study, by a C-FIND at STUDY level; None where the PACS has none. Raises PacsError."""
        keys = dict.fromkeys(_RECORD - {CHARACTER_SET}, "") | {STUDY_INSTANCE_UID: study_instance_uid}
        records, nameless = list[StudyRecord](), False
        async with self._query(study_instance_uid, urgency) as association:
            async for raw in self._find(association, "STUDY", keys, _RECORD):
                uid = string(raw.get(STUDY_INSTANCE_UID))
                if uid == study_instance_uid:
                    records.append(_record(raw))
                nameless |= not uid
            if not records and nameless and any(s.uid for s in await self._series(association, study_instance_uid)):
                # It has the study, and did not say which its answer is of: nothing else in it can be relied on.
                records = [_record({STUDY_INSTANCE_UID: study_instance_uid.encode()})]
        return the_one(records)

    async def _series(self, association: Association, study_instance_uid: str) -> list[_Series]:
        """The series that it lists of the study, as they are read. Raises PacsError."""
        keys = dict.fromkeys(_SERIES - {CHARACTER_SET}, "") | {STUDY_INSTANCE_UID: study_instance_uid}
        found = {
            uid: _Series(
                uid,
                integer(raw.get(SERIES_INSTANCES)),
                integer(raw.get(SERIES_NUMBER)),
                string(raw.get(MODALITY)),
                text(raw.get(SERIES_DESCRIPTION, b""), raw.get(CHARACTER_SET, b"")).strip(" \t\r\n\0"),
            )
            async for raw in self._find(association, "SERIES", keys, _SERIES)
            if (of := string(raw.get(STUDY_INSTANCE_UID))) in ("", study_instance_uid)
            # One without a UID has instances, too; an answer that names nothing says nothing.
            and (is_usable(uid := string(raw.get(SERIES_INSTANCE_UID))) or (of and not uid))
        }
        return sorted(found.values(), key=lambda one: (not one.uid, one.place))

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """Study Instance UIDs of up to *limit* studies; *study_date* may be a range. Raises PacsError."""
        found: list[str] = []
        keys = {STUDY_INSTANCE_UID: "", STUDY_DATE: study_date}
        try:
            async with self._query("", opened) as association:
                async for raw in self._find(association, "STUDY", keys, {STUDY_INSTANCE_UID}):
                    uid = string(raw.get(STUDY_INSTANCE_UID))
                    if is_usable(uid):
                        found.append(uid)
                    if len(found) >= limit:
                        raise _Enough
        except _Enough:
            pass
        return found

    async def studies_of(self, *, patient_id: str = "", accession_number: str = "") -> list[str]:
        """Study Instance UIDs of the studies that have exactly this, by a C-FIND at STUDY level. Raises PacsError."""
        wanted = {PATIENT_ID: patient_id, ACCESSION_NUMBER: accession_number}
        found: list[str] = []
        async with self._query("", opened) as association:
            keys = wanted | {STUDY_INSTANCE_UID: ""}
            async for raw in self._find(association, "STUDY", keys, set(keys)):
                # A PACS that ignores a key answers with everything.
                same = all(string(raw.get(tag)) == value for tag, value in wanted.items() if value)
                if same and is_usable(uid := string(raw.get(STUDY_INSTANCE_UID))):
                    found.append(uid)
        return found

    async def list_instances(
        self,
        study_instance_uid: str,
        on_found: OnFound | None = None,
        *,
        urgency: Urgent = opened,
        counted: int | None = None,
    ) -> InstanceList:
        """Every instance that the PACS lists, series by series as these are read; *on_found* is told as they come.
        *counted* is how many it says that the study has. What an answer leaves out is asked for by Instance Number.

        IMAGE level is asked for with the Series Instance UID, as the hierarchical model has it: some PACS
        answer nothing else (field note 3). One that answers neither is no error: the list is then not
        complete. Raises PacsError where the PACS cannot be reached.
        """
        found: dict[str, InstanceRef] = {}
        answered: dict[str, _Listed] = {}
        short: list[str] = []
        cut_at: int | None = None
        async with self._query(study_instance_uid, urgency) as association:
            try:
                series = await self._series(association, study_instance_uid)
                for one in series:
                    elsewhere = () if one.uid else found
                    listed = await self._list_series(
                        association, study_instance_uid, one, on_found, elsewhere=elsewhere
                    )
                    found.update((ref.sop_instance_uid, ref) for ref in listed.refs)
                    answered[one.uid] = listed
                for one in self._may_be_cut(series, answered, len(found), counted):
                    listed = answered[one.uid]
                    others = await self._list_others(
                        association, study_instance_uid, one, listed, on_found,
                        lacking=None if counted is None else counted - len(found),
                    )  # fmt: skip
                    found.update((ref.sop_instance_uid, ref) for ref in others.found)
                    now = len(listed.refs) + len(others.found)
                    if now < (one.instances or 0):
                        short.append(f"{now} of the {one.instances} instances of series {one.uid}")
                    elif not others.certain and one.instances is None and (counted is None or len(found) < counted):
                        short.append(f"{now} instances of series {one.uid}, where its answers may end")
                    if others.found or now < (one.instances or 0):
                        cut_at = max(cut_at or 0, listed.answers)
            except OperationFailed as e:
                return InstanceList(tuple(found.values()), False, str(e))
        if not found:
            what = "lists no series of the study" if not series else "lists series and none of their instances"
            return InstanceList((), False, f"{self.peer} {what}")
        if short:
            return InstanceList(
                tuple(found.values()), False, f"{self.peer} lists {short[0]}", short=True, cut_at=cut_at
            )
        return InstanceList(tuple(found.values()), True, cut_at=cut_at)

    def _may_be_cut(
        self, series: Sequence[_Series], answered: Mapping[str, _Listed], found: int, counted: int | None
    ) -> list[_Series]:
        """The series of which what was answered may be a part: it is less than is counted, or nothing is counted and it
        is as long as a limit may be."""
        short = [one for one in series if len(answered[one.uid].refs) < (one.instances or 0)]
        if counted is not None and found >= counted:
            return short
        uncounted = [one for one in series if one.instances is None and answered[one.uid].answers]
        longest = max((answered[one.uid].answers for one in uncounted), default=0)
        limits = {self.cuts_at, longest if counted is not None else None}
        return short + [
            one
            for one in uncounted
            if (n := answered[one.uid].answers) in limits or (counted is None and n % ROUND == 0)
        ]

    async def _list_others(
        self,
        association: Association,
        study_uid: str,
        series: _Series,
        listed: _Listed,
        on_found: OnFound | None,
        *,
        lacking: int | None,
    ) -> Others:
        """What *series* has besides what is *listed*; *lacking* is how many the study lacks, where it is counted."""

        async def ask(number: int) -> tuple[Sequence[InstanceRef], int]:
            answered = await self._list_series(association, study_uid, series, on_found, number=number)
            return answered.refs, answered.answers

        def lacks(found: int) -> bool:
            if series.instances is not None:
                return len(listed.refs) + found < series.instances
            return lacking is None or found < lacking

        return await the_others(ask, listed.refs, lacks=lacks)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the PACS lists an instance; False, too, where it answers no query at IMAGE level. Raises PacsError
        where it cannot be reached."""
        keys = {
            STUDY_INSTANCE_UID: study_instance_uid,
            SERIES_INSTANCE_UID: series_instance_uid,
            SOP_INSTANCE_UID: sop_instance_uid,
        }
        found = False
        async with self._query(study_instance_uid, ahead) as association:
            try:
                async for raw in self._find(association, "IMAGE", keys, {SOP_INSTANCE_UID}):
                    found |= string(raw.get(SOP_INSTANCE_UID)) == sop_instance_uid
            except OperationFailed as e:
                log.info("%s does not say whether it holds an instance: %s", self.peer, e)
        return found

    async def _list_series(
        self,
        association: Association,
        study_uid: str,
        series: _Series,
        on_found: OnFound | None,
        *,
        number: int | None = None,
        elsewhere: Container[str] = (),
    ) -> _Listed:
        """The instances of a series that it lists, but for those that are known to be *elsewhere*; with *number*, those
        that have this Instance Number."""
        keys = {
            STUDY_INSTANCE_UID: study_uid,
            SERIES_INSTANCE_UID: series.uid,
            SOP_INSTANCE_UID: "",
        } | dict.fromkeys(_TELLING, "")
        if self._lists_sop_classes:
            keys[SOP_CLASS_UID] = ""
        if number is not None:
            keys[INSTANCE_NUMBER] = str(number)
        refs: list[InstanceRef] = []
        told = dropped = 0
        async for raw in self._find(association, "IMAGE", keys, _IMAGE):
            uid, sop_class = string(raw.get(SOP_INSTANCE_UID)), string(raw.get(SOP_CLASS_UID))
            # A PACS that takes a key for a suggestion answers with other studies' instances, too.
            asked_for = (
                string(raw.get(STUDY_INSTANCE_UID)) in ("", study_uid)
                and string(raw.get(SERIES_INSTANCE_UID)) in ("", series.uid)
            )  # fmt: skip
            if asked_for and is_usable(uid) and uid not in elsewhere:
                refs.append(
                    InstanceRef(
                        series.uid,
                        uid,
                        sop_class if is_usable(sop_class) else "",
                        fingerprint(series.uid, (string(raw.get(tag)) for tag in _TELLING)),
                        series.modality,
                        series.description,
                        series.number,
                        integer(raw.get(INSTANCE_NUMBER)),
                    )
                )
            else:
                dropped += 1
            if on_found is not None and len(refs) - told >= TELL_EVERY:
                on_found(refs[told:])
                told = len(refs)
        if on_found is not None and told < len(refs):
            on_found(refs[told:])
        if dropped:
            which = series.uid or "without a UID"
            log.warning("%s lists %d instances that series %s cannot have", self.peer, dropped, which)
        return _Listed(refs, len(refs) + dropped)

    async def _find(
        self, association: Association, level: str, keys: dict[int, str], wanted: frozenset[int] | set[int]
    ) -> AsyncIterator[dict[int, bytes]]:
        context_id = association.context_for(STUDY_ROOT_FIND)
        syntax = association.contexts[context_id].transfer_syntaxes[0]
        command = request(association, dimse.C_FIND_RQ, STUDY_ROOT_FIND, data=True)
        await association.send(context_id, command, encode_identifier(level, keys, syntax))
        while True:
            reply = await response(association)
            if dimse.number(reply.command, dimse.STATUS) not in dimse.PENDING:
                raise_for_status(association.peer, reply, f"C-FIND at {level} level")
                return
            if reply.body is None:
                yield {}
                continue
            try:
                yield read_elements(reply.body.head(reply.body.size), syntax, wanted)
            except MalformedDataSet as e:
                log.warning("%s: an answer to a C-FIND at %s level cannot be read: %s", self.peer, level, e)
            finally:
                reply.close()


def the_one(records: Sequence[StudyRecord]) -> StudyRecord | None:
    """The record of a study, of all that a PACS answers for its UID; None where it answers none."""
    if not records:
        return None
    return replace(records[-1], disputed=len({r.patient_id for r in records}) > 1)


def fingerprint(series_instance_uid: str, values: Iterable[str]) -> str:
    """A few letters that stand for what a PACS lists of an instance; empty where it lists none of *values*."""
    said = list(values)
    if not any(said):
        return ""
    return hashlib.blake2b("\0".join((series_instance_uid, *said)).encode(), digest_size=6).hexdigest()


class _Enough(PacsError):
    """Leaves an association before its C-FIND has ended, by an abort."""


def _record(raw: dict[int, bytes]) -> StudyRecord:
    charset = raw.get(CHARACTER_SET, b"")

    def said(tag: int) -> str:
        # Of these only: 00A0 is the end of an à to a PACS that labels its UTF-8 as Latin-1.
        return text(raw.get(tag, b""), charset).strip(" \t\r\n\0")

    return StudyRecord(
        study_instance_uid=string(raw.get(STUDY_INSTANCE_UID)),
        instances=integer(raw.get(STUDY_INSTANCES)) or None,
        series=integer(raw.get(STUDY_SERIES)) or None,
        patient_id=said(PATIENT_ID),
        patient_name=said(PATIENT_NAME),
        patient_birth_date=said(PATIENT_BIRTH_DATE),
        patient_sex=said(PATIENT_SEX),
        issuer_of_patient_id=said(ISSUER_OF_PATIENT_ID),
        accession_number=said(ACCESSION_NUMBER),
        study_id=said(STUDY_ID),
        study_date=said(STUDY_DATE),
        study_time=said(STUDY_TIME),
        study_description=said(STUDY_DESCRIPTION),
        referring_physician=said(REFERRING_PHYSICIAN),
        modalities="\\".join(sorted({m.strip() for m in said(MODALITIES_IN_STUDY).split("\\")} - {""})),
        specific_character_set=string(charset),
    )
