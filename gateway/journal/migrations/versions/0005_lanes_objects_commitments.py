"""Jobs know their lane, how often they were taken and their pause; which job needs which object, and which storage
commitments are open, have tables of their own."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 900.0
"""Seconds, as they were in the version that wrote the jobs."""


def upgrade() -> None:
    # Columns are added and dropped one by one: making the table anew would delete, by cascade, the jobs' history.
    op.add_column("jobs", sa.Column("lane", sa.String(256), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("pause", sa.Float, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("taken", sa.Integer, nullable=False, server_default="0"))
    op.alter_column("job_history", "said", new_column_name="text")
    op.create_table(
        "job_objects",
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String(1024), primary_key=True),
    )
    op.create_index("job_objects_by_key", "job_objects", ["key"])
    op.create_table(
        "removals",
        sa.Column("key", sa.String(1024), primary_key=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    )
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("asked", sa.Float, nullable=False),
        sa.Column("answered", sa.Float, nullable=True),
        sa.Column("failure", sa.Text, nullable=False),
    )
    op.create_index("commitments_by_job", "commitments", ["job_id"])
    op.create_table(
        "paused_lanes",
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("lane", sa.String(256), primary_key=True),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    _carry_over()
    op.drop_index("jobs_by_due", "jobs")
    op.drop_index("jobs_by_token", "jobs")
    op.drop_column("jobs", "token")
    op.create_index("jobs_by_lane", "jobs", ["state", "kind", "lane", "next_at"])


def _carry_over() -> None:
    """Fills what is new from what the jobs' payloads say."""
    jobs = sa.table(
        "jobs",
        *map(sa.column, ("id", "kind", "state", "payload", "attempts", "since", "next_at", "token", "lane", "pause")),
    )
    objects = sa.table("job_objects", sa.column("job_id"), sa.column("key"))
    commitments = sa.table(
        "commitments",
        *map(sa.column, ("transaction_uid", "job_id", "sop_instance_uid", "round", "asked", "answered", "failure")),
    )
    database = op.get_bind()
    for job in database.execute(sa.select(jobs)).all():
        payload = json.loads(job.payload)
        if job.attempts:
            pause = min(FIRST_PAUSE * 2.0 ** min(job.attempts - 1, 20), LONGEST_PAUSE) * 1.25
        else:
            pause = max(job.next_at - job.since, 0.0)
        lane = payload.get("target") or payload.get("channel") or ""
        database.execute(sa.update(jobs).where(jobs.c.id == job.id).values(lane=lane, pause=pause))
        over = job.state in ("done", "discarded")
        if payload.get("key") and not over and job.kind != "object.clean":
            database.execute(sa.insert(objects).values(job_id=job.id, key=payload["key"]))
        if job.token and payload.get("sop_instance"):
            result = payload.get("result", "" if over else None)
            database.execute(
                sa.insert(commitments).values(
                    transaction_uid=job.token, job_id=job.id, sop_instance_uid=payload["sop_instance"],
                    round=payload.get("tries", 0), asked=job.since, answered=None if result is None else job.since,
                    failure=result or "",
                )
            )  # fmt: skip


_NAMES = {
    "study_instance_uid": "study", "sop_class_uid": "sop_class", "sop_instance_uid": "sop_instance",
    "transfer_syntax_uid": "transfer_syntax", "stored_in_vain": "tries",
}  # fmt: skip
"""Fields of payloads by their names in the version before."""


def downgrade() -> None:
    op.add_column("jobs", sa.Column("token", sa.String(128)))
    _carry_back()
    op.alter_column("job_history", "text", new_column_name="said")
    for table in ("paused_lanes", "commitments", "removals", "job_objects"):
        op.drop_table(table)
    op.drop_index("jobs_by_lane", "jobs")
    for column in ("taken", "pause", "lane"):
        op.drop_column("jobs", column)
    op.create_index("jobs_by_due", "jobs", ["state", "next_at"])
    op.create_index("jobs_by_token", "jobs", ["token"])


def _carry_back() -> None:
    """Says in the jobs' payloads what the version before looks for there."""
    jobs = sa.table("jobs", *map(sa.column, ("id", "payload", "token")))
    asked = sa.table("commitments", *map(sa.column, ("transaction_uid", "job_id", "asked", "answered", "failure")))
    database = op.get_bind()
    latest = {row.job_id: row for row in database.execute(sa.select(asked).order_by(asked.c.asked)).all()}
    for job in database.execute(sa.select(jobs)).all():
        payload = json.loads(job.payload)
        if payload.pop("form", 0):
            payload = {_NAMES.get(name, name): value for name, value in payload.items()}
            payload |= payload.pop("source", {})
        open_one = latest.get(job.id)
        token = None
        if open_one is not None:
            token = open_one.transaction_uid
            if open_one.answered is not None:
                payload["result"] = open_one.failure
        database.execute(sa.update(jobs).where(jobs.c.id == job.id).values(payload=json.dumps(payload), token=token))
