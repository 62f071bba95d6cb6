"""Waits until a PACS has committed itself to what was stored in it (PS3.4 Annex J, field note 16)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection

from gateway.journal import Commitment, CommitmentAnswer, Job, Journal, Transaction, commitments, jobs
from gateway.outbox.jobs import StoreObject
from gateway.pacs.scu import CommitmentResult, PacsClient, request_commitment

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 15 * 60.0, 4 * 3600.0
"""Seconds after which a PACS that has not reported on a storage commitment is asked for it again; each time twice as
long. All that was asked stays open."""

LEAST_ASKED = 3
"""Times that a PACS is asked before its silence is left to an operator."""


class Commitments:
    """What is awaited, over all outboxes of a gateway."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def report(self, result: CommitmentResult, by: Collection[str]) -> bool:
        """Takes what one of the PACS *by* (the operator's names) reports, on whichever association; whether it was
        asked for that. Raises JournalError."""

        def keep(c: Transaction) -> bool:
            asked = commitments.instance_of(c, result.transaction_uid)
            if asked is None:
                return False
            job_id, sop_instance_uid = asked
            job = jobs.get(c, job_id)
            if job is None or job.lane not in by:
                log.warning(
                    "%s reports on storage commitment %s, which another PACS was asked for: it is not believed",
                    " or ".join(sorted(by)) or "somebody", result.transaction_uid,
                )  # fmt: skip
                return False
            if sop_instance_uid in result.committed:
                failure = ""
            else:
                failure = result.failed.get(sop_instance_uid, "the report does not name the instance")
            commitments.answer(c, result.transaction_uid, failure)
            return True

        return await self._journal.run(keep)

    async def state(self, job: Job, stored: StoreObject) -> Commitment:
        """How far it is with one object. Raises JournalError."""
        return await self._journal.run(lambda c: commitments.state(c, job.id, stored_before=stored.stored_in_vain))

    async def ask(self, job: Job, stored: StoreObject, client: PacsClient) -> None:
        """Asks for it, and lets the job wait for the answer. Raises PacsError, JournalError, JobLost."""
        transaction_uid = f"2.25.{uuid.uuid4().int}"

        def begin(c: Transaction) -> None:
            commitments.ask(c, job.id, transaction_uid, stored.sop_instance_uid, stored_before=stored.stored_in_vain)

        await self._journal.run(begin)
        await request_commitment(
            client,
            transaction_uid,
            stored.sop_class_uid,
            stored.sop_instance_uid,
            on_report=lambda result: self.report(result, (stored.target,)),
        )
        await self._journal.run(lambda c: _wait(c, job, stored))


def _wait(c: Transaction, job: Job, stored: StoreObject) -> None:
    known = commitments.state(c, job.id, stored_before=stored.stored_in_vain)
    wait = min(FIRST_WAIT * 2.0 ** (known.asked - 1), LONGEST_WAIT)
    jobs.reschedule(
        c,
        job,
        "asked for storage commitment",
        # It may have come while the association was still open.
        after=wait if known.answer is CommitmentAnswer.NONE else 0.0,
        new_series=False,
    )


def overdue(known: Commitment, waited_since: float, now: float, limit: float) -> bool:
    """Whether a PACS has been silent for more than *limit* seconds, and was asked often enough to say so."""
    return known.asked >= LEAST_ASKED and now - max(known.first_asked, waited_since) > limit
