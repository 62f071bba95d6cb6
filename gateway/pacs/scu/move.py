"""C-MOVE: the PACS sends to our Storage SCP, on associations of its own (PS3.4 C.4.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.dicom import READABLE, STUDY_ROOT_MOVE
from gateway.pacs import (
    Claim,
    InstanceHandler,
    PacsUnreachable,
    UnknownMoveDestination,
    UnreachableMoveDestination,
)
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.exchange import raise_for_status, request, response
from gateway.pacs.scu.retrieve import Selection, SubOperations, sub_operations
from gateway.pacs.upper import Context, dimse

MOVE_DESTINATION_UNKNOWN = 0xA801
IDENTIFIER_DOES_NOT_MATCH = 0xA900


class MoveRetriever:
    """Has a PACS send to AE *destination*, which is us."""

    method = "C-MOVE"
    comes_apart = True

    def __init__(
        self, client: PacsClient, *, destination: str, last_received: Callable[[], float] = lambda: 0.0
    ) -> None:
        """*last_received* says when our Storage SCP last got bytes from this PACS (monotonic seconds): an instance
        that takes minutes to arrive does not count as idleness."""
        self._client = client
        self._destination = destination
        self._last_received = last_received

    @property
    def remedy(self) -> str:
        """What an operator has to see to, for it to work."""
        return f"register {self._client.advertised} in it as a C-MOVE destination, and let its firewall reach that port"

    async def retrieve(
        self,
        selection: Selection,
        *,
        turn: Claim,
        deliver: InstanceHandler,
        last_arrival: Callable[[], float],
        total_limit: float,
    ) -> None:
        """As :class:`~gateway.pacs.scu.retrieve.Retriever` has it; the instances come by our Storage SCP."""
        outcome = await self.move(selection, turn=turn, last_arrival=last_arrival, total_limit=total_limit)
        outcome.raise_for_failures(self._client.peer, self.method)

    async def move(
        self, selection: Selection, *, turn: Claim, last_arrival: Callable[[], float], total_limit: float
    ) -> SubOperations:
        """The C-MOVE itself.

        *last_arrival* says when an instance last came in (monotonic seconds): a PACS that sends no pending
        responses is idle only once nothing arrives either (field note 5). *total_limit* (seconds) caps the
        whole. Raises PacsError, UnreachableMoveDestination where it is silent and not one byte came to our Storage
        SCP; cancelled, it aborts the association.
        """
        client = self._client
        began = time.monotonic()

        def alive() -> float:
            return max(last_arrival(), self._last_received())

        def silence(text: str) -> PacsUnreachable:
            kind = PacsUnreachable if self._last_received() > began else UnreachableMoveDestination
            return kind(f"{text}: can it open a connection to {client.advertised}, or does a firewall drop it?")

        async with client.association([Context(STUDY_ROOT_MOVE, READABLE)], turn) as association:
            context_id = association.context_for(STUDY_ROOT_MOVE)
            command = request(association, dimse.C_MOVE_RQ, STUDY_ROOT_MOVE, data=True)
            command[dimse.MOVE_DESTINATION] = self._destination
            syntax = association.contexts[context_id].transfer_syntaxes[0]
            await association.send(context_id, command, selection.identifier(syntax))
            try:
                async with asyncio.timeout(total_limit):
                    while True:
                        reply = await response(association, also_alive=alive, silence=silence)
                        if dimse.number(reply.command, dimse.STATUS) not in dimse.PENDING:
                            break
                        reply.close()
            except TimeoutError as e:
                raise PacsUnreachable(f"{client.peer}: a C-MOVE that took over {total_limit:g} s was given up") from e
        outcome = sub_operations(client.peer, reply, syntax, self.method)
        if outcome.status == MOVE_DESTINATION_UNKNOWN:
            raise UnknownMoveDestination(
                f"{client.peer} does not know the move destination: "
                f"register {client.advertised} in it as a destination",
                status=outcome.status,
                transient=False,
            )
        if outcome.status == IDENTIFIER_DOES_NOT_MATCH or 0xC000 <= outcome.status <= 0xCFFF:
            hint = f"; is {client.advertised} registered in it, and does it reach us?"
            raise_for_status(client.peer, reply, self.method, hint)
        return outcome
