"""What we ask of a PACS as SCU: echo, find a study, list its instances, move them (PS3.4 Annexes A, C)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from gateway.pacs import dimse
from gateway.pacs.association import Association
from gateway.pacs.elements import MalformedDataSet, integer, read_elements, string, text
from gateway.pacs.errors import (
    AssociationRejected,
    OperationFailed,
    PacsError,
    PacsUnreachable,
    ProtocolViolation,
    UnknownMoveDestination,
)
from gateway.pacs.identifier import encode_identifier
from gateway.pacs.link import Message
from gateway.pacs.negotiation import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, VERIFICATION, Context
from gateway.pacs.peer import Peer
from gateway.uid import is_uid

log = logging.getLogger(__name__)

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_SYNTAXES = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)

CHARACTER_SET, QUERY_LEVEL = 0x00080005, 0x00080052
STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, REFERRING_PHYSICIAN = 0x00080020, 0x00080030, 0x00080050, 0x00080090
STUDY_DESCRIPTION, SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00081030, 0x00080016, 0x00080018
PATIENT_NAME, PATIENT_ID, ISSUER_OF_PATIENT_ID = 0x00100010, 0x00100020, 0x00100021
PATIENT_BIRTH_DATE, PATIENT_SEX = 0x00100030, 0x00100040
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, STUDY_ID = 0x0020000D, 0x0020000E, 0x00200010
STUDY_SERIES, STUDY_INSTANCES = 0x00201206, 0x00201208
FAILED_SOP_INSTANCES = 0x00080058

MOVE_DESTINATION_UNKNOWN = 0xA801
IDENTIFIER_DOES_NOT_MATCH = 0xA900
CANCELLED = 0xFE00

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


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An instance that a PACS lists."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    """Empty where the PACS does not say."""


@dataclass(frozen=True, slots=True)
class InstanceList:
    """The instances of a study, as far as the PACS lists them."""

    instances: tuple[InstanceRef, ...]
    complete: bool
    """False: this PACS could not be made to list them all."""
    reason: str = ""
    """Why not, for the operator."""


@dataclass(frozen=True, slots=True)
class MoveOutcome:
    """The final response to a C-MOVE. Counters that the PACS left out are None; none of them is proof of
    what arrived (field note 1)."""

    status: int
    completed: int | None
    failed: int | None
    warning: int | None
    failed_sop_instance_uids: tuple[str, ...] = ()
    comment: str = ""


OnFound = Callable[[Sequence[InstanceRef]], None]

_RECORD = frozenset((
    CHARACTER_SET, STUDY_DATE, STUDY_TIME, ACCESSION_NUMBER, REFERRING_PHYSICIAN, STUDY_DESCRIPTION, PATIENT_NAME,
    PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_BIRTH_DATE, PATIENT_SEX, STUDY_INSTANCE_UID, STUDY_ID, STUDY_SERIES,
    STUDY_INSTANCES,
))  # fmt: skip
_SERIES = frozenset((STUDY_INSTANCE_UID, SERIES_INSTANCE_UID))
_IMAGE = frozenset((STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID, SOP_CLASS_UID))


class PacsClient:
    """Requests to one PACS; at most ``peer.max_associations`` at once, the others wait their turn."""

    def __init__(self, peer: Peer, *, advertised: str, lists_sop_classes: bool = True) -> None:
        """*advertised* is how the PACS has to know us, for messages: ``AVARAGW at 10.1.2.3:11112``.

        *lists_sop_classes* asks for the SOP Class UID with each listed instance. It is needed to propose contexts
        for a C-GET; Orthanc reads each instance's file for it, which makes the list four times slower.
        """
        self.peer = peer
        self._advertised = advertised
        self._lists_sop_classes = lists_sop_classes
        self._turns = asyncio.Semaphore(peer.max_associations)

    @asynccontextmanager
    async def association(self, contexts: Sequence[Context]) -> AsyncIterator[Association]:
        """An association of ours with it, when its turn comes. Raises PacsError."""
        async with self._turns:
            async with await self._open(contexts) as association:
                yield association

    def _association(self, *abstract_syntaxes: str) -> AbstractAsyncContextManager[Association]:
        return self.association([Context(syntax, _SYNTAXES) for syntax in abstract_syntaxes])

    async def _open(self, contexts: Sequence[Context]) -> Association:
        pause = 0.25  # seconds
        for _ in range(BUSY_RETRIES):
            try:
                return await Association.open(self.peer, contexts)
            except AssociationRejected as e:
                if not e.transient:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  (no secret depends on it)
            pause *= 2
        return await Association.open(self.peer, contexts)

    async def echo(self) -> None:
        """C-ECHO (PS3.7 §9.1.5). Raises PacsError."""
        async with self._association(VERIFICATION) as association:
            command = self._request(association, dimse.C_ECHO_RQ, VERIFICATION, data=False)
            await association.send(association.context_for(VERIFICATION), command)
            reply = await self._response(association)
            self._raise_for(dimse.number(reply.command, dimse.STATUS), reply, "C-ECHO")

    async def find_study(self, study_instance_uid: str) -> StudyRecord | None:
        """The study, by a C-FIND at STUDY level; None where the PACS has none. Raises PacsError."""
        keys = dict.fromkeys(_RECORD - {CHARACTER_SET}, "") | {STUDY_INSTANCE_UID: study_instance_uid}
        record = None
        async with self._association(STUDY_ROOT_FIND) as association:
            async for raw in self._find(association, "STUDY", keys, _RECORD):
                if string(raw.get(STUDY_INSTANCE_UID)) == study_instance_uid:
                    record = _record(raw)
        return record

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """Study Instance UIDs of up to *limit* studies; *study_date* may be a range. Raises PacsError."""
        found: list[str] = []
        keys = {STUDY_INSTANCE_UID: "", STUDY_DATE: study_date}
        try:
            async with self._association(STUDY_ROOT_FIND) as association:
                async for raw in self._find(association, "STUDY", keys, {STUDY_INSTANCE_UID}):
                    uid = string(raw.get(STUDY_INSTANCE_UID))
                    if is_uid(uid):
                        found.append(uid)
                    if len(found) >= limit:
                        raise _Enough
        except _Enough:
            pass
        return found

    async def list_instances(self, study_instance_uid: str, on_found: OnFound | None = None) -> InstanceList:
        """Every instance that the PACS lists, series by series; *on_found* is told of them as they come.

        IMAGE level is asked for with the Series Instance UID, as the hierarchical model has it: some PACS
        answer nothing else (field note 3). One that answers neither is no error: the list is then not
        complete. Raises PacsError where the PACS cannot be reached.
        """
        found: dict[str, InstanceRef] = {}
        async with self._association(STUDY_ROOT_FIND) as association:
            try:
                keys = {STUDY_INSTANCE_UID: study_instance_uid, SERIES_INSTANCE_UID: ""}
                series = [
                    string(raw.get(SERIES_INSTANCE_UID))
                    async for raw in self._find(association, "SERIES", keys, _SERIES)
                    if string(raw.get(STUDY_INSTANCE_UID)) in ("", study_instance_uid)
                ]
                for series_uid in dict.fromkeys(uid for uid in series if is_uid(uid)):
                    listed = await self._list_series(association, study_instance_uid, series_uid, on_found)
                    if not listed:
                        return InstanceList(
                            tuple(found.values()),
                            False,
                            f"{self.peer} lists series {series_uid} and none of its instances",
                        )
                    found.update((ref.sop_instance_uid, ref) for ref in listed)
            except OperationFailed as e:
                return InstanceList(tuple(found.values()), False, str(e))
        if not found:
            return InstanceList((), False, f"{self.peer} lists no series of the study")
        return InstanceList(tuple(found.values()), True)

    async def _list_series(
        self, association: Association, study_uid: str, series_uid: str, on_found: OnFound | None
    ) -> list[InstanceRef]:
        keys = {
            STUDY_INSTANCE_UID: study_uid,
            SERIES_INSTANCE_UID: series_uid,
            SOP_INSTANCE_UID: "",
        }
        if self._lists_sop_classes:
            keys[SOP_CLASS_UID] = ""
        refs: list[InstanceRef] = []
        told = dropped = 0
        async for raw in self._find(association, "IMAGE", keys, _IMAGE):
            uid, sop_class = string(raw.get(SOP_INSTANCE_UID)), string(raw.get(SOP_CLASS_UID))
            # A PACS that takes a key for a suggestion answers with other studies' instances, too.
            asked_for = (
                string(raw.get(STUDY_INSTANCE_UID)) in ("", study_uid)
                and string(raw.get(SERIES_INSTANCE_UID)) in ("", series_uid)
            )  # fmt: skip
            if asked_for and is_uid(uid):
                refs.append(InstanceRef(series_uid, uid, sop_class if is_uid(sop_class) else ""))
            else:
                dropped += 1
            if on_found is not None and len(refs) - told >= TELL_EVERY:
                on_found(refs[told:])
                told = len(refs)
        if on_found is not None and told < len(refs):
            on_found(refs[told:])
        if dropped:
            log.warning("%s lists %d instances that series %s cannot have", self.peer, dropped, series_uid)
        return refs

    async def move(
        self,
        study_instance_uid: str,
        *,
        series_instance_uid: str | None = None,
        sop_instance_uids: Sequence[str] = (),
        destination: str,
        last_arrival: Callable[[], float],
        total_limit: float,
    ) -> MoveOutcome:
        """C-MOVE of a study, one series of it, or some instances of a series, to AE *destination*.

        *last_arrival* says when an instance last came in (monotonic seconds): a PACS that sends no pending
        responses is idle only once nothing arrives either (field note 5). *total_limit* (seconds) caps the
        whole. Raises PacsError; cancelled, it aborts the association.
        """
        keys = {STUDY_INSTANCE_UID: study_instance_uid}
        level = "STUDY"
        if series_instance_uid is not None:
            level, keys[SERIES_INSTANCE_UID] = "SERIES", series_instance_uid
        if sop_instance_uids:
            level, keys[SOP_INSTANCE_UID] = "IMAGE", "\\".join(sop_instance_uids)
        async with self._association(STUDY_ROOT_MOVE) as association:
            context_id = association.context_for(STUDY_ROOT_MOVE)
            command = self._request(association, dimse.C_MOVE_RQ, STUDY_ROOT_MOVE, data=True)
            command[dimse.MOVE_DESTINATION] = destination
            syntax = association.contexts[context_id].transfer_syntaxes[0]
            await association.send(context_id, command, encode_identifier(level, keys, syntax))
            try:
                async with asyncio.timeout(total_limit):
                    while True:
                        reply = await self._response(association, also_alive=last_arrival)
                        status = dimse.number(reply.command, dimse.STATUS)
                        if status not in dimse.PENDING:
                            break
                        reply.close()
            except TimeoutError as e:
                raise PacsUnreachable(f"{self.peer}: a C-MOVE that took over {total_limit:g} s was given up") from e
        return self._moved(reply, syntax)

    def _moved(self, reply: Message, syntax: str) -> MoveOutcome:
        command = reply.command
        status = dimse.number(command, dimse.STATUS)
        comment = dimse.string(command, dimse.ERROR_COMMENT)
        if status is None:
            raise ProtocolViolation(f"{self.peer}: a C-MOVE response without a status")
        if status == MOVE_DESTINATION_UNKNOWN:
            raise UnknownMoveDestination(
                f"{self.peer} does not know the move destination: register {self._advertised} in it as a destination",
                status=status,
                transient=False,
            )
        failed: tuple[str, ...] = ()
        if reply.body is not None:
            try:
                raw = read_elements(reply.body.head(reply.body.size), syntax, {FAILED_SOP_INSTANCES})
                failed = tuple(uid for uid in string(raw.get(FAILED_SOP_INSTANCES)).split("\\") if is_uid(uid))
            except MalformedDataSet:
                log.info("%s: the list of failed instances in a C-MOVE response cannot be read", self.peer)
            reply.close()
        outcome = MoveOutcome(
            status,
            dimse.number(command, dimse.COMPLETED),
            dimse.number(command, dimse.FAILED),
            dimse.number(command, dimse.WARNING),
            failed,
            comment,
        )
        if status == IDENTIFIER_DOES_NOT_MATCH or 0xC000 <= status <= 0xCFFF:
            self._raise_for(status, reply, "C-MOVE", f"; is {self._advertised} registered in it, and does it reach us?")
        return outcome

    # -- what requests share

    @staticmethod
    def _request(association: Association, field: int, sop_class_uid: str, *, data: bool) -> dict[int, int | str]:
        command: dict[int, int | str] = {
            dimse.COMMAND_FIELD: field,
            dimse.MESSAGE_ID: association.next_message_id(),
            dimse.AFFECTED_SOP_CLASS_UID: sop_class_uid,
            dimse.DATA_SET_TYPE: 1 if data else dimse.NO_DATA_SET,
        }
        if data:
            command[dimse.PRIORITY] = 0  # medium
        return command

    async def _find(
        self, association: Association, level: str, keys: dict[int, str], wanted: frozenset[int] | set[int]
    ) -> AsyncIterator[dict[int, bytes]]:
        context_id = association.context_for(STUDY_ROOT_FIND)
        syntax = association.contexts[context_id].transfer_syntaxes[0]
        command = self._request(association, dimse.C_FIND_RQ, STUDY_ROOT_FIND, data=True)
        await association.send(context_id, command, encode_identifier(level, keys, syntax))
        while True:
            reply = await self._response(association)
            status = dimse.number(reply.command, dimse.STATUS)
            if status not in dimse.PENDING:
                self._raise_for(status, reply, f"C-FIND at {level} level")
                return
            if reply.body is None:
                continue
            try:
                yield read_elements(reply.body.head(reply.body.size), syntax, wanted)
            except MalformedDataSet as e:
                log.warning("%s: an answer to a C-FIND at %s level cannot be read: %s", self.peer, level, e)
            finally:
                reply.close()

    async def _response(self, association: Association, *, also_alive: Callable[[], float] | None = None) -> Message:
        """The next response. *also_alive* (monotonic seconds) is another sign of life than this association."""
        silent_since = time.monotonic()
        limit = self.peer.timeouts.respond if also_alive is None else self.peer.timeouts.idle
        while True:
            alive = silent_since if also_alive is None else max(silent_since, also_alive())
            left = alive + limit - time.monotonic()
            if left <= 0:
                raise PacsUnreachable(
                    f"{self.peer} took our request and then was silent for {limit:g} s"
                    + (f": can it open a connection to {self._advertised}?" if also_alive is not None else "")
                )
            try:
                reply = await association.receive(left)
            except TimeoutError:
                continue
            if not dimse.number(reply.command, dimse.COMMAND_FIELD) or dimse.STATUS not in reply.command:
                raise ProtocolViolation(f"{self.peer} sent something else than a response")
            return reply

    def _raise_for(self, status: int | None, reply: Message, what: str, hint: str = "") -> None:
        if status == 0x0000:
            return
        if status is None:
            raise ProtocolViolation(f"{self.peer}: a response to {what} without a status")
        comment = dimse.string(reply.command, dimse.ERROR_COMMENT)
        raise OperationFailed(
            f"{self.peer} answers {what} with status {status:04X}{f' ({comment})' if comment else ''}{hint}",
            status=status,
            transient=0xA700 <= status <= 0xA7FF or status == 0x0122,
        )


class _Enough(PacsError):
    """Leaves an association before its C-FIND has ended, by an abort."""


def _record(raw: dict[int, bytes]) -> StudyRecord:
    charset = raw.get(CHARACTER_SET, b"")

    def said(tag: int) -> str:
        return text(raw.get(tag, b""), charset).strip()

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
    )
