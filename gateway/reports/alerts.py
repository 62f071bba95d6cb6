"""What people are told of reports at once."""

from __future__ import annotations

import hashlib

from gateway.alerts import Alert
from gateway.reports.jobs import FetchReport

CRITICAL = "report.critical"
UNKNOWN_STUDY = "report.unknown_study"


def critical(report: FetchReport) -> Alert:
    """A report that a radiologist has marked. The same text again is the same news; its PDF is not in yet."""
    return Alert(
        CRITICAL,
        _subject(report.report, hashlib.sha256((report.text or "").encode()).hexdigest()),
        "Critical report",
        "A radiologist has marked this report as critical. Open the study in the PACS, read the report, and tell the "
        "referring physician.",
        report.received,
        facts(report),
        urgent=True,
    )


def unknown_study(report: FetchReport, job_id: int) -> Alert:
    """A report whose study nobody knows."""
    return Alert(
        UNKNOWN_STUDY,
        _subject(report.report, ""),
        "A report waits: its study is not known",
        "This report is kept, and Avara does not say which study of the PACS it is of. Find that out, and say it: "
        f"avara-gateway jobs assign {job_id} STUDY_INSTANCE_UID",
        report.received,
        facts(report),
    )


def facts(report: FetchReport) -> dict[str, str]:
    """The identifiers that are told of a report."""
    named = {"reportId": report.report, "studyId": report.study_id, "studyInstanceUid": report.study}
    return {name: value for name, value in named.items() if value}


def _subject(report_id: str, digest: str) -> str:
    """As 0004 of the journal's migrations made them, too."""
    return hashlib.sha256("\0".join((report_id, digest)).encode()).hexdigest()[:32]
