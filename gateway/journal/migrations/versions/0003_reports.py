"""Versions of signed reports, so that the same one is delivered once."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("report_id", sa.String(256), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("has_pdf", sa.Boolean, nullable=False),
        sa.Column("has_text", sa.Boolean, nullable=False),
        sa.Column("received", sa.Float, nullable=False),
        sa.UniqueConstraint("report_id", "content", name="reports_by_content"),
    )


def downgrade() -> None:
    op.drop_table("reports")
