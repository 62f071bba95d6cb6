"""Which study is which, and what lies in the store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("study_id", sa.String(256), primary_key=True),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
    )
    op.create_index("studies_by_uid", "studies", ["study_instance_uid"])
    op.create_table(
        "cached_studies",
        sa.Column("study_instance_uid", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("last_used", sa.Float, nullable=False),
        sa.Column("urls_valid_until", sa.Float, nullable=False),
    )
    op.create_index("cached_studies_by_use", "cached_studies", ["last_used"])


def downgrade() -> None:
    op.drop_table("cached_studies")
    op.drop_table("studies")
