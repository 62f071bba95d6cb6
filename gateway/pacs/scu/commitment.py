"""Storage Commitment Push Model: a PACS says that it has made itself responsible for instances (PS3.4 Annex J).

We ask by N-ACTION; the PACS answers by N-EVENT-REPORT, on the same association or, minutes or days later, on one
that it opens to us (field note 16).
"""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence as DicomSequence

from gateway.dicom import (
    IMPLICIT_LITTLE_ENDIAN,
    READABLE,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    encode_data_set,
    is_uid,
)
from gateway.pacs import STORING, OperationFailed, PacsUnreachable, ProtocolViolation
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.upper import Context, Message, dimse

log = logging.getLogger(__name__)

REQUEST_COMMITMENT = 1
"""Action Type ID (PS3.4 Table J.3.2.1.1)."""

STAYS_FOR = 1.0
"""Seconds that the association stays open for a PACS that answers on it."""

MAX_REPORT = 1024 * 1024
"""Bytes of an N-EVENT-REPORT's data set."""

_REASONS = {
    0x0110: "processing failure", 0x0112: "no such object instance", 0x0213: "resource limitation",
    0x0122: "SOP class not supported", 0x0119: "class and instance conflict", 0x0131: "duplicate transaction UID",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What a PACS reports of one transaction."""

    transaction_uid: str
    committed: frozenset[str]
    """SOP Instance UIDs that it has made itself responsible for."""
    failed: Mapping[str, str]
    """SOP Instance UID → reason."""


OnCommitment = Callable[[CommitmentResult], Awaitable[bool]]
"""Takes a result, on whichever association it came; returns once it is kept, or False where nobody asked for it."""

INVALID_ARGUMENT_VALUE, PROCESSING_FAILURE = 0x0115, 0x0110
"""Statuses of an N-EVENT-REPORT response (PS3.7 §10.1.1.1.8)."""


async def request_commitment(
    client: PacsClient, transaction_uid: str, sop_class_uid: str, sop_instance_uid: str, *, on_report: OnCommitment
) -> None:
    """Asks for commitment of one instance. What the PACS reports while the association is open, on this or any other
    transaction, *on_report* takes. Raises PacsError."""
    contexts = [Context(STORAGE_COMMITMENT, READABLE)]
    async with client.association(contexts, STORING) as association:
        context_id = association.context_for(STORAGE_COMMITMENT)
        syntax = association.contexts[context_id].transfer_syntaxes[0]
        command: dict[int, int | str] = {
            dimse.COMMAND_FIELD: dimse.N_ACTION_RQ,
            dimse.MESSAGE_ID: association.next_message_id(),
            dimse.REQUESTED_SOP_CLASS_UID: STORAGE_COMMITMENT,
            dimse.REQUESTED_SOP_INSTANCE_UID: STORAGE_COMMITMENT_INSTANCE,
            dimse.ACTION_TYPE_ID: REQUEST_COMMITMENT,
            dimse.DATA_SET_TYPE: 1,
        }
        await association.send(context_id, command, _request(transaction_uid, sop_class_uid, sop_instance_uid, syntax))
        answered = reported = False
        limit = client.peer.timeouts.respond
        while not (answered and reported):
            try:
                message = await association.receive(STAYS_FOR if answered else limit)
            except (TimeoutError, PacsUnreachable) as e:
                if answered:
                    break
                raise PacsUnreachable(f"{client.peer} took our N-ACTION and did not answer it: {e}") from e
            field = dimse.number(message.command, dimse.COMMAND_FIELD)
            if field == dimse.N_EVENT_REPORT_RQ:
                result = read_report(message, syntax)
                reported |= result.transaction_uid == transaction_uid
                await association.send(context_id, await acknowledge(message, result, on_report))
            elif field == dimse.N_ACTION_RSP:
                message.close()
                answered = True
                _raise_for(client, message)
            else:
                raise ProtocolViolation(f"{client.peer} answers an N-ACTION with something else")


def _raise_for(client: PacsClient, message: Message) -> None:
    status = dimse.number(message.command, dimse.STATUS)
    if status != 0:
        raise OperationFailed(
            f"{client.peer} refuses to commit with status {status or 0:04X}",
            status=status or 0,
            remark=dimse.string(message.command, dimse.ERROR_COMMENT),
            transient=status in (0x0110, 0x0213),
        )


def _request(transaction_uid: str, sop_class_uid: str, sop_instance_uid: str, syntax: str) -> bytes:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    data = Dataset()
    data.TransactionUID = transaction_uid
    data.ReferencedSOPSequence = DicomSequence([item])
    return encode_data_set(data, syntax)


def read_report(message: Message, syntax: str) -> CommitmentResult:
    """The result in an N-EVENT-REPORT request. Raises ProtocolViolation."""
    if message.body is None:
        raise ProtocolViolation("an N-EVENT-REPORT without a data set")
    try:
        raw = bytes(message.body.head(MAX_REPORT))
    finally:
        message.close()
    try:
        data = read_dataset(io.BytesIO(raw), syntax == IMPLICIT_LITTLE_ENDIAN, is_little_endian=True)
        transaction_uid = str(data.get("TransactionUID", ""))
        failed = {
            str(item.ReferencedSOPInstanceUID): _reason(int(item.get("FailureReason", 0)))
            for item in data.get("FailedSOPSequence", ())
        }
        committed = frozenset(str(i.ReferencedSOPInstanceUID) for i in data.get("ReferencedSOPSequence", ()))
    except Exception as e:  # pydicom meets bytes from outside
        raise ProtocolViolation("an N-EVENT-REPORT that cannot be read") from e
    if not is_uid(transaction_uid):
        raise ProtocolViolation("an N-EVENT-REPORT without a Transaction UID")
    return CommitmentResult(transaction_uid, committed - failed.keys(), failed)


def _reason(code: int) -> str:
    return f"{_REASONS.get(code, 'failure')} ({code:04X})"


async def acknowledge(message: Message, result: CommitmentResult, on_report: OnCommitment) -> dict[int, int | str]:
    """Hands a result over; the response to the PACS, which says success only of what is kept."""
    try:
        status = 0 if await on_report(result) else INVALID_ARGUMENT_VALUE
    except Exception:
        log.exception("the result of storage commitment %s could not be kept", result.transaction_uid)
        status = PROCESSING_FAILURE
    if status == INVALID_ARGUMENT_VALUE:
        log.warning("a storage commitment was reported that nobody asked for: transaction %s", result.transaction_uid)
    return report_response(message, status)


def report_response(message: Message, status: int) -> dict[int, int | str]:
    """The response to an N-EVENT-REPORT request (PS3.7 §10.1.1)."""
    reply = dimse.response(message.command, status)
    reply[dimse.EVENT_TYPE_ID] = dimse.number(message.command, dimse.EVENT_TYPE_ID) or 0
    return reply
