"""Stores an instance in a PACS as SCU (PS3.4 Annex B, PS3.7 §9.1.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.dicom import READABLE
from gateway.pacs import STORING, Body, OperationFailed, PacsUnreachable, ProtocolViolation
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.kept import LostWhileKept
from gateway.pacs.upper import Association, Context, dimse


@dataclass(frozen=True, slots=True)
class OutgoingInstance:
    """An instance that is to be stored."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    body: Body
    """Its data set, encoded so."""


Transcode = Callable[[str], Awaitable[Body]]
"""The data set of the instance in another, uncompressed transfer syntax; raises CannotTranscode."""


class CannotTranscode(Exception):
    """There is no lossless way from an instance's transfer syntax to one that the PACS takes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A PACS has taken an instance."""

    transfer_syntax_uid: str
    """In which it was sent."""
    warning: str = ""
    """Of what it warns, where its status was a warning (B0xx)."""
    remark: str = ""
    """Its own words about it, which may name the patient."""


async def store(client: PacsClient, instance: OutgoingInstance, transcode: Transcode) -> Stored:
    """Stores *instance*. Success and warnings are success. Raises PacsError, CannotTranscode, OSError.

    Its own transfer syntax is proposed, and the uncompressed ones each in a context of its own, since a context
    has one accepted syntax (field note 14). Where only the latter are taken, *transcode* gives the data set so.
    """
    contexts = [Context(instance.sop_class_uid, (syntax,)) for syntax in _syntaxes(instance)]
    try:
        async with client.kept_association(contexts, STORING) as association:
            return await _store(association, instance, transcode)
    except LostWhileKept:
        async with client.kept_association(contexts, STORING) as association:
            return await _store(association, instance, transcode)


def _syntaxes(instance: OutgoingInstance) -> list[str]:
    return list(dict.fromkeys((instance.transfer_syntax_uid, *READABLE)))


async def _store(association: Association, instance: OutgoingInstance, transcode: Transcode) -> Stored:
    own, peer = instance.transfer_syntax_uid, association.peer
    accepted = {c.transfer_syntaxes[0]: context_id for context_id, c in association.contexts.items()}
    # One of them, or there would be no association (NoContextAccepted).
    syntax = next(s for s in _syntaxes(instance) if s in accepted)
    body = instance.body if syntax == own else await transcode(syntax)
    try:
        message_id = association.next_message_id()
        command: dict[int, int | str] = {
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
            dimse.MESSAGE_ID: message_id,
            dimse.AFFECTED_SOP_CLASS_UID: instance.sop_class_uid,
            dimse.AFFECTED_SOP_INSTANCE_UID: instance.sop_instance_uid,
            dimse.PRIORITY: 0,  # medium
            dimse.DATA_SET_TYPE: 1,
        }
        await association.send(accepted[syntax], command, body)
        try:
            reply = await association.receive(peer.timeouts.respond)
        except TimeoutError as e:
            raise PacsUnreachable(
                f"{peer} took an instance and did not answer within {peer.timeouts.respond:g} s"
            ) from e
    finally:
        if body is not instance.body:
            body.close()
    reply.close()
    status = dimse.number(reply.command, dimse.STATUS)
    if dimse.number(reply.command, dimse.COMMAND_FIELD) != dimse.C_STORE_RSP or status is None:
        raise ProtocolViolation(f"{peer} answers a C-STORE with something else")
    if message_id > 1 and dimse.number(reply.command, dimse.MESSAGE_ID_RESPONDED_TO) != message_id:
        # It may be a second answer to the one before, and this instance not be stored.
        association.abort("an answer to another request")
        raise PacsUnreachable(f"{peer} answers a C-STORE that it was not sent last")
    comment = dimse.string(reply.command, dimse.ERROR_COMMENT)
    if status == 0:
        return Stored(syntax)
    if 0xB000 <= status <= 0xBFFF or status == 0x0001 or status in (0x0107, 0x0116):  # PS3.7 Annex C.4
        return Stored(syntax, warning_of(status), comment)
    raise failure_to_store(str(peer), "C-STORE", status, comment)


def warning_of(status: int) -> str:
    """What a PACS warns of that stored an instance."""
    return f"status {status:04X}: {_MEANINGS.get(status, 'warning')}"


def failure_to_store(peer: str, service: str, status: int | None, comment: str = "") -> OperationFailed:
    """The error for the status of an instance that a PACS did not store, by PS3.4 Table B.2-1 and PS3.18 Table I.2-2;
    None where it names none."""
    if status is None:
        return OperationFailed(
            f"{peer} answers a {service} with a failure and no reason: its own log says more",
            status=0x0110,
            transient=True,
        )
    return OperationFailed(
        f"{peer} answers a {service} with status {status:04X}: {_meaning(status)}",
        status=status,
        remark=comment,
        transient=0xA700 <= status <= 0xA7FF or status in (0x0110, 0x0210, 0x0213),
    )


_MEANINGS = {
    0xB000: "it changed attributes of the instance",
    0xB006: "it left attributes of the instance out",
    0xB007: "the data set does not match its SOP class",
    0x0110: "processing failure",
    0x0122: "it does not support the SOP class",
    0x0124: "it does not authorize us to store",
    0xC122: "it does not support the transfer syntax",
    0x0117: "invalid SOP instance",
}


def _meaning(status: int) -> str:
    if 0xA700 <= status <= 0xA7FF:
        return "it is out of resources"
    if 0xA900 <= status <= 0xA9FF:
        return "the data set does not match its SOP class"
    if 0xC000 <= status <= 0xCFFF and status not in _MEANINGS:
        return "it cannot understand the instance"
    return _MEANINGS.get(status, "failure")
