"""One instance as its PACS sends it now, to be compared with what lies in the store.

A PACS's list tells nothing of pixels, and little of attributes: what was replaced under its own UID may be listed as
the one before it was. Only its bytes tell. They are taken out of what comes before the intake sees them, and are not
kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.dicom import MalformedDataSet, read_file_meta
from gateway.objects import ObjectStore
from gateway.pacs import Body, Claim, IncomingInstance, InstanceHandler, Lane, Status, background
from gateway.pacs.scu import Selection
from gateway.runtime import in_thread
from gateway.studies import keys
from gateway.studies.index import Instance
from gateway.studies.pacs import Pacs

BROUGHT_WITHIN = 60.0
"""Seconds that one retrieve of an instance may take; nobody waits for it."""

CHUNK = 1024 * 1024
"""Bytes that are hashed at a time."""

LONGEST_META = 64 * 1024
"""Bytes in which the file meta information of what we stored ends."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A data set, as far as it takes to see whether another one is the same."""

    transfer_syntax_uid: str
    digest: bytes
    """Of the data set alone: preamble and file meta information are of the association, not of the instance."""


@dataclass(slots=True)
class _Awaited:
    study_instance_uid: str
    sop_instance_uid: str
    pacs: str
    came: asyncio.Future[Sample]


class Samples:
    """Brings samples, one at a time, and reads what the store has of them."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        pacs_at: Callable[[str, str], Collection[str]],
        is_fetched: Callable[[str], bool],
    ) -> None:
        """*pacs_at* names the PACS that an AE title at an address may be; *is_fetched* says whether a study is on its
        way to us besides: then what comes is the intake's."""
        self._store = store
        self._pacs_at = pacs_at
        self._is_fetched = is_fetched
        self._awaited: _Awaited | None = None
        self._turn = asyncio.Lock()

    def before(self, handler: InstanceHandler) -> InstanceHandler:
        """A handler that takes the sample out of what comes."""

        async def handle(incoming: IncomingInstance) -> int:
            return await self._take(incoming) if self._is_awaited(incoming) else await handler(incoming)

        return handle

    async def sent(self, pacs: Pacs, study_instance_uid: str, instance: Instance) -> Sample | None:
        """The instance as *pacs* sends it now; None where it did not come. Raises PacsError."""
        async with self._turn:
            came: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
            self._awaited = _Awaited(study_instance_uid, instance.sop_instance_uid, pacs.name, came)
            retriever, began = pacs.retrievers[0], time.monotonic()
            try:
                await retriever.retrieve(
                    Selection(
                        study_instance_uid,
                        instance.series_in_pacs,
                        (instance.sop_instance_uid,),
                        (instance.sop_class_uid,),
                    ),
                    turn=Claim(Lane.RETRIEVE, study_instance_uid, background),
                    deliver=self.before(_nobodys),
                    last_arrival=lambda: began,
                    total_limit=BROUGHT_WITHIN,
                )
                if retriever.comes_apart:
                    await asyncio.wait([came], timeout=pacs.habits.settle)
            finally:
                self._awaited = None
            return came.result() if came.done() else None

    async def stored(self, study_instance_uid: str, instance: Instance) -> Sample | None:
        """The instance as it came from the PACS before; None where the store has none that can be read. Raises
        StoreError."""
        place = keys.original if instance.viewable_from else keys.instance
        key = place(study_instance_uid, instance.sop_instance_uid, instance.revision)
        head, digest = bytearray(), hashlib.blake2b(digest_size=16)
        begun = False
        try:
            async with self._store.read(key) as chunks:
                async for chunk in chunks:
                    if begun:
                        await in_thread(digest.update, chunk)
                        continue
                    head += chunk
                    meta = read_file_meta(memoryview(bytes(head)))
                    if meta is not None:
                        begun = True
                        await in_thread(digest.update, bytes(head[meta.data_offset :]))
                    elif len(head) > LONGEST_META:
                        return None
        except MalformedDataSet:
            return None
        syntax = instance.viewable_from or instance.transfer_syntax_uid
        return Sample(syntax, digest.digest()) if begun else None

    def _is_awaited(self, incoming: IncomingInstance) -> bool:
        awaited = self._awaited
        if awaited is None or incoming.sop_instance_uid != awaited.sop_instance_uid:
            return False
        its_own = incoming.answers == awaited.study_instance_uid or awaited.pacs in self._pacs_at(
            incoming.calling_ae_title, incoming.peer_host
        )
        return its_own and not self._is_fetched(awaited.study_instance_uid)

    async def _take(self, incoming: IncomingInstance) -> int:
        awaited = self._awaited
        assert awaited is not None
        try:
            digest = await in_thread(_digest, incoming.body)
        finally:
            incoming.body.close()
        if not awaited.came.done():
            awaited.came.set_result(Sample(incoming.transfer_syntax_uid, digest))
        return Status.SUCCESS


def _digest(body: Body) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for offset in range(0, body.size, CHUNK):
        digest.update(body.read(offset, CHUNK))
    return digest.digest()


async def _nobodys(incoming: IncomingInstance) -> int:
    incoming.body.close()
    return Status.NOT_AUTHORIZED
