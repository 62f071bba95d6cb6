"""Alerts are no longer of reports alone: what was raised is known, and ``report.alert`` jobs become ``alert.send``."""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TITLES = {
    "report.critical": "Critical report",
    "report.unknown_study": "A report waits: its study is not known",
    "report.waiting": "A report waits for an operator",
}
_TO_DO = {
    "report.critical": (
        "A radiologist has marked this report as critical. Open the study in the PACS, read the report, and tell the "
        "referring physician."
    ),
    "report.unknown_study": "This report is kept. avara-gateway jobs list shows its job, and what it waits for.",
    "report.waiting": "This report is kept. avara-gateway jobs list says why it waits: put that right, and retry it.",
}
"""As the version that added the jobs told it."""


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(256), primary_key=True),
        sa.Column("occasion", sa.Integer, nullable=False),
        sa.Column("raised", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
    )
    jobs = sa.table("jobs", *(sa.column(n) for n in ("id", "kind", "subject", "payload", "created", "since", "state")))
    alerts = sa.table("alerts", *(sa.column(n) for n in ("kind", "subject", "occasion", "raised", "ended")))
    c = op.get_bind()
    known = set()
    for row in c.execute(sa.select(jobs).where(jobs.c.kind == "report.alert")).all():
        alert, channel = _alert(json.loads(row.payload), row.created)
        payload = json.dumps({"channel": channel, "alert": alert})
        c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(kind="alert.send", payload=payload))
        known.add((alert["kind"], alert["subject"], alert["at"]))
    for kind, subject, at in sorted(known, key=lambda k: k[2]):
        if not c.execute(sa.select(alerts.c.kind).where(alerts.c.kind == kind, alerts.c.subject == subject)).first():
            c.execute(sa.insert(alerts).values(kind=kind, subject=subject, occasion=1, raised=at))


def _alert(old: dict[str, Any], created: float) -> tuple[dict[str, Any], str]:
    """An alert as version 0004 keeps it, and its channel."""
    kind, digest = old["alert"], old["digest"]
    facts = {"reportId": old["report"], "studyId": old.get("study_id") or ""}
    if old.get("study"):
        facts["studyInstanceUid"] = old["study"]
    # What a job that waits is told of by is its number and the series of its attempts; of the rest, the report.
    report = hashlib.sha256("\0".join((old["report"], digest)).encode()).hexdigest()[:32]
    subject = digest if kind == "report.waiting" else report
    return {
        "kind": kind, "subject": subject, "title": _TITLES[kind], "what_to_do": _TO_DO[kind],
        "at": old.get("received") or created, "facts": facts, "urgent": kind == "report.critical",
        "ended": False, "occasion": 1,
    }, old["channel"]  # fmt: skip


def downgrade() -> None:
    jobs = sa.table("jobs", *(sa.column(n) for n in ("id", "kind", "payload")))
    c = op.get_bind()
    for row in c.execute(sa.select(jobs).where(jobs.c.kind == "alert.send")).all():
        kept = json.loads(row.payload)
        alert = kept["alert"]
        if alert["kind"] not in _TITLES or alert["ended"]:
            c.execute(sa.delete(jobs).where(jobs.c.id == row.id))  # the version before knows of no such alert
            continue
        facts = alert["facts"]
        old = {
            "report": facts.get("reportId", ""), "study_id": facts.get("studyId", ""),
            "study": facts.get("studyInstanceUid"), "received": alert["at"], "alert": alert["kind"],
            "digest": alert["subject"], "channel": kept["channel"],
        }  # fmt: skip
        c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(kind="report.alert", payload=json.dumps(old)))
    op.drop_table("alerts")
