"""One search for whatever is known of a study: all that happened to it, in order, with the reason of each failure.

It is given any identifier that somebody has in hand at 2 a.m.: a UID, one of Avara's ids, a webhook's id, a report's,
an accession number, a patient ID, a job's number. What it finds leads to its studies, and these to all of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import or_, select

from gateway.captures import can_be_accepted
from gateway.journal import (
    CLEAN,
    CachedStudy,
    Job,
    JobState,
    Journal,
    StudyState,
    Transaction,
    cached_studies,
    events,
    get,
    job_history,
    job_of,
    studies,
    tables,
    upload_slots,
)
from gateway.runtime import SYSTEM_CLOCK

KEY_TYPES = ("study", "series", "instance", "avara", "webhook", "event", "report", "slot", "job", "peer")
"""What a key may name; ``avara`` is Avara's id of a study."""

MOST = 500
"""Entries of a time line."""

MOST_STUDIES = 20

About = Callable[[Job], Mapping[str, str]]
"""What a job is about: identifiers by what they are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a time line."""

    at: float
    """Unix seconds."""
    source: str
    """``webhook``, ``fetch``, ``job 17 (capture.store)``, …"""
    text: str
    trouble: bool = False
    asked: bool = False
    """Whether it is about the very thing that was searched for, and not only about its study."""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What is known of a study besides what happened to it."""

    study_instance_uid: str
    avara_ids: tuple[str, ...]
    first_asked: float | None
    last_asked: float | None
    cached: str
    """In words."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits for an operator."""

    job: int
    kind: str
    reason: str
    acceptable: bool = False
    """Whether it is a capture of another patient's than the study's, which an operator may let take that one."""


@dataclass(frozen=True, slots=True)
class Trace:
    """All that is known of what was searched for."""

    what: str
    studies: tuple[StudyFacts, ...]
    entries: tuple[Entry, ...]
    waiting: tuple[Waiting, ...]

    @property
    def found(self) -> bool:
        """Whether anything is known of it."""
        return bool(self.studies or self.entries)

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


async def trace(journal: Journal, what: str, *, hidden: Callable[[str], str], about: About) -> Trace:
    """All that is known of *what*; *hidden* gives the key of an accession number or patient ID. Raises JournalError."""
    what = what.strip()
    return await journal.run(lambda c: _trace(c, what, hidden(what), about))


def _trace(c: Transaction, what: str, hidden: str, about: About) -> Trace:
    keys = {f"{kind}:{what}" for kind in KEY_TYPES} | {hidden}
    directly = events.find(c, keys, MOST)
    found_jobs = _jobs(c, {what})
    if what.isdigit():
        found_jobs |= {job.id: job for job in [_job(c, int(what))] if job is not None}
    uids = dict.fromkeys(k.removeprefix("study:") for e in directly for k in e.keys if k.startswith("study:"))
    for job in found_jobs.values():
        names = about(job)
        uids |= dict.fromkeys(uid for uid in (names.get("study"), _study_of_slot(c, names.get("slot", ""))) if uid)
    uids |= dict.fromkeys(uid for uid in [_study_of_slot(c, what)] if uid)
    named = select(studies).where(or_(studies.c.study_id == what, studies.c.study_instance_uid == what))
    uids |= dict.fromkeys(row.study_instance_uid for row in c.execute(named))
    cached = select(cached_studies.c.study_instance_uid).where(cached_studies.c.study_instance_uid == what)
    uids |= dict.fromkeys(c.execute(cached).scalars())
    of_studies = list(uids)[:MOST_STUDIES]
    mine = set(found_jobs)
    if of_studies:
        slots = select(upload_slots.c.id).where(upload_slots.c.study_instance_uid.in_(of_studies))
        latest = slots.order_by(upload_slots.c.created.desc()).limit(MOST)
        found_jobs |= _jobs(c, [*of_studies, *c.execute(latest).scalars()])
    known = {**dict.fromkeys(directly, True)}
    for event in events.find(c, [f"study:{uid}" for uid in of_studies], MOST) if of_studies else ():
        known.setdefault(event, False)
    entries = [Entry(e.at, e.kind.value, e.text, e.trouble, asked) for e, asked in known.items()]
    for job in found_jobs.values():
        entries += _history(c, job, asked=job.id in mine)
    entries.sort(key=lambda e: e.at)
    waiting = tuple(
        Waiting(job.id, job.kind, job.last_error, can_be_accepted(job))
        for job in found_jobs.values()
        if job.state is JobState.QUARANTINED
    )
    return Trace(what, tuple(_facts(c, uid) for uid in of_studies), tuple(entries[-MOST:]), waiting)


def _jobs(c: Transaction, names: Collection[str]) -> dict[int, Job]:
    """Jobs that name one of these in their payload or their subject."""
    found: dict[int, Job] = {}
    worth = [name for name in names if len(name) >= 4]
    for at in range(0, len(worth), 50):
        mentions = [
            column.contains(pattern, autoescape=True)
            for name in worth[at : at + 50]
            for column, pattern in ((tables.jobs.c.payload, f'"{name}"'), (tables.jobs.c.subject, name))
        ]
        wanted = (
            select(tables.jobs)
            .where(or_(*mentions), tables.jobs.c.kind != CLEAN)
            .order_by(tables.jobs.c.id.desc())
            .limit(MOST)
        )
        found |= {row.id: job_of(row) for row in c.execute(wanted)}
    return found


def _study_of_slot(c: Transaction, slot: str) -> str | None:
    wanted = select(upload_slots.c.study_instance_uid).where(upload_slots.c.id == slot)
    return c.execute(wanted).scalar_one_or_none()


def _job(c: Transaction, number: int) -> Job | None:
    return get(c, number) if number < 2**62 else None


def _history(c: Transaction, job: Job, *, asked: bool) -> list[Entry]:
    wanted = select(job_history).where(job_history.c.job_id == job.id).order_by(job_history.c.id.desc()).limit(50)
    return [
        Entry(row.at, f"job {job.id} ({job.kind})", row.text, _is_trouble(row.text), asked) for row in c.execute(wanted)
    ]


def _is_trouble(text: str) -> bool:
    return text.startswith(("attempt ", "quarantined", "discarded"))


def _facts(c: Transaction, uid: str) -> StudyFacts:
    rows = list(c.execute(select(studies).where(studies.c.study_instance_uid == uid)))
    row = c.execute(select(cached_studies).where(cached_studies.c.study_instance_uid == uid)).one_or_none()
    return StudyFacts(
        uid,
        tuple(r.study_id for r in rows),
        min((r.first_seen for r in rows), default=None),
        max((r.last_seen for r in rows), default=None),
        "not in the cache" if row is None else _cached(
            CachedStudy(uid, StudyState(row.state), row.size, row.instances, row.last_used, row.urls_valid_until)
        ),
    )  # fmt: skip


def _cached(study: CachedStudy) -> str:
    if study.state is not StudyState.READY:
        return "being fetched, or its fetch was cut off"
    valid = ""
    if study.urls_valid_until > SYSTEM_CLOCK.now():
        valid = f"; URLs valid until {time.strftime('%H:%M:%S', time.localtime(study.urls_valid_until))}"
    return f"{study.instances} instances, {study.size / 1e6:.1f} MB{valid}"
