"""A-ASSOCIATE: what is proposed and what is accepted (PS3.8 §7.1, PS3.7 Annex D).

The PDUs are read and written by pynetdicom's codecs; what to accept is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext

from gateway.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.sop_classes import STORAGE_COMMITMENT, VERIFICATION
from gateway.dicom.syntaxes import IMPLICIT_LITTLE_ENDIAN
from gateway.pacs.errors import ProtocolViolation
from gateway.pacs.upper.link import ASSOCIATE_AC, ASSOCIATE_RJ, ASSOCIATE_RQ, MAX_PDU

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


def _user_information(primitive: A_ASSOCIATE, roles: Iterable[SCP_SCU_RoleSelectionNegotiation] = ()) -> None:
    length = MaximumLengthNotification()
    length.maximum_length_received = MAX_PDU
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    primitive.user_information = [length, implementation, version, *roles]


def _role(abstract_syntax: str, *, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = abstract_syntax
    role.scu_role, role.scp_role = scu, scp
    return role


def _context(context_id: int, context: Context, result: int | None = None) -> PresentationContext:
    item = PresentationContext()
    item.context_id = context_id
    item.abstract_syntax = context.abstract_syntax
    item.transfer_syntax = list(context.transfer_syntaxes)
    if result is not None:
        item.result = result
    return item


def request_pdu(calling_ae_title: str, called_ae_title: str, contexts: Sequence[Context]) -> bytes:
    """An A-ASSOCIATE-RQ that proposes *contexts* under the IDs 1, 3, 5, …; 128 at most (PS3.8 §9.3.2.2)."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title = calling_ae_title
    primitive.called_ae_title = called_ae_title
    primitive.presentation_context_definition_list = [_context(2 * n + 1, c) for n, c in enumerate(contexts)]
    scps = dict.fromkeys(c.abstract_syntax for c in contexts if c.as_scp)
    _user_information(primitive, [_role(syntax, scu=False, scp=True) for syntax in scps])
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    encoded: bytes = pdu.encode()
    return encoded


def read_request(content: bytes) -> Proposal:
    """The proposal in the content of an A-ASSOCIATE-RQ. Raises ProtocolViolation."""
    primitive = _decode(A_ASSOCIATE_RQ(), ASSOCIATE_RQ, content)
    try:
        roles = {
            str(item.sop_class_uid): (bool(item.scu_role), bool(item.scp_role))
            for item in primitive.user_information
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
        }
        contexts = {
            item.context_id or 0: Context(str(item.abstract_syntax), tuple(str(t) for t in item.transfer_syntax))
            for item in primitive.presentation_context_definition_list
        }
        return Proposal(
            primitive.calling_ae_title.strip(),
            primitive.called_ae_title.strip(),
            str(primitive.application_context_name or ""),
            contexts,
            _max_pdu(primitive),
            roles,
            int.from_bytes(content[:2], "big"),
        )
    except (AttributeError, TypeError, ValueError) as e:
        raise ProtocolViolation("an A-ASSOCIATE-RQ that lacks a mandatory item") from e


def accept(proposal: Proposal, content: bytes, chooses: Chooses) -> tuple[Accepted, bytes]:
    """What we accept of *proposal*, and the A-ASSOCIATE-AC that says so."""
    primitive = _decode(A_ASSOCIATE_RQ(), ASSOCIATE_RQ, content)
    accepted: dict[int, Context] = {}
    results = []
    for context_id, context in proposal.contexts.items():
        chosen = chooses(context)
        if chosen:
            accepted[context_id] = Context(context.abstract_syntax, (chosen,))
            results.append(_context(context_id, accepted[context_id], 0))
        else:
            refusal = ABSTRACT_SYNTAX_NOT_SUPPORTED if chosen is None else TRANSFER_SYNTAXES_NOT_SUPPORTED
            # What it proposed may be no UID at all; of a refused context only ID and reason are read (PS3.8 §9.3.3.2).
            results.append(_context(context_id, Context(VERIFICATION, (IMPLICIT_LITTLE_ENDIAN,)), refusal))
    primitive.presentation_context_definition_results_list = results
    primitive.result, primitive.result_source = 0, 1
    served = {c.abstract_syntax for c in accepted.values()}
    # We are the SCP of whatever we accept; a requestor that wants to be one is told no. Where it wants nothing
    # else, silence says so: without an answer the default roles hold (PS3.7 D.3.3.4.2). A PACS that brings the
    # result of a storage commitment is its SCP, though.
    roles = [
        _role(s, scu=scu, scp=True) if s == STORAGE_COMMITMENT and scp else _role(s, scu=True, scp=False)
        for s, (scu, scp) in proposal.roles.items()
        if s in served and (scu or s == STORAGE_COMMITMENT)
    ]
    _user_information(primitive, roles)
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return Accepted(accepted, proposal.max_pdu), pdu.encode()


def reject_pdu(rejected: Rejected) -> bytes:
    """The A-ASSOCIATE-RJ that says *rejected*."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, rejected.result, rejected.source, rejected.reason))


def read_answer(pdu_type: int, content: bytes, proposed: Sequence[Context]) -> Accepted | Rejected:
    """What the other side said to :func:`request_pdu`. Raises ProtocolViolation."""
    if pdu_type == ASSOCIATE_RJ:
        primitive = _decode(A_ASSOCIATE_RJ(), ASSOCIATE_RJ, content)
        return Rejected(primitive.result or 0, primitive.result_source or 0, primitive.diagnostic or 0)
    if pdu_type != ASSOCIATE_AC:
        raise ProtocolViolation(f"the answer to an A-ASSOCIATE-RQ is a PDU of type {pdu_type:#04x}")
    primitive = _decode(A_ASSOCIATE_AC(), ASSOCIATE_AC, content)
    by_id = {2 * n + 1: c for n, c in enumerate(proposed)}
    # Only a clear no counts: some PACS say nothing, and send all the same.
    no_scp = {
        str(item.sop_class_uid)
        for item in primitive.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and not item.scp_role
    }
    accepted = {}
    for item in primitive.presentation_context_definition_results_list:
        context_id = item.context_id or 0
        wanted = by_id.get(context_id)
        if item.result == 0 and wanted is not None and item.transfer_syntax:
            as_scp = wanted.as_scp and wanted.abstract_syntax not in no_scp
            accepted[context_id] = Context(wanted.abstract_syntax, (str(item.transfer_syntax[0]),), as_scp)
    return Accepted(accepted, _max_pdu(primitive))


_FIXED = 68
"""Bytes of an A-ASSOCIATE-RQ or -AC before its items (PS3.8 Tables 9-11 and 9-17)."""

_USER_INFORMATION = 0x50
_ITEMS = {ASSOCIATE_RQ: frozenset((0x10, 0x20, _USER_INFORMATION)), ASSOCIATE_AC: frozenset((0x10, 0x21, 0x50))}
_SUB_ITEMS = frozenset(range(0x51, 0x5A))


def _decode(pdu: A_ASSOCIATE_RQ | A_ASSOCIATE_AC | A_ASSOCIATE_RJ, pdu_type: int, content: bytes) -> A_ASSOCIATE:
    if pdu_type in _ITEMS:
        content = content[:_FIXED] + _known_items(content[_FIXED:], _ITEMS[pdu_type])
    header = bytes((pdu_type, 0)) + len(content).to_bytes(4, "big")
    try:
        pdu.decode(header + content)
        return pdu.to_primitive()
    except Exception as e:  # the codec meets bytes from outside, and raises whatever they lead it to
        raise ProtocolViolation(f"a PDU of type {pdu_type:#04x} that cannot be read") from e


def _known_items(items: bytes, known: frozenset[int]) -> bytes:
    """*items* without those of a type that nobody knows: they are to be ignored (PS3.8 §9.3.1)."""
    kept, at = [], 0
    while at + 4 <= len(items):
        end = at + 4 + int.from_bytes(items[at + 2 : at + 4], "big")
        if end > len(items):
            raise ProtocolViolation("a PDU with an item that is longer than itself")
        if items[at] == _USER_INFORMATION:
            sub_items = _known_items(items[at + 4 : end], _SUB_ITEMS)
            kept.append(items[at : at + 2] + len(sub_items).to_bytes(2, "big") + sub_items)
        elif items[at] in known:
            kept.append(items[at:end])
        at = end
    return b"".join(kept)


def _max_pdu(primitive: A_ASSOCIATE) -> int:
    length = primitive.maximum_length_received
    if not length:
        return UNLIMITED
    # Less than this is no room for a header and some data; nobody means it.
    return min(max(int(length), 128), 4 * UNLIMITED)
