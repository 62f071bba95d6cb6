"""The jobs of reports. ``report.fetch`` is what an acknowledged event becomes: (report, webhook) makes it one. It
ends in one job for each place that the version is to be brought to.
"""

from __future__ import annotations

import hashlib

FETCH, PACS, HL7, FOLDER = "report.fetch", "report.pacs", "report.hl7", "report.folder"

STORE = "report.store"
"""The outbox's: an object that ``report.pacs`` has made is stored."""

MAX_SHOWN = 160
"""Characters of an identifier of Avara's in a subject, which has room for 256 with a hash behind it."""


def subject(report_id: str, *others: str) -> str:
    """What makes work on a report the same work; readable as far as there is room."""
    digest = hashlib.sha256("\0".join((report_id, *others)).encode()).hexdigest()[:32]
    return f"{report_id[:MAX_SHOWN]} {digest}"
