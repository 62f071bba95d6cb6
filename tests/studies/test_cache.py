"""The cache keeps to its budget and to its promises: against a real store and a real journal."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.journal import StudyState
from gateway.studies import keys
from gateway.studies.cache import Budget, CacheFull, StudyCache
from gateway.studies.index import Instance, StudyIndex


@pytest.fixture
async def make(store, journal):
    async def make(budget=None):
        cache = StudyCache(store, journal, budget or Budget(10_000))
        await cache.open()
        return cache

    return make


async def put(cache, store, uid, size=1000):
    """A study of one instance, as a fetch would leave it."""
    async with cache.pinned(uid):
        await cache.filling(uid)
        await cache.reserve(uid, size)
        await store.put(keys.instance(uid, "1"), b"x" * size, content_type="application/dicom")
        await cache.filled(StudyIndex(uid, {"1": Instance("1", "2", "3", "4", size)}, True, "main"))


async def objects(store, uid):
    return [o.key async for o in store.list(keys.study(uid))]


async def test_the_least_recently_used_study_goes_first(make, store, journal):
    cache = await make()
    for n in range(1, 10):
        await put(cache, store, f"1.{n}")
    await journal.access("stu", "1.1", urls_valid_until=0.0)
    await put(cache, store, "1.99", 2000)
    assert await objects(store, "1.2") == []
    assert await cache.index("1.2") is None
    assert await cache.index("1.1") is not None
    assert cache.size <= 10_000


async def test_a_study_with_valid_urls_is_never_evicted_and_full_is_told(make, store, journal):
    cache = await make()
    for n in range(1, 10):
        await put(cache, store, f"1.{n}")
        await journal.access("stu", f"1.{n}", urls_valid_until=time.time() + 60)
    with pytest.raises(CacheFull, match=r"raise cache\.max_size"):
        await cache.reserve("1.99", 2000)
    assert len(await objects(store, "1.1")) == 2


async def test_a_study_in_use_is_never_evicted(make, store):
    cache = await make()
    for n in range(1, 10):
        await put(cache, store, f"1.{n}")
    async with cache.pinned("1.1"):
        await put(cache, store, "1.99", 2000)
        assert len(await objects(store, "1.1")) == 2
    assert await objects(store, "1.2") == []


async def test_too_little_free_space_evicts_and_freed_space_counts_before_the_disk_shows_it(make, store):
    free = 10_000
    cache = await make(Budget(10**9, min_free=4_000, free_space=lambda: free))
    for n in range(1, 6):
        await put(cache, store, f"1.{n}")
    free = 4_500
    await cache.reserve("1.99", 1_000)  # 500 short: one study goes
    assert await objects(store, "1.1") == []
    assert len(await objects(store, "1.2")) == 2
    await cache.reserve("1.99", 400)  # the freed space is counted, though the disk shows none of it yet
    assert len(await objects(store, "1.2")) == 2


async def test_a_disk_that_is_nearly_full_takes_nothing_more(make):
    cache = await make(Budget(10**9, min_free=4_000, free_space=lambda: 1_999))
    with pytest.raises(CacheFull, match=r"and cache\.min_free is"):
        await cache.reserve("1.1", 1)


async def test_what_a_killed_fetch_left_is_swept_and_whole_studies_stay(make, store, journal):
    cache = await make()
    await put(cache, store, "1.1")
    await cache.filling("1.2")
    await store.put(keys.instance("1.2", "1"), b"half", content_type="application/dicom")
    after_restart = await make()
    await after_restart.sweep()
    assert await objects(store, "1.2") == []
    assert await journal.cached_study("1.2") is None
    assert await after_restart.index("1.1") is not None


async def test_a_lost_journal_is_made_good_from_the_store(make, store, journal):
    await put(await make(), store, "1.1")
    await journal.forgotten("1.1")
    cache = await make()
    await cache.sweep()
    study = await journal.cached_study("1.1")
    assert (study.state, study.size) == (StudyState.READY, 1000)
    assert cache.size == 1000


async def test_a_lost_store_is_made_good_in_the_journal(make, store, journal):
    await journal.filled("1.1", size=5000, instances=3)
    cache = await make()
    assert cache.size == 5000
    await cache.sweep()
    assert cache.size == 0
    assert await journal.cached_study("1.1") is None


async def test_a_sweep_leaves_a_fetch_alone_that_is_under_way(make, store):
    cache = await make()
    async with cache.pinned("1.1"):
        await cache.filling("1.1")
        await store.put(keys.instance("1.1", "1"), b"coming", content_type="application/dicom")
        await cache.sweep()
        assert len(await objects(store, "1.1")) == 1


async def test_what_comes_while_its_study_is_being_removed_waits_until_that_has_ended():
    """Else what was put and acknowledged meanwhile would be removed with the rest."""
    cache = StudyCache(None, None, Budget(10**9))
    async with cache._alone_with("1.2"):
        other = asyncio.create_task(cache.reserve("1.3", 100))
        coming = asyncio.create_task(cache.reserve("1.2", 100))
        async with asyncio.timeout(20):
            await other
        await asyncio.sleep(0.05)
        assert not coming.done()
    async with asyncio.timeout(20):
        await coming
    assert cache.size == 200
