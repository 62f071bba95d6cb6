"""Alerts know what they say, whether they last, and when people were told of them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("alerts", sa.Column("alert", sa.Text))
    op.add_column("alerts", sa.Column("lasts", sa.Boolean, nullable=False, server_default="0"))
    op.add_column("alerts", sa.Column("told", sa.Float, nullable=False, server_default="0"))
    op.add_column("alerts", sa.Column("reminders", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    for column in ("reminders", "told", "lasts", "alert"):
        op.drop_column("alerts", column)
