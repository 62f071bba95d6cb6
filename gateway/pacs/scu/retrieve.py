"""How instances are retrieved: the interface that every method has, and what C-MOVE and C-GET share.

PS3.4 C.4.2 (C-MOVE) and C.4.3 (C-GET) differ in where the instances come from, not in how they are asked for
nor in how the PACS reports the result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.dicom import MalformedDataSet, is_usable, read_elements, string, tags
from gateway.pacs import (
    Breaker,
    Claim,
    InstanceHandler,
    OperationFailed,
    Peer,
    ProtocolViolation,
    Urgent,
    background,
    interactive,
)
from gateway.pacs.scu.identifier import encode_identifier
from gateway.pacs.scu.results import InstanceList, OnFound, StudiesFound, StudyRecord
from gateway.pacs.upper import Message, dimse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be retrieved: a study, a series of it, or instances of a series."""

    study_instance_uid: str
    series_instance_uid: str | None = None
    """Empty for one that has none: its instances are asked for by themselves."""
    sop_instance_uids: tuple[str, ...] = ()
    sop_class_uids: tuple[str, ...] = ()
    """The SOP classes of what is selected, as far as the PACS lists them."""

    def identifier(self, transfer_syntax_uid: str) -> bytes:
        """The identifier of a C-MOVE or C-GET request (PS3.4 C.4.2.1.4)."""
        keys = {tags.STUDY_INSTANCE_UID: self.study_instance_uid}
        level = "STUDY"
        if self.series_instance_uid:
            level, keys[tags.SERIES_INSTANCE_UID] = "SERIES", self.series_instance_uid
        if self.sop_instance_uids:
            level, keys[tags.SOP_INSTANCE_UID] = "IMAGE", "\\".join(self.sop_instance_uids)
        return encode_identifier(level, keys, transfer_syntax_uid)


class Retriever(Protocol):
    """One method of bringing instances here from one PACS."""

    @property
    def method(self) -> str:
        """Its name in the standard: ``C-MOVE``, ``C-GET``, ``WADO-RS``."""

    @property
    def comes_apart(self) -> bool:
        """Whether instances come on other connections, so that some may still come once it has ended."""

    @property
    def remedy(self) -> str:
        """What an operator has to see to, for it to work."""

    async def retrieve(
        self,
        selection: Selection,
        *,
        turn: Claim,
        deliver: InstanceHandler,
        last_arrival: Callable[[], float],
        total_limit: float,
    ) -> None:
        """Brings *selection* here: every instance goes to *deliver*, or to the handler of our Storage SCP, as it comes.

        *turn* is the turn at the PACS that it waits for. *last_arrival* says when an instance last came in (monotonic
        seconds), for a method that does not see them; *total_limit* (seconds) caps the whole. Raises PacsError where
        the PACS says, or shows, that something went wrong; what had come by then stays. That nothing is raised proves
        nothing (field note 1). Cancelled, it ends the transfer.
        """


class Finder(Protocol):
    """One way of asking a PACS what it has."""

    @property
    def service(self) -> str:
        """Its name in the standard: ``C-FIND``, ``QIDO-RS``."""

    @property
    def breaker(self) -> Breaker:
        """Whether it answers."""

    async def find_study(self, study_instance_uid: str, *, urgency: Urgent = interactive) -> StudyRecord | None:
        """The study; None where the PACS has none. Raises PacsError."""

    async def find_studies(
        self, study_instance_uids: Sequence[str], *, urgency: Urgent = background, in_a_list: bool = True
    ) -> StudiesFound:
        """Several studies, by as few questions as the PACS lets it; *in_a_list* says whether all are asked for at once
        first. Raises PacsError."""

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """Study Instance UIDs of up to *limit* studies; *study_date* may be a range. Raises PacsError."""

    async def studies_of(self, *, patient_id: str = "", accession_number: str = "") -> list[str]:
        """Study Instance UIDs of the studies that have exactly this. Raises PacsError."""

    async def list_instances(
        self,
        study_instance_uid: str,
        on_found: OnFound | None = None,
        *,
        urgency: Urgent = interactive,
        counted: int | None = None,
    ) -> InstanceList:
        """Every instance that the PACS lists; *on_found* is told of them as they come. *counted* is how many it says
        that there are. Raises PacsError."""

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the PACS lists an instance. Raises PacsError where it cannot be reached."""


@dataclass(frozen=True, slots=True)
class SubOperations:
    """The final response to a C-MOVE or C-GET. Counters that the PACS left out are None; none of them is proof of
    what arrived (field note 1)."""

    status: int
    completed: int | None
    failed: int | None
    warning: int | None
    failed_sop_instance_uids: tuple[str, ...] = ()
    comment: str = ""

    def raise_for_failures(self, peer: Peer, method: str) -> None:
        """Raises OperationFailed where the PACS says that not all went well."""
        if self.status != 0:
            why = "; could it connect to us, and does it know our address? avara-gateway check tries it"
            raise OperationFailed(
                f"PACS {peer.name} ended the {method} with status {self.status:04X}"
                + (why if self.status == OUT_OF_RESOURCES_SUB_OPERATIONS and method == "C-MOVE" else ""),
                status=self.status,
                remark=self.comment,
                transient=True,
            )


OUT_OF_RESOURCES_SUB_OPERATIONS = 0xA702
"""PS3.4 Table C.4-2; what many answer where the destination cannot be connected to."""


def sub_operations(peer: Peer, reply: Message, transfer_syntax_uid: str, method: str) -> SubOperations:
    """What the final response *reply*, which it closes, says. Raises ProtocolViolation."""
    command = reply.command
    status = dimse.number(command, dimse.STATUS)
    if status is None:
        raise ProtocolViolation(f"{peer}: a {method} response without a status")
    failed: tuple[str, ...] = ()
    if reply.body is not None:
        try:
            raw = read_elements(
                reply.body.head(reply.body.size), transfer_syntax_uid, {tags.FAILED_SOP_INSTANCE_UID_LIST}
            )
            failed = tuple(
                uid for uid in string(raw.get(tags.FAILED_SOP_INSTANCE_UID_LIST)).split("\\") if is_usable(uid)
            )
        except MalformedDataSet:
            log.info("%s: the list of failed instances in a %s response cannot be read", peer, method)
        reply.close()
    return SubOperations(
        status,
        dimse.number(command, dimse.COMPLETED),
        dimse.number(command, dimse.FAILED),
        dimse.number(command, dimse.WARNING),
        failed,
        dimse.string(command, dimse.ERROR_COMMENT),
    )
