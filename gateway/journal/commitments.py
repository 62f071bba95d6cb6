"""Storage commitment that was asked for (PS3.4 Annex J): several requests for one object may be open at once.

A PACS answers when it likes, by the transaction that it was asked with, and an answer to any of them counts.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sqlalchemy import case, func, insert, select, update

from gateway.journal import jobs
from gateway.journal.job import JobState
from gateway.journal.tables import commitments
from gateway.journal.tables import jobs as jobs_table
from gateway.journal.transaction import Transaction


class CommitmentAnswer(enum.Enum):
    """What a PACS said of one object."""

    NONE = "none"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Commitment:
    """How far storage commitment for one object is."""

    answer: CommitmentAnswer
    reason: str
    """Why the PACS does not commit itself, where it does not."""
    asked: int
    """How often it was asked for since the object was stored the last time."""
    first_asked: float
    """Unix seconds; 0 where it was not."""
    last_asked: float


def ask(c: Transaction, job_id: int, transaction_uid: str, sop_instance_uid: str, *, stored_before: int) -> None:
    """Commitment is about to be asked for; kept before, since the answer may be here before the request has ended.
    *stored_before* counts how often the object had been stored in vain."""
    c.execute(
        insert(commitments).values(
            transaction_uid=transaction_uid, job_id=job_id, sop_instance_uid=sop_instance_uid, round=stored_before,
            asked=c.now, failure="",
        )
    )  # fmt: skip


def instance_of(c: Transaction, transaction_uid: str) -> tuple[int, str] | None:
    """The job and the SOP Instance UID that a transaction is for; None where nobody asked with it."""
    wanted = select(commitments.c.job_id, commitments.c.sop_instance_uid)
    row = c.execute(wanted.where(commitments.c.transaction_uid == transaction_uid)).one_or_none()
    return (row.job_id, row.sop_instance_uid) if row is not None else None


def answer(c: Transaction, transaction_uid: str, failure: str) -> None:
    """A PACS has answered: *failure* says why it does not commit itself, and is empty where it does. Whoever waits for
    that goes on at once."""
    this = commitments.c.transaction_uid == transaction_uid
    row = c.execute(select(commitments).where(this)).one()
    if row.answered is not None and not row.failure:
        return  # it committed itself before
    c.execute(update(commitments).where(this).values(answered=c.now, failure=failure))
    jobs.hasten(c, row.job_id, f"storage commitment: {failure or 'committed'}")


def silent(c: Transaction, *, asked_before: float) -> int:
    """For how many objects a PACS was asked before then, and has not committed itself to."""
    waits = jobs_table.c.state.in_((JobState.WAITING.value, JobState.RUNNING.value))
    committed = commitments.c.answered.is_not(None) & (commitments.c.failure == "")
    of_jobs = (
        select(commitments.c.job_id)
        .join(jobs_table, jobs_table.c.id == commitments.c.job_id)
        .where(waits)
        .group_by(commitments.c.job_id)
        .having(func.min(commitments.c.asked) < asked_before, func.max(case((committed, 1), else_=0)) == 0)
    )
    found: int = c.execute(select(func.count()).select_from(of_jobs.subquery())).scalar_one()
    return found


def state(c: Transaction, job_id: int, *, stored_before: int) -> Commitment:
    """How far it is. That the PACS commits itself counts whenever it was asked; that it does not, only of what was
    asked since the object was stored the last time."""
    rows = c.execute(select(commitments).where(commitments.c.job_id == job_id).order_by(commitments.c.asked)).all()
    present = [row for row in rows if row.round == stored_before]
    failed = [row for row in present if row.failure]
    if any(row.answered is not None and not row.failure for row in rows):
        verdict = CommitmentAnswer.COMMITTED
    else:
        verdict = CommitmentAnswer.FAILED if failed else CommitmentAnswer.NONE
    return Commitment(
        verdict, failed[-1].failure if failed else "", len(present), present[0].asked if present else 0.0,
        present[-1].asked if present else 0.0,
    )  # fmt: skip
