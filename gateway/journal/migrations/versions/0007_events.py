"""Events and the keys by which they are found."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("trouble", sa.Boolean, nullable=False),
    )
    op.create_index("events_by_time", "events", ["at"])
    op.create_index("events_by_kind", "events", ["kind", "id"])
    op.create_table(
        "event_keys",
        sa.Column("event_id", sa.Integer, sa.ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String(256), primary_key=True),
    )
    op.create_index("event_keys_by_key", "event_keys", ["key"])


def downgrade() -> None:
    op.drop_table("event_keys")
    op.drop_table("events")
