"""A-ASSOCIATE: what is proposed and what is accepted (PS3.8 §7.1, PS3.7 Annex D).

What the PDUs look like is in :mod:`gateway.pacs.upper.pdus`; what they mean, and what to accept, here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.dicom import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_LITTLE_ENDIAN,
    STORAGE_COMMITMENT,
)
from gateway.pacs import ProtocolViolation
from gateway.pacs.upper import pdus
from gateway.pacs.upper.pdus import ContextItem, Titles
from gateway.pacs.upper.wire import ASSOCIATE_AC, ASSOCIATE_RJ, MAX_PDU

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context: what it carries, and how that is encoded."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    """Proposed ones in order of preference; of an accepted context, the one that was chosen."""
    as_scp: bool = False
    """Whether the requestor plays the SCP in it (PS3.7 D.3.3.4), as for the C-STOREs of a C-GET."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An association that stands, from either side."""

    contexts: Mapping[int, Context]
    """By presentation context ID, the accepted ones."""
    max_pdu: int
    """Bytes of a P-DATA-TF PDU that the other side takes."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    result: int
    """1 permanent, 2 transient."""
    source: int
    """1 service user, 2 service provider (ACSE), 3 service provider (presentation)."""
    reason: int

    @property
    def transient(self) -> bool:
        """Whether the same request may be accepted later."""
        return self.result == 2

    def __str__(self) -> str:
        return _REASONS.get((self.source, self.reason), f"source {self.source}, reason {self.reason}")


CALLING_AE_NOT_RECOGNIZED = Rejected(1, 1, 3)
CALLED_AE_NOT_RECOGNIZED = Rejected(1, 1, 7)
APPLICATION_CONTEXT_NOT_SUPPORTED = Rejected(1, 1, 2)
PROTOCOL_VERSION_NOT_SUPPORTED = Rejected(1, 2, 2)
LOCAL_LIMIT_EXCEEDED = Rejected(2, 3, 2)

_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given by its ACSE",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded: too many associations",
}

UNLIMITED = 128 * 1024
"""Bytes of our PDUs to a peer that names no limit (0, PS3.8 D.1.1)."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An A-ASSOCIATE-RQ, as far as anybody here asks."""

    calling_ae_title: str
    called_ae_title: str
    application_context: str
    contexts: Mapping[int, Context]
    max_pdu: int
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    """SOP Class UID → (requestor as SCU, requestor as SCP), where it asked for roles (PS3.7 D.3.3.4)."""
    protocol_versions: int = 1
    """A bit a version; the only one there is has bit 0 (PS3.8 Table 9-11)."""


Chooses = Callable[[Context], str | None]
"""A proposed context → the transfer syntax to accept it with, None where its abstract syntax is not served,
the empty string where none of its transfer syntaxes is."""


def _user_information(roles: Mapping[str, tuple[bool, bool]]) -> bytes:
    return pdus.user_information(MAX_PDU, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, roles)


def request_pdu(calling_ae_title: str, called_ae_title: str, contexts: Sequence[Context]) -> bytes:
    """An A-ASSOCIATE-RQ that proposes *contexts* under the IDs 1, 3, 5, …; 128 at most (PS3.8 §9.3.2.2)."""
    items = [
        pdus.context_item(pdus.REQUESTED_CONTEXT, ContextItem(2 * n + 1, 0, c.abstract_syntax, c.transfer_syntaxes))
        for n, c in enumerate(contexts)
    ]
    roles = {c.abstract_syntax: (False, True) for c in contexts if c.as_scp}
    return pdus.associate_rq(called_ae_title, calling_ae_title, APPLICATION_CONTEXT, [*items, _user_information(roles)])


def read_request(content: bytes, titles: Titles | None = None) -> Proposal:
    """The proposal in the content of an A-ASSOCIATE-RQ, whose *titles* may have been read, and judged, before.

    Raises ProtocolViolation.
    """
    titles = titles or pdus.read_titles(content)
    items = pdus.read_items(content)
    return Proposal(
        titles.calling,
        titles.called,
        items.application_context,
        {c.context_id: Context(c.abstract_syntax, c.transfer_syntaxes) for c in items.contexts},
        _max_pdu(items.max_length),
        items.roles,
        titles.protocol_versions,
    )


def accept(proposal: Proposal, content: bytes, chooses: Chooses) -> tuple[Accepted, bytes]:
    """What we accept of *proposal*, and the A-ASSOCIATE-AC that says so."""
    accepted: dict[int, Context] = {}
    items = []
    for context_id, context in proposal.contexts.items():
        chosen = chooses(context)
        if chosen:
            accepted[context_id] = Context(context.abstract_syntax, (chosen,))
            result = ContextItem(context_id, 0, "", (chosen,))
        else:
            refusal = ABSTRACT_SYNTAX_NOT_SUPPORTED if chosen is None else TRANSFER_SYNTAXES_NOT_SUPPORTED
            # What it proposed may be no UID at all; of a refused context only ID and reason are read (PS3.8 §9.3.3.2).
            result = ContextItem(context_id, refusal, "", (IMPLICIT_LITTLE_ENDIAN,))
        items.append(pdus.context_item(pdus.ACCEPTED_CONTEXT, result))
    served = {c.abstract_syntax for c in accepted.values()}
    # We are the SCP of whatever we accept; a requestor that wants to be one is told no. Where it wants nothing
    # else, silence says so: without an answer the default roles hold (PS3.7 D.3.3.4.2). A PACS that brings the
    # result of a storage commitment is its SCP, though.
    roles = {
        s: (scu, True) if s == STORAGE_COMMITMENT and scp else (True, False)
        for s, (scu, scp) in proposal.roles.items()
        if s in served and (scu or s == STORAGE_COMMITMENT)
    }
    answer = pdus.associate_ac(content, APPLICATION_CONTEXT, [*items, _user_information(roles)])
    return Accepted(accepted, proposal.max_pdu), answer


def reject_pdu(rejected: Rejected) -> bytes:
    """The A-ASSOCIATE-RJ that says *rejected*."""
    return pdus.associate_rj(rejected.result, rejected.source, rejected.reason)


def read_answer(pdu_type: int, content: bytes, proposed: Sequence[Context]) -> Accepted | Rejected:
    """What the other side said to :func:`request_pdu`. Raises ProtocolViolation."""
    if pdu_type == ASSOCIATE_RJ:
        if len(content) < 4:
            raise ProtocolViolation("an A-ASSOCIATE-RJ that ends within its reason")
        return Rejected(*content[1:4])
    if pdu_type != ASSOCIATE_AC:
        raise ProtocolViolation(f"the answer to an A-ASSOCIATE-RQ is a PDU of type {pdu_type:#04x}")
    items = pdus.read_items(content)
    accepted = {}
    for item in items.contexts:
        at = (item.context_id - 1) // 2
        if item.result != 0 or item.context_id % 2 == 0 or at >= len(proposed):
            continue
        wanted = proposed[at]
        # Some leave the accepted syntax out where there was nothing to choose.
        syntax = next((s for s in item.transfer_syntaxes if s), "") or (
            wanted.transfer_syntaxes[0] if len(wanted.transfer_syntaxes) == 1 else ""
        )
        if syntax:
            # Only a clear no counts: some PACS say nothing of the role, and send all the same.
            _, scp = items.roles.get(wanted.abstract_syntax, (True, True))
            accepted[item.context_id] = Context(wanted.abstract_syntax, (syntax,), wanted.as_scp and scp)
    return Accepted(accepted, _max_pdu(items.max_length))


def _max_pdu(length: int) -> int:
    if not length:
        return UNLIMITED
    # Less than this is no room for a header and some data; nobody means it.
    return min(max(length, 128), 4 * UNLIMITED)
