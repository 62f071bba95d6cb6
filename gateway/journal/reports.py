"""Which versions of a report there are: the same report twice is delivered once, another content is a new version."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, insert, select

from gateway.journal.prepared import Prepared
from gateway.journal.tables import reports
from gateway.journal.transaction import Transaction

# What runs for each report is built once.
_OF_REPORT = select(reports).where(reports.c.report_id == bindparam("report_id"))
_VERSIONS = Prepared(_OF_REPORT.order_by(reports.c.version))
_VERSION = Prepared(_OF_REPORT.where(reports.c.version == bindparam("version")))
_NEW = Prepared(insert(reports))


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
    return [_version(row) for row in c.rows(_VERSIONS, {"report_id": report_id})]


def get(c: Transaction, report_id: str, version: int) -> ReportVersion | None:
    """One version of a report."""
    row = c.row(_VERSION, {"report_id": report_id, "version": version})
    return _version(row) if row is not None else None


def add(c: Transaction, version: ReportVersion) -> None:
    """From now on this version is known."""
    c.change(_NEW, dataclasses.asdict(version))


def _version(row: Any) -> ReportVersion:
    return ReportVersion(
        row.report_id, row.version, row.content, row.study_instance_uid, row.has_pdf, row.has_text, row.received
    )
