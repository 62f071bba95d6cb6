"""Whether an upload may still come is told by the time alone: a clock that is ahead for a moment ends no slot."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.drop_index("upload_slots_by_closed", "upload_slots")
    op.drop_column("upload_slots", "closed")
    op.create_index("upload_slots_by_expiry", "upload_slots", ["expires"])


def downgrade() -> None:
    op.drop_index("upload_slots_by_expiry", "upload_slots")
    # An older version closes, at its first look, what is over.
    op.add_column("upload_slots", sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("upload_slots_by_closed", "upload_slots", ["closed", "expires"])
