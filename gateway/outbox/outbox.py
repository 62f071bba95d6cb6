"""Brings objects into PACS under durable jobs: stored, committed to where that is on, then our copy goes.

At least once, and idempotent by SOP Instance UID, so that the effect is once: a crash between the PACS's answer
and our record of it stores the same object again, which a PACS takes for the same. A job brings one object into one
PACS, and (target, SOP Instance UID) is what makes it one, so what is added twice is stored once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydicom.uid import UID

from gateway.journal import (
    CannotBeDone,
    CommitmentAnswer,
    Ended,
    Job,
    JobState,
    JobStep,
    Journal,
    Kind,
    PlaceSilent,
    Recorded,
    Transaction,
    TryLater,
    jobs,
    objects,
)
from gateway.objects import ObjectNotFound, ObjectStore
from gateway.outbox.commitment import Commitments, overdue
from gateway.outbox.copies import Copies, Copy
from gateway.outbox.jobs import StoreObject
from gateway.pacs import AssociationRejected, Body, PacsError
from gateway.pacs.scu import CannotTranscode, OutgoingInstance, Stored, Target, transcoded
from gateway.runtime import Spools, bind, span, step

log = logging.getLogger(__name__)

TIMES_STORED = 5
"""Times that an object is stored in a PACS that then does not commit to it, before an operator decides."""

AT_ONCE = 4
"""Objects that are being stored in one PACS at the same time."""


@dataclass(frozen=True, slots=True)
class OutboxObject:
    """An object that is to be stored. It lies in the store as a Part 10 file under a key of its own for each
    target (:meth:`Outbox.key`), so that each copy can go by itself."""

    study_instance_uid: str
    series_instance_uid: str
    """Empty where its UIDs are our own: no PACS holds another object of them."""
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    """Bytes of the file."""
    sha256: str
    """Of what it came from, in hex: tells the same object again from another one of the same UID."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that a PACS has taken."""

    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    body: Body
    """Its data set; to be closed by who is told."""


OnStored = Callable[[StoredObject], Awaitable[None]]
"""Told of each object once a PACS has it, for a cache that is to show it. What it raises is logged."""


class OtherObject(Exception):
    """Another object of the same SOP Instance UID is stored, or is being stored, in the same PACS."""

    def __init__(self, job: Job) -> None:
        over = job.state is JobState.DONE
        super().__init__(
            f"other bytes {'were stored' if over else 'are to be stored'} under its SOP Instance UID (job {job.id}): "
            + (
                "discard this one; an object that was changed needs a UID of its own"
                if over
                else "discard the wrong one of the two jobs, and retry the other"
            )
        )


class Outbox:
    """What one use case has to bring into PACS."""

    def __init__(
        self,
        name: str,
        *,
        objects: ObjectStore,
        journal: Journal,
        targets: Mapping[str, Target],
        storage_commitment: bool,
        keep_for: float,
        retry_for: float,
        spools: Spools,
        on_stored: OnStored,
    ) -> None:
        """*name* begins the name of its kind of jobs; *targets* are the PACS by the operator's names for them;
        *keep_for* and *retry_for* are seconds."""
        self.store_kind = f"{name}.store"
        self._commitments = Commitments(journal)
        self._copies = Copies(objects, spools)
        self._journal = journal
        self._targets = targets
        self._with_commitment = storage_commitment
        self._keep_for = keep_for
        self._retry_for = retry_for
        self._spools = spools
        self._decoding = asyncio.Semaphore(1)
        self._on_stored = on_stored

    def kinds(self) -> dict[str, Kind]:
        """For a worker."""
        return {self.store_kind: Kind(self._do, AT_ONCE, self._retry_for)}

    @staticmethod
    def key(target: str, sop_instance_uid: str, sha256: str) -> str:
        """Where an object waits in the store for its PACS."""
        return f"outbox/{sop_instance_uid}/{sha256[:16]}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"

    def check(self, c: Transaction, target: str, sop_instance_uid: str, sha256: str) -> bool:
        """Whether the object was added before. Raises OtherObject where another one than that of *sha256* was, under
        its UID."""
        job = jobs.find(c, self.store_kind, _subject(target, sop_instance_uid))
        if job is not None and job.read(StoreObject).sha256 != sha256:
            raise OtherObject(job)
        return job is not None

    def reserve(self, c: Transaction, job: Job, target: str, sop_instance_uid: str, sha256: str) -> str:
        """Where *job* may put an object now that it is going to add: nobody removes it meanwhile. Raises
        BeingRemoved."""
        key = self.key(target, sop_instance_uid, sha256)
        objects.use(c, job.id, [key])
        return key

    async def put(self, key: str, content: bytes) -> None:
        """Writes a small Part 10 file under a *key* that was reserved; what is added soon is at hand then. Raises
        StoreError."""
        await self._copies.put(key, content)

    def add(
        self,
        c: Transaction,
        target: str,
        added: OutboxObject,
        *,
        text: str,
        source: Mapping[str, str],
        unheard: bool = False,
    ) -> Job:
        """Storing of an object, which is in the store already, is due; *source* says where it came from, for the
        record. *unheard*: the PACS has not said yet whether it holds another object under its UID. The job that does
        it, which may be there and done. Raises OtherObject, BeingRemoved."""
        payload = StoreObject(
            target=target, key=self.key(target, added.sop_instance_uid, added.sha256), size=added.size,
            sha256=added.sha256, study_instance_uid=added.study_instance_uid,
            series_instance_uid=added.series_instance_uid, sop_class_uid=added.sop_class_uid,
            sop_instance_uid=added.sop_instance_uid, transfer_syntax_uid=added.transfer_syntax_uid, source=source,
            unheard=unheard,
        )  # fmt: skip
        self.check(c, target, added.sop_instance_uid, added.sha256)
        return jobs.add(c, self.store_kind, _subject(target, added.sop_instance_uid), payload, text=text)[0]

    async def _do(self, job: Job) -> Ended:
        """Stores one object, or goes on with its commitment. Raises TryLater, CannotBeDone, UnreadablePayload."""
        payload = job.read(StoreObject)
        bind(study=payload.study_instance_uid)
        target = self._targets.get(payload.target)
        if target is None:
            raise CannotBeDone(f"no PACS is named {payload.target} any more: name one so, or discard this job")
        try:
            if payload.stored:
                return await self._commit(job, payload, target)
            if payload.unheard:
                return await self._ask(payload, target)
            return await self._store(job, payload, target)
        except PacsError as e:
            # A rejected association is tried again, too: an operator may be about to register us. A context that is
            # not accepted is permanent: retrying it is a storm (field note 15).
            if not (e.transient or isinstance(e, AssociationRejected)):
                raise CannotBeDone(str(e)) from e
            raise (PlaceSilent if e.unanswered else TryLater)(str(e)) from e
        except CannotTranscode as e:
            raise CannotBeDone(str(e)) from e
        except OSError as e:
            raise TryLater(f"it cannot be written to state_dir/spool: {e.strerror or e}") from e

    async def _ask(self, payload: StoreObject, target: Target) -> Ended:
        """Asks before the first attempt what could not be asked before; after it, it would be told of our own."""
        if await target.holds(payload.study_instance_uid, payload.series_instance_uid, payload.sop_instance_uid):
            raise CannotBeDone(holds_another(str(target)))
        return JobStep("the PACS holds no other instance of its UID", dataclasses.replace(payload, unheard=False))

    async def _store(self, job: Job, payload: StoreObject, target: Target) -> Ended:
        if payload.key is None:
            raise CannotBeDone("the record of where our copy lies is lost: have the object sent to us again")
        try:
            copy = await self._copies.get(payload.key)
        except ObjectNotFound as e:
            raise CannotBeDone("our copy is gone from the store: have the object sent to us again") from e
        with copy:
            syntax = payload.transfer_syntax_uid
            body = copy.body()
            try:
                instance = OutgoingInstance(payload.sop_class_uid, payload.sop_instance_uid, syntax, body)
                with step(log, "storing instance %s in %s", payload.sop_instance_uid, target.name), span("store"):
                    stored = await target.store(
                        payload.study_instance_uid, instance, lambda to: self._transcoded(copy, to)
                    )
            finally:
                body.close()
            log.info("instance %s is stored in %s", payload.sop_instance_uid, target.name)
            self._copies.drop(payload.key)
            await self._tell(payload, copy.body())
        text = f"stored in {target}" + _with(stored, syntax)
        if self._with_commitment and target.committer is not None:
            return JobStep(text, dataclasses.replace(payload, stored=True))
        return self._done(job, payload, text)

    async def _transcoded(self, copy: Copy, transfer_syntax_uid: str) -> Body:
        """One at a time: decoding takes a core, and room on the disk."""
        async with self._decoding:
            return await transcoded(await copy.file(), transfer_syntax_uid, spools=self._spools)

    async def _tell(self, payload: StoreObject, body: Body) -> None:
        stored = StoredObject(
            payload.study_instance_uid, payload.sop_instance_uid, payload.sop_class_uid, payload.transfer_syntax_uid,
            body,
        )  # fmt: skip
        try:
            await self._on_stored(stored)
        except Exception:
            # The PACS has it, and the next access compares the cache with the PACS.
            log.exception("instance %s is stored; the cache does not show it yet", stored.sop_instance_uid)

    def _done(self, job: Job, payload: StoreObject, text: str) -> Ended:
        done = dataclasses.replace(payload, key=None)
        return Recorded(lambda c: jobs.end(c, job, JobState.DONE, text, done, clean_after=self._keep_for))

    async def _commit(self, job: Job, payload: StoreObject, target: Target) -> Ended:
        known = await self._commitments.state(job, payload)
        if known.answer is CommitmentAnswer.COMMITTED:
            return self._done(job, payload, f"stored and committed by {target}")
        if known.answer is CommitmentAnswer.NONE:
            if target.committer is None:
                return self._done(job, payload, f"stored; {target} is not asked for storage commitment any more")
            if overdue(known, job.since, self._journal.clock.now(), self._retry_for):
                raise CannotBeDone(
                    f"{target} has it, was asked {known.asked} times to commit to it, and has not answered "
                    "in all this time: does it report to our AE title, at our host and port?"
                )
            await self._commitments.ask(job, payload, target.committer)
            return None
        vain = payload.stored_in_vain + 1
        again = dataclasses.replace(payload, stored=False, stored_in_vain=vain)
        if vain >= TIMES_STORED:
            raise CannotBeDone(f"{target} took it {vain} times and does not commit to it: {known.reason}", again)
        return JobStep(f"not committed: {known.reason}; it is stored again", again, after=jobs.pause_after(vain + 2))


def holds_another(pacs: str) -> str:
    """Why an object is not stored, for the operator: *pacs* has another one under its UID."""
    return (
        f"{pacs} holds another instance of its SOP Instance UID, which did not come through this gateway: discard this "
        "one; an object that was changed needs a UID of its own"
    )


def _subject(target: str, sop_instance_uid: str) -> str:
    return f"{sop_instance_uid} {target}"


def _with(stored: Stored, syntax: str) -> str:
    converted = "" if stored.transfer_syntax_uid == syntax else f", as {UID(stored.transfer_syntax_uid).name}"
    quoted = f" ({stored.remark})" if stored.remark else ""  # it goes into the job's history only
    return converted + (f", with a warning: {stored.warning}{quoted}" if stored.warning else "")
