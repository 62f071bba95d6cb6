"""One C-STORE request: its instance goes to the handler, and what comes of it is the status (PS3.4 Annex B)."""

from __future__ import annotations

import logging

from gateway.dicom import is_uid, is_usable
from gateway.pacs import IncomingInstance, InstanceHandler, OnRefused, ProtocolViolation, Sender, Status
from gateway.pacs.upper import Context, DataSetTooLarge, Message, dimse
from gateway.runtime import step

log = logging.getLogger(__name__)


def log_refused(sender: Sender, sop_instance_uid: str, reason: str) -> None:
    """Tells of an instance that is refused (an ``OnRefused``)."""
    named = f"instance {sop_instance_uid}" if sop_instance_uid else "an instance"
    log.error("refused %s from %s: %s", named, sender.calling_ae_title, reason)


async def take_in(
    message: Message,
    context: Context,
    *,
    sender: Sender,
    handler: InstanceHandler,
    on_refused: OnRefused = log_refused,
) -> int:
    """Hands the instance of a C-STORE request to *handler*; the status to answer with. Raises ProtocolViolation."""
    command = message.command
    sop_class_uid = dimse.string(command, dimse.AFFECTED_SOP_CLASS_UID)
    sop_instance_uid = dimse.string(command, dimse.AFFECTED_SOP_INSTANCE_UID)
    if message.failure is not None:
        cause = message.failure.strerror
        reason = f"it cannot be written to state_dir/spool: {cause}"
        if isinstance(message.failure, DataSetTooLarge):
            reason = f"{cause}: raise dicom.max_instance_size where it is to be taken"
        on_refused(sender, sop_instance_uid if is_name(sop_instance_uid) else "", reason)
        return Status.OUT_OF_RESOURCES
    if message.body is None:
        raise ProtocolViolation("a C-STORE request without a data set")
    instance = IncomingInstance(
        # What identifies it is in its data set, too, and in the context that it came in.
        sop_class_uid=sop_class_uid if is_name(sop_class_uid) else context.abstract_syntax,
        sop_instance_uid=sop_instance_uid if is_name(sop_instance_uid) else "",
        transfer_syntax_uid=context.transfer_syntaxes[0],
        calling_ae_title=sender.calling_ae_title,
        called_ae_title=sender.called_ae_title,
        peer_host=sender.host,
        answers=sender.answers,
        by=sender.by,
        body=message.body,
        move_originator_ae_title=dimse.string(command, dimse.MOVE_ORIGINATOR_AE_TITLE) or None,
        move_originator_message_id=dimse.number(command, dimse.MOVE_ORIGINATOR_MESSAGE_ID),
    )
    try:
        with step(log, "instance %s, %d bytes, from %s", sop_instance_uid, instance.body.size, sender.calling_ae_title):
            return await handler(instance)
    except Exception:
        log.exception("instance %s could not be taken in", sop_instance_uid)
        return Status.PROCESSING_FAILURE


def is_name(text: str) -> bool:
    """Whether it can be the UID of something."""
    return is_uid(text) or is_usable(text)  # nearly all are the first, which is quicker
