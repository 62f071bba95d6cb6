"""DIMSE command sets: the few that a storage and query gateway speaks (PS3.7 §9, Annex E).

A command set is always implicit VR little endian and has no sequences, so reading and writing one is
a page of code, and costs microseconds where a general data set costs milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

AFFECTED_SOP_CLASS_UID = 0x0002
REQUESTED_SOP_CLASS_UID = 0x0003
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_RESPONDED_TO = 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
OFFENDING_ELEMENT = 0x0901
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000
REQUESTED_SOP_INSTANCE_UID = 0x1001
EVENT_TYPE_ID = 0x1002
ACTION_TYPE_ID = 0x1008
REMAINING = 0x1020
COMPLETED = 0x1021
FAILED = 0x1022
WARNING = 0x1023
MOVE_ORIGINATOR_AE_TITLE = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID = 0x1031

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
C_CANCEL_RQ = 0x0FFF

WITHOUT_DATA_SET = frozenset((C_ECHO_RQ, C_ECHO_RSP, C_STORE_RSP, C_CANCEL_RQ))
"""Messages that have none by definition, whatever their Command Data Set Type says (PS3.7 §9.3)."""

NO_DATA_SET = 0x0101
"""Command Data Set Type of a message without a data set; any other value announces one (PS3.7 E.1)."""

PENDING = frozenset((0xFF00, 0xFF01))
"""Statuses after which more responses to the same request follow (PS3.7 Annex C.4)."""

_TEXT = frozenset((
    AFFECTED_SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID,
    MOVE_DESTINATION, ERROR_COMMENT, MOVE_ORIGINATOR_AE_TITLE,
))  # fmt: skip
_UID_PADDED = frozenset((
    AFFECTED_SOP_CLASS_UID, REQUESTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID, REQUESTED_SOP_INSTANCE_UID,
))  # fmt: skip

_HEADER = struct.Struct("<HHI")
_header_at = _HEADER.unpack_from
_GROUP_LENGTH = _HEADER.pack(0, 0, 4)
_SHORT_ELEMENT = struct.Struct("<HHIH")

Command = Mapping[int, int | str]
"""Element number in group 0000 → value. US elements are int, UIDs, AE titles and texts are str."""


class MalformedCommand(ValueError):
    """The bytes are no command set."""


def encode(command: Command) -> bytes:
    """The command set of *command*, group length included."""
    parts = []
    for element in sorted(command):
        value = command[element]
        if isinstance(value, int):
            parts.append(_SHORT_ELEMENT.pack(0, element, 2, value))
        else:
            raw = value.encode("ascii", "replace")
            if len(raw) % 2:
                raw += b"\0" if element in _UID_PADDED else b" "
            parts.append(_HEADER.pack(0, element, len(raw)) + raw)
    body = b"".join(parts)
    return _HEADER.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def decode(raw: bytes | bytearray) -> dict[int, int | str]:
    """The command of its bytes; elements that nobody here asks for are left out. Raises MalformedCommand.

    It ends where its group length (0000,0000) says, or with its group: some append an element of another one (Orthanc
    to a C-GET that failed), which is none of a command set (PS3.7 §6.3.1).
    """
    command: dict[int, int | str] = {}
    at, end = 0, len(raw)
    if end >= 12 and raw[:8] == _GROUP_LENGTH:
        end = min(12 + int.from_bytes(raw[8:12], "little"), end)
    while at < end:
        if end - at < 8:
            raise MalformedCommand("command set ends within an element")
        group, element, length = _header_at(raw, at)
        value = at + 8
        at = value + length
        if group != 0:
            break
        if at > end:
            raise MalformedCommand("command set has an element longer than itself")
        if element in _TEXT:
            command[element] = raw[value:at].decode("ascii", "replace").strip(" \0")
        elif length == 2:
            command[element] = raw[value] | raw[value + 1] << 8
    if not isinstance(command.get(COMMAND_FIELD), int):
        raise MalformedCommand("command set has no Command Field")
    return command


def number(command: Command, element: int) -> int | None:
    """A US element's value; None where it is absent."""
    value = command.get(element)
    return value if isinstance(value, int) else None


def string(command: Command, element: int) -> str:
    """A UID's, AE title's or text's value; empty where it is absent."""
    value = command.get(element)
    return value if isinstance(value, str) else ""


def has_no_data_set(command: Command) -> bool:
    """Whether it says that it goes without (PS3.7 E.1); the last response to a request does, too, where it says
    nothing."""
    announced = number(command, DATA_SET_TYPE)
    if announced is not None:
        return announced == NO_DATA_SET
    status = number(command, STATUS)
    return status is not None and status not in PENDING


def response(request: Command, status: int) -> dict[int, int | str]:
    """The response to *request* without a data set (PS3.7 §9.3): its Message ID and SOP UIDs returned."""
    reply: dict[int, int | str] = {
        COMMAND_FIELD: (number(request, COMMAND_FIELD) or 0) | 0x8000,
        MESSAGE_ID_RESPONDED_TO: number(request, MESSAGE_ID) or 0,
        DATA_SET_TYPE: NO_DATA_SET,
        STATUS: status,
    }
    for element in (AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID):
        if element in request:
            reply[element] = request[element]
    return reply
