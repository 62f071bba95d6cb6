"""What was taken in, on its way into the store: so much at once, one study beside another, and again where the store
did not take it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from gateway.dicom import EXPLICIT_LITTLE_ENDIAN, MADE_VIEWABLE, MalformedDataSet, file_header, made_viewable
from gateway.dicom import LIMIT as VIEWABLE_LIMIT
from gateway.objects import ObjectStore, StoreError, StoreFull
from gateway.pacs import Body
from gateway.runtime import bind, in_thread, span
from gateway.studies import keys, media
from gateway.studies.admission import Admitted
from gateway.studies.cache import CacheFull, StudyCache
from gateway.studies.index import Instance
from gateway.studies.room import Room

log = logging.getLogger(__name__)

BUFFER = 64 * 1024 * 1024
"""Bytes of instances that are acknowledged and not yet in the store, or as many spooled ones as it has chunks."""

CONCURRENT_PUTS = 16
"""Measured: past this the store gets no faster (docs/performance.md)."""

CHUNK = 1024 * 1024
"""Bytes; the pieces in which a spooled instance goes to the store."""

PUT_AGAIN_AFTER = (0.25, 1.0, 3.0)
"""Seconds after which an instance is put again that the store did not take; it is held meanwhile, so the PACS is not
asked for it once more."""

PUT_WITHIN = 10.0
"""Seconds from its first attempt after which it is not put again."""

DICOM = "application/dicom"


def _buffered(body: Body) -> int:
    """Bytes of the buffer that it takes: a spooled one has a file, a descriptor and a chunk at a time in memory."""
    return CHUNK if body.spooled else body.size


class Puts:
    """The buffer in front of the store, and the PUTs out of it."""

    def __init__(
        self, store: ObjectStore, cache: StudyCache, *, viewable: bool, closer_look: asyncio.Semaphore
    ) -> None:
        """*viewable* says whether what browsers do not decode is stored so that they do; *closer_look* bounds how many
        are made so at once."""
        self._store = store
        self._cache = cache
        self._viewable = viewable
        self._closer_look = closer_look
        self._room = Room(BUFFER, for_one=BUFFER * 3 // 4)
        self._turns = Room(CONCURRENT_PUTS, for_one=CONCURRENT_PUTS)
        self._store_took = float("-inf")
        """Monotonic seconds; when an instance of any study was in the store."""

    async def take_room(self, admitted: Admitted) -> None:
        """Waits until the buffer has room for an instance."""
        flight, began = admitted.flight, time.monotonic()
        try:
            await self._room.take(_buffered(admitted.incoming.body), flight.study_instance_uid)
        except BaseException:  # its association ended while it waited: it was not acknowledged, and may come again
            flight.taken.discard(admitted.instance.sop_instance_uid)
            raise
        flight.waited_for_store += time.monotonic() - began

    def leave_room(self, admitted: Admitted) -> None:
        """Lets go of an instance that had room."""
        size = _buffered(admitted.incoming.body)
        admitted.incoming.body.close()
        self._room.give_back(size, admitted.flight.study_instance_uid)

    def start(self, admitted: Admitted) -> None:
        """Brings an instance that has room into the store; a task of its flight does it, and ends in any case."""
        puts = admitted.flight.puts
        uid = admitted.instance.sop_instance_uid
        # An instance that was asked for again, at times with other bytes (field note 12): the last one wins, so the
        # second PUT of a key begins when the first has ended.
        put = asyncio.create_task(self._put(admitted, after=puts.get(uid)))
        puts[uid] = put
        put.add_done_callback(lambda _: puts.pop(uid) if puts.get(uid) is put else None)

    async def _put(self, admitted: Admitted, *, after: asyncio.Task[None] | None) -> None:
        """Brings one instance into the store. A failure leaves it missing, and it is asked for again; where the store
        took nothing else meanwhile either, it is away, and the fetch ends."""
        flight, instance = admitted.flight, admitted.instance
        study = flight.study_instance_uid
        bind(**flight.log_ids, study=study)
        began = time.monotonic()
        try:
            if after is not None:
                await asyncio.wait([after])
            with span("put"):
                instance = await self._stored(admitted)
        except StoreError as e:
            log.warning("instance %s of study %s did not reach the store: %s", instance.sop_instance_uid, study, e)
            flight.store_failure = str(e)
            flight.taken.discard(instance.sop_instance_uid)
            if isinstance(e, StoreFull) or (e.transient and self._store_took < began):
                flight.refuse(str(e))
        except Exception:
            log.exception("instance %s of study %s is not stored", instance.sop_instance_uid, study)
            flight.store_failure = "an error of the gateway itself: see its log"
            flight.taken.discard(instance.sop_instance_uid)
        else:
            flight.last_arrival = self._store_took = time.monotonic()
            flight.arrived(instance, admitted.incoming.by)
            took = (time.monotonic() - began) * 1e3
            log.debug(
                "instance %s, %d bytes, is in the store: took %.0f ms", instance.sop_instance_uid, instance.size, took
            )
        finally:
            self.leave_room(admitted)

    async def _stored(self, admitted: Admitted) -> Instance:
        """The instance as it is in the store now; it is put again for a while, unless the study ends meanwhile. Raises
        StoreError."""
        flight, began = admitted.flight, time.monotonic()
        for pause in PUT_AGAIN_AFTER:
            try:
                return await self._put_in_turn(admitted)
            except StoreFull:
                raise
            except StoreError as e:
                if not e.transient or flight.refused.is_set() or time.monotonic() - began > PUT_WITHIN:
                    raise
            with suppress(TimeoutError):
                await asyncio.wait_for(flight.refused.wait(), pause)
        return await self._put_in_turn(admitted)

    async def _put_in_turn(self, admitted: Admitted) -> Instance:
        study = admitted.flight.study_instance_uid
        await self._turns.take(1, study)
        try:
            return await self._put_once(admitted)
        finally:
            self._turns.give_back(1, study)

    async def _put_once(self, admitted: Admitted) -> Instance:
        instance, study = admitted.instance, admitted.flight.study_instance_uid
        unpacked = await media.unpack(admitted.incoming)
        if unpacked is not None:
            key = keys.media(study, instance.sop_instance_uid, unpacked.media.extension, instance.revision)
            content_type = unpacked.media.mime_type
            await self._store.put_stream(key, unpacked.media.size, unpacked.chunks, content_type=content_type)
            instance = instance.with_media(unpacked.media)
        if self._viewable and admitted.incoming.transfer_syntax_uid in MADE_VIEWABLE:
            made = await self._made_viewable(admitted)
            if made is not None:
                return await self._put_both(admitted, instance, made)
        await self._put_instance(keys.instance(study, instance.sop_instance_uid, instance.revision), admitted)
        return instance

    async def _made_viewable(self, admitted: Admitted) -> bytes | None:
        """The data set in explicit little endian; None where it stays as it came."""
        incoming, uid = admitted.incoming, admitted.instance.sop_instance_uid
        if incoming.body.size > VIEWABLE_LIMIT:
            log.warning("instance %s is not made viewable: %d bytes", uid, incoming.body.size)
            return None

        def convert() -> bytes:
            return made_viewable(incoming.body.read(0, incoming.body.size), incoming.transfer_syntax_uid)

        try:
            async with self._closer_look:
                data = await in_thread(convert)
            flight = admitted.flight
            await self._cache.reserve(flight.study_instance_uid, len(data), for_nobody=flight.for_nobody)
        except (MalformedDataSet, CacheFull) as e:
            log.warning("instance %s is not made viewable: %s", uid, e)
            return None
        return data

    async def _put_both(self, admitted: Admitted, instance: Instance, made: bytes) -> Instance:
        """Stores what was made viewable in the place of the instance, and beside it what came."""
        study, incoming = admitted.flight.study_instance_uid, admitted.incoming
        await self._put_instance(keys.original(study, instance.sop_instance_uid, instance.revision), admitted)
        prefix = file_header(
            incoming.sop_class_uid,
            instance.sop_instance_uid,
            EXPLICIT_LITTLE_ENDIAN,
        )
        key = keys.instance(study, instance.sop_instance_uid, instance.revision)
        await self._store.put(key, [prefix, made], content_type=DICOM)
        return instance._replace(
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
            size=len(prefix) + len(made),
            viewable_from=incoming.transfer_syntax_uid,
            original_size=instance.size,
        )

    async def _put_instance(self, key: str, admitted: Admitted) -> None:
        body = admitted.incoming.body
        if not body.spooled:
            await self._store.put(key, [admitted.prefix, body.head(body.size)], content_type=DICOM)
            return

        async def chunks() -> AsyncIterator[bytes]:
            yield admitted.prefix
            for offset in range(0, body.size, CHUNK):
                yield await in_thread(body.read, offset, CHUNK)

        await self._store.put_stream(key, admitted.instance.size, chunks, content_type=DICOM)
