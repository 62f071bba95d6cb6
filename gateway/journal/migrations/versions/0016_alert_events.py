"""Events of alerts, which an older version does not know."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Nothing changes: they are rows like the others."""


def downgrade() -> None:
    op.execute("DELETE FROM event_keys WHERE event_id IN (SELECT id FROM events WHERE kind = 'alert')")
    op.execute("DELETE FROM events WHERE kind = 'alert'")
