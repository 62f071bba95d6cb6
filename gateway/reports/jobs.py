"""The jobs of reports. ``report.fetch`` is what an acknowledged event becomes: (report, webhook) makes it one. It
ends in one job for each place that the version is to be brought to, and in the alerts of what cannot wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from gateway.journal import Transaction, jobs

FETCH, PACS, HL7, FOLDER, ALERT = "report.fetch", "report.pacs", "report.hl7", "report.folder", "report.alert"

CRITICAL, UNKNOWN_STUDY, NO_PDF = "critical", "unknown_study", "no_pdf"
"""What alerts are about: a critical report; one of whose study nobody knows which it is; one without its PDF."""

MAX_SHOWN = 160
"""Characters of an identifier of Avara's in a subject, which has room for 256 with a hash behind it."""


def subject(report_id: str, *others: str) -> str:
    """What makes work on a report the same work; readable as far as there is room."""
    digest = hashlib.sha256("\0".join((report_id, *others)).encode()).hexdigest()[:32]
    return f"{report_id[:MAX_SHOWN]} {digest}"


def add_alerts(c: Transaction, channels: Collection[str], what: str, about: Mapping[str, Any]) -> None:
    """An alert is due on every channel; once for the same *what* about the same report and text."""
    for channel in channels:
        name = subject(about["report"], what, about.get("content") or "", channel)
        payload = {k: about.get(k) for k in ("report", "study_id", "study", "received")}
        jobs.add(c, ALERT, name, {**payload, "what": what, "channel": channel})
