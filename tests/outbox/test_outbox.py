"""The outbox on a real journal, with a store and a PACS that do what a test wants of them."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from gateway.journal import Jobs, JobState, leases, objects
from gateway.journal import jobs as table
from gateway.journal.handling import CannotBeDone, Recorded
from gateway.journal.objects import BeingRemoved
from gateway.outbox import Outbox, OutboxObject
from gateway.outbox import commitment as commitment_module
from gateway.outbox.clean import Cleaner
from gateway.outbox.commitment import FIRST_WAIT, Commitments
from gateway.outbox.jobs import StoreObject
from gateway.pacs.dicomweb.stow import StowTarget
from gateway.pacs.scu.commitment import CommitmentResult
from gateway.pacs.scu.target import CStoreTarget
from gateway.runtime.spools import Spools
from tests.clock import ManualClock
from tests.untyped import Untyped

RETRY_FOR = 3 * 86400.0

ADDED = OutboxObject("1.2", "1.2.1", "1.2.840.10008.5.1.4.1.1.7", "1.2.3", "1.2.840.10008.1.2.1", 10, "ab" * 32)


@pytest.fixture
def clock():
    return ManualClock()


class Pacs:
    """A client whose peer is named, and whose N-ACTIONs are counted."""

    peer = "PACS main"

    def __init__(self):
        self.transactions = []


@pytest.fixture
def pacs(monkeypatch):
    """What the PACS is asked for; it answers nothing by itself."""
    asked = Pacs()

    async def request(client, transaction_uid, sop_class_uid, sop_instance_uid, *, on_report):
        client.transactions.append(transaction_uid)

    monkeypatch.setattr(commitment_module, "request_commitment", request)
    return asked


@pytest.fixture
def outbox(journal, pacs, tmp_path):
    async def told(stored):
        pass

    return Outbox(
        "capture", objects=None, journal=journal, targets={"main": CStoreTarget(pacs)}, storage_commitment=True,
        keep_for=60.0, retry_for=RETRY_FOR, spools=Spools(tmp_path), on_stored=told,
    )  # fmt: skip


async def stored(journal, outbox):
    """A job whose object the PACS has, and has not committed itself to."""
    job = await journal.run(lambda c: outbox.add(c, "main", ADDED, text="", source={"slot": "s"}))
    payload = dataclasses.replace(job.read(StoreObject), stored=True)
    await journal.run(lambda c: table.reschedule(c, job, "stored", payload=payload))
    return job.id


async def take(journal):
    (job,) = await journal.run(lambda c: leases.take(c, "capture.store", "main", 1, "one", 60))
    return job


async def attempt(journal, outbox):
    """One attempt at the job, which is due, recorded as a worker does."""
    ended = await outbox.kinds()["capture.store"].handler(await take(journal))
    if isinstance(ended, Recorded):
        await journal.run(ended.record)
    return ended


def committed(transaction):
    return CommitmentResult(transaction, frozenset({"1.2.3"}), {})


def failed(transaction):
    return CommitmentResult(transaction, frozenset(), {"1.2.3": "no such object instance (0112)"})


# -- storage commitment


async def test_only_the_pacs_that_was_asked_is_believed(journal, outbox, pacs, caplog):
    job_id = await stored(journal, outbox)
    await attempt(journal, outbox)
    (asked,) = pacs.transactions
    for others in (["second"], []):
        assert not await Commitments(journal).report(committed(asked), others)
    assert "it is not believed" in caplog.text
    assert (await Jobs(journal).get(job_id)).state is JobState.WAITING
    assert await Commitments(journal).report(committed(asked), ["second", "main"])  # two that share a title


async def test_an_answer_to_an_earlier_request_counts_however_late(journal, outbox, pacs, clock):
    job_id = await stored(journal, outbox)
    for _ in range(3):
        await attempt(journal, outbox)
        await clock.pass_time(4 * FIRST_WAIT, step=FIRST_WAIT)
    first, *_ = pacs.transactions
    assert len(set(pacs.transactions)) == 3
    assert await Commitments(journal).report(committed(first), ["main"])
    await attempt(journal, outbox)
    job = await Jobs(journal).get(job_id)
    assert job.state is JobState.DONE
    assert len(pacs.transactions) == 3  # it was not asked again


async def test_what_was_stored_is_done_where_its_pacs_is_not_asked_for_commitment_any_more(journal, outbox, pacs):
    """``pacs[].store`` was changed to ``stow-rs`` while an answer was awaited."""
    job_id = await stored(journal, outbox)
    outbox._targets = {"main": StowTarget(pacs)}
    await attempt(journal, outbox)
    assert (await Jobs(journal).get(job_id)).state is JobState.DONE
    assert "not asked for storage commitment any more" in (await Jobs(journal).history(job_id))[-1].text
    assert pacs.transactions == []


async def test_an_answer_brings_the_job_on_at_once(journal, outbox, pacs, clock):
    job_id = await stored(journal, outbox)
    await attempt(journal, outbox)
    assert (await Jobs(journal).get(job_id)).next_at == clock.now() + FIRST_WAIT
    await Commitments(journal).report(committed(pacs.transactions[0]), ["main"])
    assert (await Jobs(journal).get(job_id)).next_at == clock.now()


async def test_what_nobody_asked_for_is_not_acknowledged_as_if_it_were_kept(journal, outbox, pacs):
    await stored(journal, outbox)
    assert not await Commitments(journal).report(committed("2.25.1"), ["main"])


async def test_an_answer_that_is_sent_twice_is_acknowledged_twice(journal, outbox, pacs):
    await stored(journal, outbox)
    await attempt(journal, outbox)
    for _ in range(2):
        assert await Commitments(journal).report(committed(pacs.transactions[0]), ["main"])
    await attempt(journal, outbox)
    assert await Commitments(journal).report(committed(pacs.transactions[0]), ["main"])  # and once the job is done


@pytest.mark.slow
async def test_time_counts_from_when_it_was_stored(journal, outbox, pacs, clock):
    """What could not be stored for three days is asked about all the same."""
    job = await journal.run(lambda c: outbox.add(c, "main", ADDED, text="", source={}))
    await clock.pass_time(RETRY_FOR + 3600, step=3600)
    payload = dataclasses.replace(job.read(StoreObject), stored=True)
    await journal.run(lambda c: table.reschedule(c, job, "stored", payload=payload))
    await attempt(journal, outbox)
    assert len(pacs.transactions) == 1
    assert (await Jobs(journal).get(job.id)).state is JobState.WAITING


@pytest.mark.slow
async def test_a_pacs_that_never_answers_is_left_to_an_operator_whose_retry_asks_anew(journal, outbox, pacs, clock):
    job_id = await stored(journal, outbox)

    async def go_on():
        for _ in range(100):
            await attempt(journal, outbox)
            job = await Jobs(journal).get(job_id)
            await clock.pass_time(job.next_at - clock.now(), step=3600)

    with pytest.raises(CannotBeDone, match="does it report to our AE title"):
        await go_on()
    assert 10 < len(pacs.transactions) < 40
    asked = len(pacs.transactions)
    job = await Jobs(journal).get(job_id)
    await journal.run(lambda c: table.end(c, job, JobState.QUARANTINED, "no answer"))
    await Jobs(journal).retry(job_id)
    await attempt(journal, outbox)
    assert len(pacs.transactions) == asked + 1


async def test_a_late_refusal_of_what_was_stored_again_since_is_none(journal, outbox, pacs, clock):
    job_id = await stored(journal, outbox)
    await attempt(journal, outbox)
    await Commitments(journal).report(failed(pacs.transactions[0]), ["main"])
    step = await attempt(journal, outbox)
    assert "it is stored again" in step.text
    again = dataclasses.replace(step.payload, stored=True)
    job = await Jobs(journal).get(job_id)
    await journal.run(lambda c: table.reschedule(c, job, "stored", payload=again))
    await attempt(journal, outbox)
    assert len(pacs.transactions) == 2  # asked for the new one, and the old refusal is not held against it
    await Commitments(journal).report(committed(pacs.transactions[1]), ["main"])
    await attempt(journal, outbox)
    assert (await Jobs(journal).get(job_id)).state is JobState.DONE


# -- what nobody needs any more


class Store:
    """Remembers what is deleted; a deletion can be held up."""

    def __init__(self):
        self.deleted = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def delete(self, keys):
        self.begun.set()
        await self.go.wait()
        self.deleted += keys


async def cleaning(journal, key):
    await journal.run(lambda c: table.clean(c, key, after=0))
    (job,) = await journal.run(lambda c: leases.take(c, table.CLEAN, "", 1, "one", 60))
    return job


async def test_a_new_user_that_comes_between_look_and_removal_is_not_harmed(journal, outbox):
    store, key = Store(), Outbox.key("main", ADDED.sop_instance_uid, ADDED.sha256)
    job = await cleaning(journal, key)
    removal = asyncio.create_task(Cleaner(store, journal)(job))
    await store.begun.wait()
    user, _ = await journal.run(lambda c: table.add(c, "test", "a", Untyped()))
    with pytest.raises(BeingRemoved):  # so it is tried again, and puts its object after the removal
        await journal.run(lambda c: outbox.reserve(c, user, "main", ADDED.sop_instance_uid, ADDED.sha256))
    store.go.set()
    await removal
    assert store.deleted == [key]
    assert await journal.run(lambda c: outbox.reserve(c, user, "main", ADDED.sop_instance_uid, ADDED.sha256)) == key


async def test_an_object_that_is_about_to_be_used_again_stays(journal, outbox):
    store, key = Store(), Outbox.key("main", ADDED.sop_instance_uid, ADDED.sha256)
    user, _ = await journal.run(lambda c: table.add(c, "test", "a", Untyped()))
    await journal.run(lambda c: outbox.reserve(c, user, "main", ADDED.sop_instance_uid, ADDED.sha256))
    job = await cleaning(journal, key)
    await Cleaner(store, journal)(job)
    assert store.deleted == []
    assert (await Jobs(journal).history(job.id))[-1].text == f"done: kept: job {user.id} needs it"


async def test_a_removal_that_was_killed_is_finished_and_blocks_nobody_for_ever(journal, outbox):
    store, key = Store(), "outbox/x"
    job = await cleaning(journal, key)
    await journal.run(lambda c: objects.claim(c, job.id, key))  # and then it was killed
    await journal.run(lambda c: leases.release(c, "two", alone=True))
    await journal.run(lambda c: c.connection.exec_driver_sql("UPDATE jobs SET next_at = 0"))
    (job,) = await journal.run(lambda c: leases.take(c, table.CLEAN, "", 1, "two", 60))
    store.go.set()
    await Cleaner(store, journal)(job)
    assert store.deleted == [key]
    await journal.run(lambda c: objects.use(c, job.id, [key]))


async def test_what_several_jobs_need_goes_with_the_last(journal):
    first, second = [
        (await journal.run(lambda c, n=n: table.add(c, "test", n, Untyped({"key": "reports/x.pdf"}))))[0]
        for n in ("a", "b")
    ]
    await journal.run(lambda c: table.end(c, first, JobState.DONE, "", clean_after=60.0))
    assert await Jobs(journal).list(kinds=[table.CLEAN]) == []
    await journal.run(lambda c: table.end(c, second, JobState.DONE, "", clean_after=60.0))
    (clean,) = await Jobs(journal).list(kinds=[table.CLEAN])
    assert clean.read(table.CleanObject).key == "reports/x.pdf"
