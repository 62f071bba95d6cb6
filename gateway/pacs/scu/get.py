"""C-GET: the PACS sends on the association that we opened, so that it needs no way to us (PS3.4 C.4.3).

What is sent needs a presentation context in which we are the SCP (PS3.7 D.3.3.4), and an association has 128
(PS3.8 §9.3.2.2). So the SOP classes are proposed that the PACS lists, not all (field note 9), and each in one
context a transfer syntax, so that the bytes can stay as the PACS has them (field note 10).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from itertools import islice

from gateway.dicom import COMMON_STORAGE_CLASSES, COMMONEST_FIRST, READABLE, STUDY_ROOT_GET, UNCOMPRESSED
from gateway.pacs import (
    Claim,
    InstanceHandler,
    NoContextAccepted,
    OnRefused,
    PacsUnreachable,
    ProtocolViolation,
    Sender,
)
from gateway.pacs.scp import log_refused, take_in
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.exchange import request
from gateway.pacs.scu.retrieve import Selection, SubOperations, sub_operations
from gateway.pacs.upper import Association, Context, Message, dimse
from gateway.runtime import Spools

MAX_CONTEXTS = 128
"""Presentation contexts of an association."""


def contexts_for(sop_class_uids: Collection[str], *, uncompressed_only: bool) -> list[Context]:
    """What to propose for instances of these SOP classes; none given: the common ones.

    The commonest transfer syntaxes of every class come before the second commonest of any.
    """
    classes = dict.fromkeys(sop_class_uids) or COMMON_STORAGE_CLASSES
    syntaxes = UNCOMPRESSED if uncompressed_only else COMMONEST_FIRST
    pairs = (Context(one, (syntax,), as_scp=True) for syntax in syntaxes for one in classes)
    return [Context(STUDY_ROOT_GET, READABLE), *islice(pairs, MAX_CONTEXTS - 1)]


class GetRetriever:
    """Has a PACS send over our own association."""

    method = "C-GET"
    comes_apart = False
    remedy = "allow our AE title to retrieve by C-GET in it, or choose another method in pacs.retrieve"

    def __init__(
        self,
        client: PacsClient,
        *,
        spools: Spools,
        uncompressed_only: bool = False,
        on_refused: OnRefused = log_refused,
    ) -> None:
        """*spools* takes large instances, and says how large; *on_refused* is told of those that it cannot take."""
        self._on_refused = on_refused
        self._client = client
        self._spools = spools
        self._uncompressed_only = uncompressed_only

    async def retrieve(
        self,
        selection: Selection,
        *,
        turn: Claim,
        deliver: InstanceHandler,
        last_arrival: Callable[[], float],
        total_limit: float,
    ) -> None:
        """As :class:`~gateway.pacs.scu.retrieve.Retriever` has it."""
        outcome = await self.get(selection, turn=turn, deliver=deliver, total_limit=total_limit)
        outcome.raise_for_failures(self._client.peer, self.method)

    async def get(
        self, selection: Selection, *, turn: Claim, deliver: InstanceHandler, total_limit: float
    ) -> SubOperations:
        """The C-GET itself. Raises PacsError; cancelled, it aborts the association."""
        peer = self._client.peer
        classes = selection.sop_class_uids
        if not selection.series_instance_uid:  # of a whole study the PACS may have listed only some
            classes = (*classes, *COMMON_STORAGE_CLASSES)
        contexts = contexts_for(classes, uncompressed_only=self._uncompressed_only)
        async with self._client.association(contexts, turn, receives_in=self._spools) as association:
            context_id = association.context_for(STUDY_ROOT_GET)
            self._check_roles(association)
            command = request(association, dimse.C_GET_RQ, STUDY_ROOT_GET, data=True)
            syntax = association.contexts[context_id].transfer_syntaxes[0]
            await association.send(context_id, command, selection.identifier(syntax))
            try:
                async with asyncio.timeout(total_limit):
                    reply = await self._serve(association, selection, deliver)
            except TimeoutError as e:
                raise PacsUnreachable(f"{peer}: a C-GET that took over {total_limit:g} s was given up") from e
        return sub_operations(peer, reply, syntax, self.method)

    def _check_roles(self, association: Association) -> None:
        stores = [c for c in association.contexts.values() if c.abstract_syntax != STUDY_ROOT_GET]
        if not any(c.as_scp for c in stores):
            what = (
                "does not let us be the receiver on our own association (SCP role)"
                if stores
                else "takes none of the storage classes that we propose for it"
            )
            raise NoContextAccepted(f"{association.peer} serves C-GET and {what}: {self.remedy}")

    async def _serve(self, association: Association, selection: Selection, deliver: InstanceHandler) -> Message:
        """Takes in what comes, until the final response."""
        peer = association.peer
        sender = Sender(
            peer.ae_title, peer.calling_ae_title, peer.host, answers=selection.study_instance_uid, by=self.method
        )
        while True:
            message = await self._next(association)
            field = dimse.number(message.command, dimse.COMMAND_FIELD)
            context = association.contexts[message.context_id]
            if field == dimse.C_STORE_RQ and context.as_scp:
                status = await take_in(message, context, sender=sender, handler=deliver, on_refused=self._on_refused)
                await association.send(message.context_id, dimse.response(message.command, status))
            elif field == dimse.C_GET_RSP:
                if dimse.number(message.command, dimse.STATUS) not in dimse.PENDING:
                    return message
                message.close()
            else:
                message.close()
                raise ProtocolViolation(f"{peer} sent command {field:#06x} in the course of a C-GET")

    async def _next(self, association: Association) -> Message:
        """The next message; a large one that is still arriving does not count as silence (field note 5)."""
        loop = asyncio.get_running_loop()
        peer, limit = association.peer, association.peer.timeouts.idle
        began = loop.time()
        while True:
            left = max(began, association.last_received) + limit - loop.time()
            if left <= 0:
                raise PacsUnreachable(f"{peer} took our C-GET and then was silent for {limit:g} s")
            try:
                return await association.receive(left)
            except TimeoutError:
                continue
