"""The jobs of reports. ``report.fetch`` is what an acknowledged event becomes: (report, webhook) makes it one. It
ends in one job for each place that the version is to be brought to, and in the alerts of what cannot wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from gateway.alerts.channels import AlertKind
from gateway.journal import Job, Transaction, jobs

FETCH, PACS, HL7, FOLDER, ALERT = "report.fetch", "report.pacs", "report.hl7", "report.folder", "report.alert"

MAX_SHOWN = 160
"""Characters of an identifier of Avara's in a subject, which has room for 256 with a hash behind it."""


def subject(report_id: str, *others: str) -> str:
    """What makes work on a report the same work; readable as far as there is room."""
    digest = hashlib.sha256("\0".join((report_id, *others)).encode()).hexdigest()[:32]
    return f"{report_id[:MAX_SHOWN]} {digest}"


def add_alerts(
    c: Transaction, channels: Collection[str], kind: AlertKind, about: Mapping[str, Any], digest: str
) -> None:
    """An alert is due on every channel; once for the same kind and digest of the same report."""
    for channel in channels:
        name = subject(about["report"], kind.value, digest, channel)
        payload = {k: about.get(k) for k in ("report", "study_id", "study", "received")}
        jobs.add(c, ALERT, name, {**payload, "alert": kind.value, "digest": digest, "channel": channel})


def alert_of_held(c: Transaction, channels: Collection[str], job: Job) -> None:
    """A job cannot be done as things are: where it brings a report somewhere, people are told that it waits."""
    if job.kind.startswith("report.") and job.kind != ALERT:
        # A retry begins a new series of attempts, whose end is told of again.
        add_alerts(c, channels, AlertKind.WAITING, job.payload, f"{job.id} {job.since}")
