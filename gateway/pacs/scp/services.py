"""What an association that stands is there for: each message that comes, and our answer (PS3.4 Annexes A, B, J)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.dicom import STORAGE_COMMITMENT, VERIFICATION
from gateway.pacs import InstanceHandler, OnRefused, ProtocolViolation, Sender, Status
from gateway.pacs.scp.places import Caller
from gateway.pacs.scp.storage import take_in
from gateway.pacs.scu import CommitmentResult, acknowledge, read_report
from gateway.pacs.upper import (
    FRUITLESS,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    TAKEN,
    Accepted,
    Message,
    Proposal,
    ServiceProvider,
    data_pdus,
    dimse,
)


class Services:
    """Storage, verification, and reports of storage commitment."""

    def __init__(
        self,
        handler: InstanceHandler,
        *,
        on_refused: OnRefused,
        on_commitment: Callable[[CommitmentResult, Sender], Awaitable[bool]] | None,
    ) -> None:
        """All three as :class:`StorageScp` has them."""
        self.handler = handler
        self._on_refused = on_refused
        self._on_commitment = on_commitment

    async def serve(self, caller: Caller, proposal: Proposal, accepted: Accepted) -> None:
        """Answers until the association is released. Raises ConnectionClosed, ProtocolViolation."""
        link = caller.link
        sender = Sender(proposal.calling_ae_title, proposal.called_ae_title, caller.host)
        while True:
            got = await link.message()
            if isinstance(got, tuple):
                if got[0] != RELEASE_RQ:
                    link.abort("control PDU out of turn", reason=ServiceProvider.UNEXPECTED_PDU)
                    return
                await link.send(RELEASE_RP_PDU)
                return
            stored_before, caller.handling = caller.stored_at, True
            reply = await self._answer(caller, sender, accepted, got)
            caller.handling = False
            if caller.stored_at == stored_before:
                link.spend(FRUITLESS)
            else:
                link.earn(TAKEN)
            if reply is not None:
                pdus = data_pdus(got.context_id, dimse.encode(reply), command=True, last=True, max_pdu=accepted.max_pdu)
                await link.send(pdus)

    async def _answer(
        self, caller: Caller, sender: Sender, accepted: Accepted, message: Message
    ) -> dimse.Command | None:
        """What to reply to *message*; None where nothing is due."""
        context = accepted.contexts[message.context_id]
        field = message.command[dimse.COMMAND_FIELD]
        if field == dimse.C_STORE_RQ and context.abstract_syntax not in (VERIFICATION, STORAGE_COMMITMENT):
            status = await take_in(
                message,
                context,
                sender=sender,
                handler=self.handler,
                on_refused=self._on_refused,
            )
            if status == Status.SUCCESS:
                caller.stored_at = asyncio.get_running_loop().time()
            return dimse.response(message.command, status)
        if field == dimse.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
            message.close()
            return dimse.response(message.command, Status.SUCCESS)
        if field == dimse.N_EVENT_REPORT_RQ and context.abstract_syntax == STORAGE_COMMITMENT:
            on_commitment = self._on_commitment
            assert on_commitment is not None, "its context is accepted only with a handler"
            result = read_report(message, context.transfer_syntaxes[0])
            return await acknowledge(message, result, lambda found: on_commitment(found, sender))
        message.close()
        if field == dimse.C_CANCEL_RQ:  # there is nothing here that can be cancelled
            return None
        raise ProtocolViolation(f"command {field:#06x} in a context of {context.abstract_syntax}")
