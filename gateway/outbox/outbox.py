"""Brings objects into PACS under durable jobs: C-STORE, storage commitment where it is on, then our copy goes.

At least once, and idempotent by SOP Instance UID, so that the effect is once: a crash between the PACS's answer
and our record of it stores the same object again, which a PACS takes for the same. A job brings one object into one
PACS, and (target, SOP Instance UID) is what makes it one, so what is added twice is stored once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from pydicom.uid import UID

from gateway.journal import Job, JobState, Journal, Transaction, jobs
from gateway.journal.worker import CannotBeDone, Ended, Kind, Step, TryLater
from gateway.objects import ObjectNotFound, ObjectStore, StoreError
from gateway.objects.files import fetch_to_file
from gateway.pacs.errors import AssociationRejected, PacsError
from gateway.pacs.receiver import Body
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.commitment import CommitmentResult, request_commitment
from gateway.pacs.scu.store import CannotTranscode, OutgoingInstance, Stored, store
from gateway.pacs.scu.transcode import data_set_of, transcoded

log = logging.getLogger(__name__)

COMMITMENT_WITHIN = 15 * 60.0
"""Seconds after which a PACS that has not reported on a storage commitment is asked for it again."""

TIMES_STORED = 5
"""Times that an object is stored in a PACS that then does not commit itself to it, before an operator decides."""

AT_ONCE = 4
"""Objects that are being stored at the same time."""


@dataclass(frozen=True, slots=True)
class OutboxObject:
    """An object that is to be stored. It lies in the store as a Part 10 file under a key of its own for each
    target (:meth:`Outbox.key`), so that each copy can go by itself."""

    study_instance_uid: str
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
        targets: Mapping[str, PacsClient],
        storage_commitment: bool,
        keep_for: float,
        retry_for: float,
        spool_dir: Path,
        on_stored: OnStored,
    ) -> None:
        """*name* begins the name of its kind of jobs; *targets* are the PACS by the operator's names for them;
        *keep_for* and *retry_for* are seconds."""
        self.store_kind = f"{name}.store"
        self._objects = objects
        self._journal = journal
        self._targets = targets
        self._commitment = storage_commitment
        self._keep_for = keep_for
        self._retry_for = retry_for
        self._spool_dir = spool_dir
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
        if job is not None and job.payload.get("sha256") != sha256:
            raise OtherObject(job)
        return job is not None

    def add(
        self, c: Transaction, target: str, added: OutboxObject, *, said: str, source: Mapping[str, Any] | None = None
    ) -> Job:
        """Storing of an object, which is in the store already, is due; *source* says where it came from, for the
        record. The job that does it, which may be there and done. Raises OtherObject."""
        payload: dict[str, Any] = {
            **(source or {}), "target": target, "key": self.key(target, added.sop_instance_uid, added.sha256),
            "size": added.size, "sha256": added.sha256, "study": added.study_instance_uid,
            "sop_class": added.sop_class_uid, "sop_instance": added.sop_instance_uid,
            "transfer_syntax": added.transfer_syntax_uid,
        }  # fmt: skip
        self.check(c, target, added.sop_instance_uid, added.sha256)
        return jobs.add(c, self.store_kind, _subject(target, added.sop_instance_uid), payload, said=said)[0]

    async def _do(self, job: Job) -> Ended:
        """Stores one object, or goes on with its commitment. Raises TryLater, CannotBeDone."""
        target = job.payload["target"]
        client = self._targets.get(target)
        if client is None:
            raise CannotBeDone(f"no PACS is named {target} any more: name one so, or discard this job")
        try:
            if job.payload.get("stored"):
                return await self._commit(job, client)
            return await self._store(job, client)
        except PacsError as e:
            # A rejected association is tried again, too: an operator may be about to register us. A context that is
            # not accepted is permanent: retrying it is a storm (field note 15).
            again = e.transient or isinstance(e, AssociationRejected)
            raise (TryLater if again else CannotBeDone)(str(e)) from e
        except StoreError as e:
            raise TryLater(str(e)) from e
        except CannotTranscode as e:
            raise CannotBeDone(str(e)) from e
        except OSError as e:
            raise TryLater(f"it cannot be spooled to {self._spool_dir} ({e.strerror or e}): free space there") from e

    async def _store(self, job: Job, client: PacsClient) -> Ended:
        payload = job.payload
        try:
            fetched = await fetch_to_file(self._objects, payload["key"], self._spool_dir)
        except ObjectNotFound as e:
            raise CannotBeDone("our copy is gone from the store: have the object sent to us again") from e
        with fetched.file as file:
            syntax = payload["transfer_syntax"]
            body = data_set_of(file, fetched.size)
            try:
                instance = OutgoingInstance(payload["sop_class"], payload["sop_instance"], syntax, body)
                stored = await store(client, instance, lambda to: self._transcoded(file, to))
            finally:
                body.close()
            log.info("instance %s is stored in %s", payload["sop_instance"], client.peer.name)
            await self._tell(payload, data_set_of(file, fetched.size))
        said = f"stored in {client.peer}" + _with(stored, syntax)
        if self._commitment:
            return Step(said, {**payload, "stored": True})
        return await self._done(job, said)

    async def _transcoded(self, file: FileIO, transfer_syntax_uid: str) -> Body:
        """One at a time: decoding takes a core, and room on the disk."""
        async with self._decoding:
            return await transcoded(file, transfer_syntax_uid, spool_dir=self._spool_dir)

    async def _tell(self, payload: Mapping[str, Any], body: Body) -> None:
        stored = StoredObject(
            payload["study"], payload["sop_instance"], payload["sop_class"], payload["transfer_syntax"], body
        )
        try:
            await self._on_stored(stored)
        except Exception:
            # The PACS has it, and the next access compares the cache with the PACS.
            log.exception("instance %s is stored; the cache does not show it yet", stored.sop_instance_uid)

    async def _done(self, job: Job, said: str) -> Ended:
        def end(c: Transaction) -> None:
            jobs.end(c, job.id, JobState.DONE, said, {**job.payload, "key": None})
            jobs.clean(c, job.payload["key"], after=self._keep_for)

        await self._journal.run(end)
        return None

    # -- storage commitment

    async def _commit(self, job: Job, client: PacsClient) -> Ended:
        result = job.payload.get("result")
        if result is None:
            if time.time() - job.created > self._retry_for:
                raise CannotBeDone(f"{client.peer} has it and has not committed itself to it in all this time")
            transaction = f"2.25.{uuid.uuid4().int}"
            # Before it is asked: its answer may come on another association before this one has ended.
            await self._journal.run(lambda c: jobs.set_token(c, job.id, transaction))
            got = await request_commitment(client, transaction, job.payload["sop_class"], job.payload["sop_instance"])
            if got is None:
                await self._journal.run(lambda c: _wait_for_report(c, job))
                return None
            result = _verdict(got, job.payload["sop_instance"])
        if result == "":
            return await self._done(job, f"stored and committed by {client.peer}")
        payload = {k: v for k, v in job.payload.items() if k not in ("stored", "result")}
        tries = payload["tries"] = payload.get("tries", 0) + 1
        if tries >= TIMES_STORED:
            raise CannotBeDone(
                f"{client.peer} took it {tries} times and does not commit itself to it: {result}", payload
            )
        return Step(f"not committed: {result}; it is stored again", payload, after=jobs.pause_after(tries + 2))


def _subject(target: str, sop_instance_uid: str) -> str:
    return f"{sop_instance_uid} {target}"


async def keep_commitment(journal: Journal, result: CommitmentResult) -> None:
    """Keeps what a PACS reports on an association of its own, for whichever outbox waits for it. Raises
    JournalError."""

    def keep(c: Transaction) -> bool:
        job = jobs.find_by_token(c, result.transaction_uid)
        if job is None:
            return False
        verdict = _verdict(result, job.payload["sop_instance"])
        said = f"storage commitment: {verdict or 'committed'}"
        jobs.hasten(c, job.id, said, {**job.payload, "result": verdict})
        return True

    if not await journal.run(keep):
        log.info("a storage commitment that nobody waits for: transaction %s", result.transaction_uid)


def _wait_for_report(c: Transaction, job: Job) -> None:
    now = jobs.get(c, job.id)
    come = now is not None and "result" in now.payload  # while the association was still open
    payload = now.payload if now is not None else job.payload
    jobs.again(
        c, job, "asked for storage commitment", failed=False, payload=payload, after=0 if come else COMMITMENT_WITHIN
    )


def _verdict(result: CommitmentResult, sop_instance_uid: str) -> str:
    """Why the instance is not committed; empty where it is."""
    if sop_instance_uid in result.committed:
        return ""
    return result.failed.get(sop_instance_uid, "the report does not name the instance")


def _with(stored: Stored, syntax: str) -> str:
    converted = "" if stored.transfer_syntax_uid == syntax else f", as {UID(stored.transfer_syntax_uid).name}"
    return converted + (f", with a warning: {stored.warning}" if stored.warning else "")
