"""Which versions of a report there are: the same report twice is delivered once, another content is a new version."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select

from gateway.journal.tables import reports
from gateway.journal.transaction import Transaction

# What runs for each report is built once.
_VERSIONS = select(reports).where(reports.c.report_id == bindparam("report_id")).order_by(reports.c.version)
_VERSION = select(reports).where(
    reports.c.report_id == bindparam("report_id"), reports.c.version == bindparam("version")
)
_NEW = insert(reports)


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
    return [_version(row) for row in c.execute(_VERSIONS, {"report_id": report_id})]


def get(c: Transaction, report_id: str, version: int) -> ReportVersion | None:
    """One version of a report."""
    row = c.execute(_VERSION, {"report_id": report_id, "version": version}).one_or_none()
    return _version(row) if row is not None else None


def add(c: Transaction, version: ReportVersion) -> None:
    """From now on this version is known."""
    c.execute(_NEW, dataclasses.asdict(version))


def _version(row: Any) -> ReportVersion:
    return ReportVersion(
        row.report_id, row.version, row.content, row.study_instance_uid, row.has_pdf, row.has_text, row.received
    )
