"""Takes the gateway's own synthetic study out of the journal, with whatever was begun for it: nobody's work is listed
or counted, and the same objects can be stored again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, or_, select, update

from gateway.journal import jobs as table
from gateway.journal import objects
from gateway.journal.job import CLEAN, Job, job_of
from gateway.journal.tables import jobs, prefetches, studies, upload_slots
from gateway.journal.transaction import Transaction


@dataclass(frozen=True, slots=True)
class SyntheticWork:
    """A study of nobody's, and the one object of it that is uploaded."""

    study_instance_uid: str
    sop_instance_uid: str
    check_kind: str
    """Of the jobs that look at uploads; their subjects begin with the slot's id."""
    store_kind: str
    """Of the jobs that store them; their subjects begin with the SOP Instance UID."""


def jobs_of(c: Transaction, work: SyntheticWork) -> list[Job]:
    """The jobs that were begun for it."""
    wanted = [_begins(work.store_kind, work.sop_instance_uid)]
    wanted += [_begins(work.check_kind, slot) for slot in _slots(c, work)]
    return [job_of(row) for row in c.execute(select(jobs).where(or_(*wanted)))]


def erase(c: Transaction, work: SyntheticWork) -> None:
    """Forgets the study, its slots and its jobs, whatever these are about; their objects leave the store at once."""
    for job in jobs_of(c, work):
        keys = objects.of(c, job.id)
        c.execute(delete(jobs).where(jobs.c.id == job.id))
        table.clean_unneeded(c, keys, after=0.0)
    ours = upload_slots.c.study_instance_uid == work.study_instance_uid
    c.execute(delete(upload_slots).where(ours))
    c.execute(delete(studies).where(studies.c.study_instance_uid == work.study_instance_uid))
    c.execute(delete(prefetches).where(prefetches.c.study_instance_uid == work.study_instance_uid))
    # Copies of what was stored are kept for a while otherwise.
    kept = (jobs.c.kind == CLEAN) & jobs.c.subject.startswith(f"outbox/{work.sop_instance_uid}/", autoescape=True)
    c.execute(update(jobs).where(kept).values(next_at=c.now, pause=0.0))


def _slots(c: Transaction, work: SyntheticWork) -> list[str]:
    ours = upload_slots.c.study_instance_uid == work.study_instance_uid
    return list(c.execute(select(upload_slots.c.id).where(ours)).scalars())


def _begins(kind: str, word: str) -> ColumnElement[bool]:
    return (jobs.c.kind == kind) & (jobs.c.subject >= f"{word} ") & (jobs.c.subject < f"{word}!")
