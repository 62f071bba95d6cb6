"""Does ``capture.store`` and ``capture.clean`` jobs: an accepted object into its PACS, and later out of the store.

At least once, and idempotent by SOP Instance UID, so that the effect is once: a crash between the PACS's answer
and our record of it stores the same object again, which a PACS takes for the same.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import UID

from gateway.captures import jobs as names
from gateway.captures.amend import encoded
from gateway.captures.check import fetch_to_file
from gateway.journal import Job, JobState, Journal, Transaction, jobs
from gateway.journal.worker import CannotBeDone, Done, Ended, Step, TryLater
from gateway.objects import ObjectNotFound, ObjectStore, StoreError
from gateway.pacs.client import PacsClient
from gateway.pacs.commitment import CommitmentResult, request_commitment
from gateway.pacs.errors import AssociationRejected, NoContextAccepted, OperationFailed, PacsError
from gateway.pacs.receiver import Body
from gateway.pacs.spool import FileBody, MemoryBody
from gateway.pacs.store import CannotTranscode, OutgoingInstance, Stored, store

log = logging.getLogger(__name__)

COMMITMENT_WITHIN = 15 * 60.0
"""Seconds after which a PACS that has not reported on a storage commitment is asked for it again."""


@dataclass(frozen=True, slots=True)
class StoredCapture:
    """A capture that a PACS has taken."""

    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    body: Body
    """Its data set; to be closed by who is told."""


OnStored = Callable[[StoredCapture], Awaitable[None]]
"""Told of each capture once a PACS has it, for a cache that is to show it. What it raises is logged."""


class CaptureDeliverer:
    """The handler of ``capture.store`` and, as :meth:`clean`, of ``capture.clean``."""

    def __init__(
        self,
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
        """*keep_for* and *retry_for* are seconds."""
        self._objects = objects
        self._journal = journal
        self._targets = targets
        self._commitment = storage_commitment
        self._keep_for = keep_for
        self._retry_for = retry_for
        self._spool_dir = spool_dir
        self._on_stored = on_stored

    async def __call__(self, job: Job) -> Ended:
        """Stores one capture, or goes on with its commitment. Raises TryLater, CannotBeDone."""
        target = job.payload["target"]
        client = self._targets.get(target)
        if client is None:
            raise CannotBeDone(f"no PACS is named {target} any more: name one so, or discard this job")
        try:
            if job.payload.get("stored"):
                return await self._commit(job, client)
            return await self._store(job, client)
        except NoContextAccepted as e:
            raise CannotBeDone(str(e)) from e  # retrying it is a storm (field note 15)
        except OperationFailed as e:
            raise (TryLater if e.transient else CannotBeDone)(str(e)) from e
        except AssociationRejected as e:  # an operator may be about to register us
            raise TryLater(str(e)) from e
        except (PacsError, StoreError) as e:
            raise TryLater(str(e)) from e
        except CannotTranscode as e:
            raise CannotBeDone(str(e)) from e
        except OSError as e:
            raise TryLater(f"it cannot be spooled to {self._spool_dir} ({e.strerror or e}): free space there") from e

    async def _store(self, job: Job, client: PacsClient) -> Ended:
        payload = job.payload
        try:
            file, size, _ = await fetch_to_file(self._objects, payload["key"], self._spool_dir)
        except ObjectNotFound as e:
            raise CannotBeDone("our copy is gone from the store: have the capture uploaded again") from e
        with file:
            data_offset = 144 + int.from_bytes(FileBody(file, size).read(140, 4), "little")
            body = FileBody(file, size - data_offset, start=data_offset)
            syntax = payload["transfer_syntax"]
            instance = OutgoingInstance(payload["sop_class"], payload["sop_instance"], syntax, body)
            stored = await store(client, instance, lambda to: asyncio.to_thread(_transcoded, file, to))
            log.info("capture %s is stored in %s", payload["sop_instance"], client.peer.name)
            duplicate = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
            await self._tell(payload, FileBody(duplicate, size - data_offset, start=data_offset))
        said = f"stored in {client.peer}" + _with(stored, syntax)
        if self._commitment:
            return Step(said, {**payload, "stored": True})
        return await self._done(job, said)

    async def _tell(self, payload: Mapping[str, Any], body: Body) -> None:
        capture = StoredCapture(
            payload["study"], payload["sop_instance"], payload["sop_class"], payload["transfer_syntax"], body
        )
        try:
            await self._on_stored(capture)
        except Exception:
            # The PACS has it, and the next access compares the cache with the PACS.
            log.exception("capture %s is stored; the cache does not show it yet", capture.sop_instance_uid)

    async def _done(self, job: Job, said: str) -> Ended:
        def end(c: Transaction) -> None:
            jobs.end(c, job.id, JobState.DONE, said, {**job.payload, "key": None})
            jobs.add(c, names.CLEAN, job.payload["key"], {"key": job.payload["key"]}, after=self._keep_for)

        await self._journal.run(end)
        return None

    async def clean(self, job: Job) -> Ended:
        """Removes our copy of a capture that its PACS has. Raises TryLater."""
        try:
            await self._objects.delete([job.payload["key"]])
        except StoreError as e:
            raise TryLater(str(e)) from e
        return Done("removed")

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
        if tries >= 5:
            raise CannotBeDone(
                f"{client.peer} took it {tries} times and does not commit itself to it: {result}", payload
            )
        return Step(f"not committed: {result}; it is stored again", payload, after=jobs.pause_after(tries + 2))

    async def on_commitment(self, result: CommitmentResult) -> None:
        """Keeps what a PACS reports on an association of its own. Raises JournalError."""

        def keep(c: Transaction) -> bool:
            job = jobs.find_by_token(c, result.transaction_uid)
            if job is None:
                return False
            verdict = _verdict(result, job.payload["sop_instance"])
            said = f"storage commitment: {verdict or 'committed'}"
            jobs.hasten(c, job.id, said, {**job.payload, "result": verdict})
            return True

        if not await self._journal.run(keep):
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


def _transcoded(file: FileIO, transfer_syntax_uid: str) -> Body:
    """The data set of a file in an uncompressed transfer syntax. Raises CannotTranscode."""
    syntax = UID(transfer_syntax_uid)
    file.seek(0)
    dataset = dcmread(io.BytesIO(file.read()))
    former = UID(dataset.file_meta.TransferSyntaxUID)
    if former.is_encapsulated:
        try:
            dataset.decompress(as_rgb=False, generate_instance_uid=False)
        except Exception as e:  # a decoder's, whichever it is
            raise CannotTranscode(
                f"the PACS takes only uncompressed instances of this SOP class, and {former.name} cannot be decoded "
                f"here ({type(e).__name__}): enable {former.name} in the PACS"
            ) from e
    elif not former.is_little_endian:
        raise CannotTranscode(f"the PACS does not take {former.name}: enable it there")
    return MemoryBody(encoded(dataset, syntax))
