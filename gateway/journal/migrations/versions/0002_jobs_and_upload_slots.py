"""Durable jobs with their history, and the upload slots of secondary captures."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("ended", sa.Float, nullable=True),
        sa.Column("leased_by", sa.String(64), nullable=True),
        sa.Column("leased_until", sa.Float, nullable=True),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.Column("token", sa.String(128), nullable=True),
        sa.UniqueConstraint("kind", "subject", name="jobs_by_subject"),
    )
    op.create_index("jobs_by_due", "jobs", ["state", "next_at"])
    op.create_index("jobs_by_token", "jobs", ["token"])
    op.create_table(
        "job_history",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
    )
    op.create_index("job_history_by_job", "job_history", ["job_id"])
    op.create_table(
        "upload_slots",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("webhook_id", sa.String(256), nullable=False, unique=True),
        sa.Column("study_id", sa.String(256), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("series_instance_uid", sa.String(64), nullable=True),
        sa.Column("sop_instance_uid", sa.String(64), nullable=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("taken", sa.String(64), nullable=True),
        sa.Column("closed", sa.Boolean, nullable=False),
    )
    op.create_index("upload_slots_by_closed", "upload_slots", ["closed", "expires"])


def downgrade() -> None:
    # In the order in which they refer to each other.
    for table in ("upload_slots", "job_history", "jobs"):
        op.drop_table(table)
