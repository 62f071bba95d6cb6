"""The A-ASSOCIATE PDUs as bytes (PS3.8 §9.3.2 to §9.3.4, Annex D; PS3.7 Annex D.3.3).

What a decision hangs on is read, and bounded in number; what merely informs (implementation class and version, user
identity, asynchronous operations, items of a later edition) is passed over, however odd it is. AE titles can be read
by themselves, so that who asks is known before anything else of a request is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.pacs import ProtocolViolation
from gateway.pacs.upper.wire import ASSOCIATE_AC, ASSOCIATE_RJ, ASSOCIATE_RQ

FIXED = 68
"""Bytes of an A-ASSOCIATE-RQ or -AC before its items (PS3.8 Tables 9-11 and 9-17)."""

MAX_ITEMS = 16_384
"""Items and sub-items of one PDU: 128 contexts with every transfer syntax that there is have half of that."""

APPLICATION_CONTEXT_ITEM, REQUESTED_CONTEXT, ACCEPTED_CONTEXT, ABSTRACT_SYNTAX, TRANSFER_SYNTAX, USER_INFORMATION = (
    0x10, 0x20, 0x21, 0x30, 0x40, 0x50,
)  # fmt: skip
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, ROLE_SELECTION, IMPLEMENTATION_VERSION = 0x51, 0x52, 0x54, 0x55

_DECIDING = frozenset((APPLICATION_CONTEXT_ITEM, REQUESTED_CONTEXT, ACCEPTED_CONTEXT))
"""Items that have to be whole."""

_HEADER = struct.Struct(">BxH")


@dataclass(frozen=True, slots=True)
class Titles:
    """Who asks whom for an association."""

    calling: str
    called: str
    protocol_versions: int
    """A bit a version; the only one there is has bit 0 (PS3.8 Table 9-11)."""


@dataclass(frozen=True, slots=True)
class ContextItem:
    """A presentation context as it is proposed, or answered."""

    context_id: int
    result: int
    """0 where it is accepted (PS3.8 Table 9-18); of no meaning in a proposal."""
    abstract_syntax: str
    """Empty in an answer."""
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """The items of an A-ASSOCIATE-RQ or -AC, as far as anybody here asks."""

    application_context: str
    contexts: tuple[ContextItem, ...]
    max_length: int
    """0 where there is no limit, or it is not said (PS3.8 D.1)."""
    roles: Mapping[str, tuple[bool, bool]]
    """SOP Class UID → (SCU, SCP) (PS3.7 D.3.3.4)."""


def read_titles(content: bytes) -> Titles:
    """Who asks, from the content of an A-ASSOCIATE-RQ. Raises ProtocolViolation."""
    if len(content) < FIXED:
        raise ProtocolViolation("an A-ASSOCIATE PDU that ends within its titles")
    return Titles(_title(content[20:36]), _title(content[4:20]), int.from_bytes(content[:2], "big"))


def _title(raw: bytes) -> str:
    # Blanks are the padding (PS3.8 Table 9-11); some pad with NULs, and some have whatever was there behind one.
    text = raw.lstrip(b" \0").split(b"\0")[0].decode("latin-1").strip(" ")
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def read_items(content: bytes) -> Items:
    """The items of an A-ASSOCIATE-RQ or -AC. Raises ProtocolViolation."""
    left = _Bound(MAX_ITEMS)
    application_context, max_length = "", 0
    contexts: dict[int, ContextItem] = {}
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, value in left.items(memoryview(content)[FIXED:], informing=True):
        if kind == APPLICATION_CONTEXT_ITEM:
            application_context = _uid(value)
        elif kind in (REQUESTED_CONTEXT, ACCEPTED_CONTEXT) and len(value) >= 4:
            contexts.setdefault(value[0], _context(value, left))
        elif kind == USER_INFORMATION:
            for sub_kind, sub_value in left.items(value, informing=True):
                if sub_kind == MAXIMUM_LENGTH and len(sub_value) == 4:
                    max_length = int.from_bytes(sub_value, "big")
                elif sub_kind == ROLE_SELECTION and len(sub_value) >= 4:
                    end = 2 + int.from_bytes(sub_value[:2], "big")
                    scu_scp = bytes(sub_value[end : end + 2])
                    if len(scu_scp) == 2:
                        roles[_uid(sub_value[2:end])] = (scu_scp[0] == 1, scu_scp[1] == 1)
    return Items(application_context, tuple(contexts.values()), max_length, roles)


def _context(value: memoryview, left: _Bound) -> ContextItem:
    abstract, transfer = "", []
    for kind, sub_value in left.items(value[4:]):
        if kind == ABSTRACT_SYNTAX:
            abstract = _uid(sub_value)
        elif kind == TRANSFER_SYNTAX:
            transfer.append(_uid(sub_value))
    return ContextItem(value[0], value[2], abstract, tuple(transfer))


def _uid(value: memoryview) -> str:
    return bytes(value).lstrip(b" \0").split(b"\0")[0].decode("ascii", "replace").strip(" ")


class _Bound:
    """Walks items, and not more than a number of them in all."""

    def __init__(self, count: int) -> None:
        self._left = count

    def items(self, content: memoryview, *, informing: bool = False) -> Iterator[tuple[int, memoryview]]:
        """Type and content of each item. Raises ProtocolViolation.

        Among *informing* ones, of what is longer than what is left that is taken: user information that says more than
        it has decides nothing, nor does what stands behind it.
        """
        at, end = 0, len(content)
        while at + 4 <= end:
            kind, length = _HEADER.unpack_from(content, at)
            at += 4
            if at + length > end and not (informing and kind not in _DECIDING):
                raise ProtocolViolation("a PDU with an item that is longer than itself")
            self._left -= 1
            if self._left < 0:
                raise ProtocolViolation(f"a PDU with more than {MAX_ITEMS} items")
            yield kind, content[at : at + length]
            at += length


def item(kind: int, content: bytes) -> bytes:
    """An item, or a sub-item."""
    return _HEADER.pack(kind, len(content)) + content


def context_item(kind: int, context: ContextItem) -> bytes:
    """A presentation context item of *kind*."""
    abstract = item(ABSTRACT_SYNTAX, context.abstract_syntax.encode()) if context.abstract_syntax else b""
    transfer = b"".join(item(TRANSFER_SYNTAX, syntax.encode()) for syntax in context.transfer_syntaxes)
    return item(kind, bytes((context.context_id, 0, context.result, 0)) + abstract + transfer)


def user_information(
    max_length: int, implementation_class: str, implementation_version: str, roles: Mapping[str, tuple[bool, bool]]
) -> bytes:
    """The user information item (PS3.7 D.3.3)."""
    return item(
        USER_INFORMATION,
        item(MAXIMUM_LENGTH, max_length.to_bytes(4, "big"))
        + item(IMPLEMENTATION_CLASS, implementation_class.encode())
        + b"".join(
            item(ROLE_SELECTION, len(uid).to_bytes(2, "big") + uid.encode() + bytes((scu, scp)))
            for uid, (scu, scp) in roles.items()
        )
        + item(IMPLEMENTATION_VERSION, implementation_version.encode()),
    )


def associate_rq(called: str, calling: str, application_context: str, items: Iterable[bytes]) -> bytes:
    """An A-ASSOCIATE-RQ of its items."""
    titles = b"\0\1\0\0" + called.encode("ascii").ljust(16) + calling.encode("ascii").ljust(16) + bytes(32)
    return _pdu(ASSOCIATE_RQ, titles, application_context, items)


def associate_ac(request: bytes, application_context: str, items: Iterable[bytes]) -> bytes:
    """An A-ASSOCIATE-AC of its items; *request* is what it answers, whose titles come back (PS3.8 Table 9-17)."""
    return _pdu(ASSOCIATE_AC, b"\0\1\0\0" + request[4:FIXED], application_context, items)


def _pdu(pdu_type: int, fixed: bytes, application_context: str, items: Iterable[bytes]) -> bytes:
    content = fixed + item(APPLICATION_CONTEXT_ITEM, application_context.encode()) + b"".join(items)
    return struct.pack(">BxI", pdu_type, len(content)) + content


def associate_rj(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))
