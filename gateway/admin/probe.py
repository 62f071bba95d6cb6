"""The one instance that ``check`` has a PACS send to us: proof that it can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from gateway.pacs import IncomingInstance, InstanceHandler, Status

RETRIEVE_WITHIN = 30.0
"""Seconds for the one instance that a check retrieves."""


class RetrieveProbe:
    """Takes the one instance that a check retrieves; whatever else comes goes on to the intake."""

    def __init__(self, is_fetched: Callable[[str], bool] = lambda study_instance_uid: False) -> None:
        """*is_fetched* says whether a study is on its way to us besides: then its intake has the instance, too."""
        self._is_fetched = is_fetched
        self._awaited: dict[str, tuple[str, asyncio.Event]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def before(self, handler: InstanceHandler) -> InstanceHandler:
        """A handler that takes the probe out of what comes."""

        async def handle(instance: IncomingInstance) -> int:
            awaited = self._awaited.get(instance.sop_instance_uid)
            if awaited is None:
                return await handler(instance)
            study, arrived = awaited
            arrived.set()
            if self._is_fetched(study):
                return await handler(instance)
            instance.body.close()
            return Status.SUCCESS

        return handle

    async def arrives(
        self, study_instance_uid: str, sop_instance_uid: str, retrieve: Callable[[], Awaitable[object]]
    ) -> bool:
        """Whether the instance comes when *retrieve* asks for it. Raises PacsError, TimeoutError."""
        # Checks that run at once retrieve the same instance: in turn, or each would take another's for its own.
        turn = self._turns.setdefault(sop_instance_uid, asyncio.Lock())
        async with turn, asyncio.timeout(RETRIEVE_WITHIN):
            arrived = asyncio.Event()
            self._awaited[sop_instance_uid] = (study_instance_uid, arrived)
            try:
                await retrieve()
            finally:
                del self._awaited[sop_instance_uid]
            return arrived.is_set()
