"""Which reports a study has, and which of them adds to which: an addendum is a report of its own, with its own id.

The first report of a study is the original; every other adds to it or corrects it, never stands beside it as another
final one. Which came first is settled once, when the report goes out, and stays so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from gateway.journal.prepared import Prepared
from gateway.journal.tables import study_reports as table
from gateway.journal.transaction import Transaction

FIRST = 1

# What runs for each report is built once. Names that are no column's are asked for, those that are get set.
_BY_ID = Prepared(select(table).where(table.c.report_id == bindparam("named")))
_NEW, _CHANGE = Prepared(insert(table)), Prepared(update(table).where(table.c.report_id == bindparam("named")))
_OTHERS = Prepared(
    select(table).where(
        or_(
            table.c.study_instance_uid == bindparam("study"),
            and_(
                table.c.study_instance_uid.is_(None), table.c.study_id == bindparam("avara_id"), table.c.study_id != ""
            ),
        ),
        table.c.report_id != bindparam("named"),
    )
)


@dataclass(frozen=True, slots=True)
class StudyReport:
    """A report among the others of its study."""

    report_id: str
    study_id: str
    """Avara's; empty where it was not kept."""
    study_instance_uid: str | None
    """None while it is not known."""
    received: float
    """Unix seconds at which it was acknowledged."""
    ordinal: int = 0
    """1 for the first report, from 2 on for what was added; 0 while that is not settled."""
    original: str | None = None
    """The report that this one adds to, where it is known which."""
    text_key: str | None = None
    """Its text in the store, where that is kept."""


def get(c: Transaction, report_id: str) -> StudyReport | None:
    """A report that was acknowledged."""
    row = c.row(_BY_ID, {"named": report_id})
    return _read(row) if row is not None else None


def know(c: Transaction, report: StudyReport) -> None:
    """From now on this report is known; of one that is known already, nothing changes."""
    if get(c, report.report_id) is None:
        c.change(_NEW, dataclasses.asdict(report))


def first_received(c: Transaction) -> float | None:
    """When the first report of all was acknowledged; None where there was none."""
    return c.execute(select(func.min(table.c.received))).scalar_one_or_none()


def keeps_text(c: Transaction, report_id: str, key: str | None) -> None:
    """Where the text of a report lies."""
    c.change(_CHANGE, {"named": report_id, "text_key": key})


def settle(
    c: Transaction, report: StudyReport, *, addendum: bool | None = None, original: str | None = None
) -> StudyReport:
    """Settles which report *report*, whose study is known now, adds to. *addendum* and *original* are Avara's word on
    it; None where it gave none: then what was acknowledged first is the original."""
    know(c, report)
    known = get(c, report.report_id)
    assert known is not None
    assert report.study_instance_uid is not None
    if known.ordinal:
        return known
    others = _others(c, known, report.study_instance_uid)
    settled = [other for other in others if other.ordinal]
    first = next((other for other in settled if other.ordinal == FIRST), None)
    if first is None and addendum is None:
        earlier = [o for o in others if (o.received, o.report_id) < (known.received, known.report_id)]
        first = min(earlier, key=lambda o: (o.received, o.report_id), default=None)
    # What went out as the original stays it, whatever is said later: a second one would take its place.
    if first is None and not addendum:
        ordinal, original = FIRST, None
    else:
        ordinal = 1 + max([FIRST, *(other.ordinal for other in settled)])
        original = original or (first.report_id if first is not None else None)
    now = dataclasses.replace(known, study_instance_uid=report.study_instance_uid, ordinal=ordinal, original=original)
    c.change(_CHANGE, {"named": now.report_id, **dataclasses.asdict(now)})
    return now


def before(c: Transaction, report_id: str) -> list[StudyReport] | None:
    """The reports that a report adds to, the original first; None where the original is not among what is known."""
    known = get(c, report_id)
    if known is None or known.study_instance_uid is None:
        return None
    earlier = sorted(
        (o for o in _others(c, known, known.study_instance_uid) if 0 < o.ordinal < known.ordinal),
        key=lambda o: o.ordinal,
    )
    return earlier if earlier and earlier[0].ordinal == FIRST else None


def _others(c: Transaction, report: StudyReport, study_instance_uid: str) -> list[StudyReport]:
    names = {"study": study_instance_uid, "avara_id": report.study_id, "named": report.report_id}
    return [_read(row) for row in c.rows(_OTHERS, names)]


def _read(row: Any) -> StudyReport:
    return StudyReport(
        row.report_id, row.study_id, row.study_instance_uid, row.received, row.ordinal, row.original, row.text_key
    )
