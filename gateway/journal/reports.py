"""Which versions of a report there are: the same report twice is delivered once, another content is a new version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select

from gateway.journal.tables import reports
from gateway.journal.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ReportVersion:
    """One version of a report."""

    report_id: str
    version: int
    """From 1 on."""
    content: str
    """SHA-256, in hex, over what it says."""
    study_instance_uid: str
    has_pdf: bool
    has_text: bool
    received: float
    """Unix seconds at which it was acknowledged."""


def versions(c: Transaction, report_id: str) -> list[ReportVersion]:
    """Every version of a report, the first one first."""
    wanted = select(reports).where(reports.c.report_id == report_id).order_by(reports.c.version)
    return [_version(row) for row in c.execute(wanted)]


def get(c: Transaction, report_id: str, version: int) -> ReportVersion | None:
    """One version of a report."""
    wanted = select(reports).where(reports.c.report_id == report_id, reports.c.version == version)
    row = c.execute(wanted).one_or_none()
    return _version(row) if row is not None else None


def add(c: Transaction, version: ReportVersion) -> None:
    """From now on this version is known."""
    c.execute(
        insert(reports).values(
            report_id=version.report_id, version=version.version, content=version.content,
            study_instance_uid=version.study_instance_uid, has_pdf=version.has_pdf, has_text=version.has_text,
            received=version.received,
        )
    )  # fmt: skip


def _version(row: Any) -> ReportVersion:
    return ReportVersion(
        row.report_id, row.version, row.content, row.study_instance_uid, row.has_pdf, row.has_text, row.received
    )
