"""For how long the journal knows what is over: which of Avara's studies is which, and which reports a study had.

Both are needed long after the work is done: an addendum names, and follows, what went out before it; an older
``report.delivered`` names its study by Avara's id alone. So the reports of a study are forgotten together, once the
last of them is old and none of them has work left.

A table that has grown for years is not emptied in one transaction, for which every webhook would wait.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, delete, exists, func, or_, select, text

from gateway.journal.job import JobState
from gateway.journal.journal import FILE_SIZE
from gateway.journal.tables import jobs, reports, studies, study_reports
from gateway.journal.transaction import Transaction

AT_ONCE = 200
"""Rows of each table that a transaction forgets."""

SHOWN = 160
"""Characters of a report's id with which the subjects of its jobs begin (``gateway.reports``)."""

_ALIVE = (JobState.WAITING.value, JobState.RUNNING.value, JobState.QUARANTINED.value)


def forget(c: Transaction, *, before: float, kinds: Collection[str], at_once: int = AT_ONCE) -> int:
    """Forgets up to *at_once* rows of each table that nothing has needed since *before* (unix seconds); how many there
    were. *kinds* are those of the jobs that reports are delivered by."""
    gone = _forget_reports(c, before, kinds, at_once)
    gone += _forget_versions(c, before, at_once)
    return gone + _forget_studies(c, before, at_once)


def _forget_reports(c: Transaction, before: float, kinds: Collection[str], at_once: int) -> int:
    one, other = study_reports.alias("one"), study_reports.alias("other")
    begins = func.substr(other.c.report_id, 1, SHOWN)
    at_work = exists().where(
        jobs.c.kind.in_(kinds), jobs.c.state.in_(_ALIVE),
        jobs.c.subject >= begins + " ", jobs.c.subject < begins + "!",  # "!" comes after " ": by the index
    )  # fmt: skip
    lately = exists().where(reports.c.report_id == other.c.report_id, reports.c.received >= before)
    same_study = or_(
        other.c.report_id == one.c.report_id,
        other.c.study_instance_uid == one.c.study_instance_uid,
        and_(other.c.study_id == one.c.study_id, one.c.study_id != ""),
    )
    needed = exists().where(same_study, or_(other.c.received >= before, lately, at_work))
    old = select(one.c.report_id).where(one.c.received < before, ~needed).limit(at_once)
    return c.execute(delete(study_reports).where(study_reports.c.report_id.in_(old))).rowcount


def _forget_versions(c: Transaction, before: float, at_once: int) -> int:
    known = exists().where(study_reports.c.report_id == reports.c.report_id)
    old = select(reports.c.report_id).where(reports.c.received < before, ~known).limit(at_once).distinct()
    return c.execute(delete(reports).where(reports.c.report_id.in_(old), reports.c.received < before)).rowcount


def _forget_studies(c: Transaction, before: float, at_once: int) -> int:
    reported = exists().where(study_reports.c.study_id == studies.c.study_id)
    old = select(studies.c.study_id).where(studies.c.last_seen < before, ~reported).limit(at_once)
    return c.execute(delete(studies).where(studies.c.study_id.in_(old))).rowcount


def size(c: Transaction) -> int:
    """Bytes of the journal's file; what was forgotten leaves room in it until the night."""
    return int(c.execute(text(FILE_SIZE)).scalar_one())
