"""Marks: how far something that goes on over restarts has come."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table("marks", sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.Text))


def downgrade() -> None:
    op.drop_table("marks")
