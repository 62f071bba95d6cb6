"""The cache of studies in the object store: what is in it, and how it stays within its budget.

The journal's ledger says what lies in the store and when it was last of use; the store holds the
objects and, written last, each study's index. What nobody has opened goes first, then the least recently used; a study
with URLs that are still valid, or one in flight, never goes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.journal import Journal, StudyState
from gateway.objects import ObjectNotFound, ObjectStore, StoreError
from gateway.runtime import GatewayError
from gateway.studies import index as index_file
from gateway.studies import keys
from gateway.studies.index import StudyIndex

log = logging.getLogger(__name__)

INDEXES_IN_MEMORY = 30_000
"""Instances whose index entries are kept in memory; measured, 27 MB."""

DELETED_SPACE_RETURNS_AFTER = 20 * 60.0
"""Seconds. The embedded store gives the space of deleted objects back by a vacuum that runs every 14
minutes (docs/object-store.md): until then, what was evicted counts as free although the disk does not
show it, or the whole cache would be evicted for a disk that is about to have room."""


OPENED_LATELY = 7 * 86400.0
"""Seconds for which a study that was opened does not go for one that nobody has asked for."""

FULL_FOR = 3600.0
"""Seconds for which a cache that had to refuse a study counts as full, unless it takes one meanwhile."""


class CacheFull(GatewayError):
    """There is no room, and nothing that may be evicted. The text says so for the operator, and names no host."""

    transient = True


@dataclass(frozen=True, slots=True)
class Budget:
    """How much the cache may take."""

    max_size: int
    """Bytes in the store."""
    min_free: int = 0
    """Bytes that stay free on the store's disk, where that can be seen."""
    free_space: Callable[[], int] | None = None
    """Bytes free on the store's disk; None where the store is elsewhere and does not tell."""


class StudyCache:
    """Studies in the store: read, written, counted and evicted."""

    def __init__(self, store: ObjectStore, journal: Journal, budget: Budget) -> None:
        self._store = store
        self._journal = journal
        self._budget = budget
        self._indexes: OrderedDict[str, StudyIndex] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._total = 0
        self.evicted = 0
        """Studies that had to make room, since the start."""
        self._pins: Counter[str] = Counter()
        self._dropping: dict[str, asyncio.Event] = {}
        self._evicting = asyncio.Lock()
        self._freed: list[tuple[float, int]] = []
        self._unsettled: set[str] = set()
        self._fetched: dict[str, float] = {}
        self._full: tuple[float, str] | None = None

    async def open(self) -> None:
        """Reads the ledger. To be called before anything else."""
        for study in await self._journal.cached_studies():
            self._count(study.study_instance_uid, study.size)

    @property
    def size(self) -> int:
        """Bytes in the store, instances in flight included."""
        return self._total

    @property
    def number(self) -> int:
        """Studies in the store, those in flight included."""
        return len(self._sizes)

    def capacity(self) -> int:
        """Bytes that may lie in the store, by its own limit and by what its disk leaves, where that can be seen."""
        if self._budget.free_space is None:
            return self._budget.max_size
        on_disk = self._total + self._budget.free_space() - self._budget.min_free
        return max(min(self._budget.max_size, on_disk), 0)

    def _count(self, study_instance_uid: str, size: int) -> None:
        self._total += size - self._sizes.get(study_instance_uid, 0)
        self._sizes[study_instance_uid] = size

    def _forget(self, study_instance_uid: str) -> int:
        self._indexes.pop(study_instance_uid, None)
        self._fetched.pop(study_instance_uid, None)
        size = self._sizes.pop(study_instance_uid, 0)
        self._total -= size
        return size

    @asynccontextmanager
    async def pinned(self, study_instance_uid: str) -> AsyncIterator[None]:
        """While this is held, the study is not evicted. Waits for an eviction of it that has begun."""
        while (dropping := self._dropping.get(study_instance_uid)) is not None:
            await dropping.wait()
        self._pins[study_instance_uid] += 1
        try:
            yield
        finally:
            self._pins[study_instance_uid] -= 1
            if not self._pins[study_instance_uid]:
                del self._pins[study_instance_uid]

    async def index(self, study_instance_uid: str) -> StudyIndex | None:
        """The index of a cached study; None where there is none. Raises StoreError."""
        known = self._indexes.get(study_instance_uid)
        if known is not None:
            self._indexes.move_to_end(study_instance_uid)
            return known
        try:
            found = index_file.load(await self._store.get(keys.index(study_instance_uid)))
        except ObjectNotFound:
            return None
        if (newer := self._indexes.get(study_instance_uid)) is not None:  # written meanwhile
            return newer
        if found is not None and not found.fetched:
            written = await self._store.head(keys.index(study_instance_uid))
            moment = written.last_modified if written is not None else None
            found = dataclasses.replace(found, fetched=moment.timestamp() if moment else self._journal.clock.now())
        if found is not None:
            self.remember(found)
        return found

    async def filling(self, study_instance_uid: str) -> None:
        """A fetch is about to write its first object: from now on the ledger knows of it."""
        await self._journal.filling(study_instance_uid)

    async def filled(self, index: StudyIndex, gone: Collection[str] = ()) -> None:
        """Writes the index: the study is there. The objects *gone* are its own no longer, and are deleted; those that
        cannot be deleted now are later. Raises StoreError."""
        uid = index.study_instance_uid
        if gone:
            await self._journal.filling(uid)  # so that a restart looks for what was not deleted
        await self._write(index)
        if not gone or await self._delete(uid, gone):
            await self._journal.filled(uid, size=index.size, instances=len(index.instances))
        self._count(uid, index.size)

    async def superseded(self, index: StudyIndex) -> None:
        """What *index* names is not given any more, and is there until it is removed. Raises StoreError."""
        await self._journal.filling(index.study_instance_uid)
        await self._write(dataclasses.replace(index, instances={}, complete=False, statement=None))

    async def _write(self, index: StudyIndex) -> None:
        key = keys.index(index.study_instance_uid)
        await self._store.put(key, index_file.dump(index), content_type="application/octet-stream")
        self.remember(index)

    async def _delete(self, study_instance_uid: str, object_keys: Collection[str]) -> bool:
        try:
            await self._store.delete(object_keys)
        except StoreError as e:
            log.error(
                "objects of study %s that are not to be seen any more cannot be deleted now, and will be: %s",
                study_instance_uid, e,
            )  # fmt: skip
            self._unsettled.add(study_instance_uid)
            return False
        return True

    def fetched(self, study_instance_uid: str) -> float | None:
        """Unix seconds since which a study is in the store, where its index was read or written since the start."""
        return self._fetched.get(study_instance_uid)

    def remember(self, index: StudyIndex) -> None:
        """Keeps an index at hand, the latest ones."""
        self._fetched[index.study_instance_uid] = index.fetched
        self._indexes[index.study_instance_uid] = index
        self._indexes.move_to_end(index.study_instance_uid)
        while len(self._indexes) > 1 and sum(len(i.instances) for i in self._indexes.values()) > INDEXES_IN_MEMORY:
            self._indexes.popitem(last=False)

    async def reserve(self, study_instance_uid: str, size: int, *, for_nobody: bool = False) -> None:
        """Makes room for *size* bytes of a study and counts them. *for_nobody* is what is fetched before anybody asks:
        nothing that was opened lately goes for it. Waits for a removal of the study that has begun, which would take
        what is put now for a part of what it removes. Raises CacheFull."""
        while (dropping := self._dropping.get(study_instance_uid)) is not None:
            await dropping.wait()
        try:
            if self._lacks(size):
                async with self._evicting:
                    if self._lacks(size):
                        await self._evict(size, for_nobody=for_nobody)
        except CacheFull as e:
            if not for_nobody:
                self._full = time.monotonic(), str(e)
            raise
        self._full = None
        self._count(study_instance_uid, self._sizes.get(study_instance_uid, 0) + size)

    async def check(self) -> str:
        """How much room there is. Raises CacheFull, where the disk lacks it or a study was refused of late."""
        lacks = self._lacks(0)
        if lacks > self._total:
            raise CacheFull(self._short_of_disk())
        if self._full is not None and time.monotonic() - self._full[0] < FULL_FOR:
            raise CacheFull(self._full[1])
        return f"{self.size / 1e9:.1f} of {self._budget.max_size / 1e9:.0f} GB"

    def _lacks(self, size: int) -> int:
        """Bytes that would have to go before *size* more may come; 0 where there is room."""
        over = self.size + size - self._budget.max_size
        if self._budget.free_space is not None:
            self._freed = [(t, n) for t, n in self._freed if time.monotonic() - t < DELETED_SPACE_RETURNS_AFTER]
            free = self._budget.free_space()
            if free < self._budget.min_free // 2:
                raise CacheFull(self._short_of_disk())
            over = max(over, self._budget.min_free + size - free - sum(n for _, n in self._freed))
        return max(over, 0)

    def _short_of_disk(self) -> str:
        assert self._budget.free_space is not None
        return (
            f"the store's disk has {self._budget.free_space() / 1e9:.1f} GB left, and cache.min_free is "
            f"{self._budget.min_free / 1e9:.1f} GB: free space on it, or lower cache.min_free or cache.max_size"
        )

    async def _evict(self, size: int, *, for_nobody: bool) -> None:
        """Evicts until *size* bytes fit: first what nobody has opened, then the least recently used."""
        spared_since = self._journal.clock.now() - OPENED_LATELY if for_nobody else math.inf
        for study in sorted(await self._journal.cached_studies(), key=lambda one: one.opened > 0):
            if not self._lacks(size):
                return
            if study.opened > spared_since:
                continue
            # The ledger was read a while ago, and a URL may have been handed out since.
            now = await self._journal.cached_study(study.study_instance_uid)
            if (
                now is not None
                and now.urls_valid_until <= self._journal.clock.now()
                and await self.drop(study.study_instance_uid)
            ):
                self.evicted += 1
                log.info("evicted study %s: %d bytes", study.study_instance_uid, study.size)
        if lacks := self._lacks(size):
            if lacks > self._total + size:
                raise CacheFull(self._short_of_disk())
            if for_nobody:
                raise CacheFull("the cache is full of studies that were opened lately: raise cache.max_size")
            raise CacheFull(
                f"the cache holds {self.size / 1e9:.1f} GB of {self._budget.max_size / 1e9:.1f} GB, and every study "
                "in it has valid URLs or is being fetched: raise cache.max_size, or lower cache.url_expiry"
            )

    async def drop(self, study_instance_uid: str) -> bool:
        """Deletes a study from the store, its index first, so that no half of it ever looks whole.

        False, and nothing done, where it is pinned. Raises StoreError; then it counts as still there.
        """
        if study_instance_uid in self._pins or study_instance_uid in self._dropping:
            return False
        async with self._alone_with(study_instance_uid):
            await self.discard(study_instance_uid)
        return True

    @asynccontextmanager
    async def _alone_with(self, study_instance_uid: str) -> AsyncIterator[None]:
        """While this is held, whoever wants the study waits; to be taken where it is neither pinned nor held."""
        done = self._dropping[study_instance_uid] = asyncio.Event()
        try:
            yield
        finally:
            del self._dropping[study_instance_uid]
            done.set()

    async def discard(self, study_instance_uid: str) -> None:
        """As :meth:`drop`, for the fetch that holds the pin and brought nothing. Raises StoreError."""
        self._indexes.pop(study_instance_uid, None)
        await self._store.delete([keys.index(study_instance_uid)])
        await self._store.delete([info.key async for info in self._store.list(keys.study(study_instance_uid))])
        await self._journal.forgotten(study_instance_uid)
        self._freed.append((time.monotonic(), self._forget(study_instance_uid)))

    async def remove(self, object_keys: list[str]) -> None:
        """Deletes objects of a study whose index is yet to be written; it says what the study's size is then. Raises
        StoreError."""
        await self._store.delete(object_keys)

    async def remove_surely(self, study_instance_uid: str, object_keys: Collection[str]) -> None:
        """Deletes objects of a study that its index does not name; those that cannot be deleted now are later."""
        await self._delete(study_instance_uid, object_keys)

    def unsettled(self, study_instance_uid: str) -> None:
        """A fetch failed half-way: its study may have objects in the store that are nobody's."""
        self._unsettled.add(study_instance_uid)

    async def settle(self) -> None:
        """Deletes what could not be deleted before. Raises StoreError."""
        for uid in list(self._unsettled):
            if await self._settle(uid):
                self._unsettled.discard(uid)

    async def sweep(self) -> None:
        """Sets ledger and store right after a crash, or after one of the two was replaced.

        A study that has objects and no index is what a killed fetch left: it goes. One that the ledger
        does not know is taken into it, and one that only the ledger knows is forgotten. Runs beside the
        service; a study that is in use is left alone. Raises StoreError.
        """
        ledger = {s.study_instance_uid: s for s in await self._journal.cached_studies()}
        seen = set()
        async for prefix in self._store.list_folders(keys.ROOT):
            uid = keys.study_of(prefix)
            if uid is None:
                continue
            seen.add(uid)
            known = ledger.get(uid)
            if known is None or known.state is not StudyState.READY:
                await self._settle(uid)
        for uid in ledger.keys() - seen:
            if uid not in self._pins:
                await self._journal.forgotten(uid)
                self._forget(uid)

    async def _settle(self, study_instance_uid: str) -> bool:
        """False, and nothing is done, where somebody is at work on the study."""
        if study_instance_uid in self._pins:
            return False
        found = await self.index(study_instance_uid)
        if found is None or not found.instances:
            if await self.drop(study_instance_uid):
                log.info("removed what an interrupted fetch of study %s had left", study_instance_uid)
                return True
            return False
        if study_instance_uid in self._pins or study_instance_uid in self._dropping:
            return False
        async with self._alone_with(study_instance_uid):
            await self._remove_strays(found)
        await self._journal.filled(study_instance_uid, size=found.size, instances=len(found.instances))
        self._count(study_instance_uid, found.size)
        return True

    async def _remove_strays(self, index: StudyIndex) -> None:
        """Deletes objects that the index does not name, such as those of what was withdrawn."""
        own = index.object_keys() | {keys.index(index.study_instance_uid)}
        there = [info.key async for info in self._store.list(keys.study(index.study_instance_uid))]
        await self._store.delete([key for key in there if key not in own])
