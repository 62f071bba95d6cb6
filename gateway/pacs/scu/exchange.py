"""A DIMSE request and its responses, for each service that we use as SCU (PS3.7 §9)."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.pacs import OperationFailed, PacsUnreachable, Peer, ProtocolViolation
from gateway.pacs.upper import Association, Message, dimse


def request(association: Association, field: int, sop_class_uid: str, *, data: bool) -> dict[int, int | str]:
    """The command of a request; *field* says which, *data* whether an identifier goes with it."""
    command: dict[int, int | str] = {
        dimse.COMMAND_FIELD: field,
        dimse.MESSAGE_ID: association.next_message_id(),
        dimse.AFFECTED_SOP_CLASS_UID: sop_class_uid,
        dimse.DATA_SET_TYPE: 1 if data else dimse.NO_DATA_SET,
    }
    if data:
        command[dimse.PRIORITY] = 0  # medium
    return command


async def response(
    association: Association,
    *,
    also_alive: Callable[[], float] | None = None,
    silence: Callable[[str], PacsUnreachable] = PacsUnreachable,
) -> Message:
    """The next response. Raises what *silence* makes of its text after too long a one.

    *also_alive* (monotonic seconds) is another sign of life than this association.
    """
    peer = association.peer
    silent_since = time.monotonic()
    limit = peer.timeouts.respond if also_alive is None else peer.timeouts.idle
    while True:
        alive = silent_since if also_alive is None else max(silent_since, also_alive())
        left = alive + limit - time.monotonic()
        if left <= 0:
            raise silence(f"{peer} took our request and then was silent for {limit:g} s")
        try:
            reply = await association.receive(left)
        except TimeoutError:
            continue
        if not dimse.number(reply.command, dimse.COMMAND_FIELD) or dimse.STATUS not in reply.command:
            raise ProtocolViolation(f"{peer} sent something other than a response")
        return reply


def raise_for_status(peer: Peer, reply: Message, what: str, hint: str = "") -> None:
    """Raises OperationFailed where the final response to *what* is no success; *hint* ends its text."""
    status = dimse.number(reply.command, dimse.STATUS)
    if status == 0x0000:
        return
    if status is None:
        raise ProtocolViolation(f"{peer}: a response to {what} without a status")
    raise OperationFailed(
        f"{peer} answers {what} with status {status:04X}{hint}",
        status=status,
        remark=dimse.string(reply.command, dimse.ERROR_COMMENT),
        transient=0xA700 <= status <= 0xA7FF or status == 0x0122,
    )
