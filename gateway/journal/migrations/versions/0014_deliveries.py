"""Deliveries: which webhooks were answered, over a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
    )
    op.create_index("deliveries_by_time", "deliveries", ["timestamp"])


def downgrade() -> None:
    op.drop_table("deliveries")
