"""Which webhook and event a job was begun by, for the log."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("log_ids", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("jobs", "log_ids")
