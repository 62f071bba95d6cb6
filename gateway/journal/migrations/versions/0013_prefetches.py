"""What is fetched before anybody asks, and which studies of the cache somebody has opened."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("cached_studies", sa.Column("opened", sa.Float, nullable=False, server_default="0"))
    # Nothing was fetched until now that nobody had opened, but for what was pushed.
    op.execute("UPDATE cached_studies SET opened = last_used")
    op.create_table(
        "prefetches",
        sa.Column("study_instance_uid", sa.String(80), primary_key=True),
        sa.Column("task", sa.String(16), primary_key=True),
        sa.Column("pacs", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("instances", sa.Integer),
        sa.Column("added", sa.Float, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("ended", sa.Float),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("opened", sa.Float),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("prefetches_by_state", "prefetches", ["state", "next_at"])
    op.create_index("prefetches_by_end", "prefetches", ["ended"])


def downgrade() -> None:
    op.drop_table("prefetches")
    op.drop_column("cached_studies", "opened")
