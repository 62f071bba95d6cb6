"""Study Instance UIDs may be as long as any that a PACS has."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

TABLES = {"studies": False, "cached_studies": False, "upload_slots": False, "reports": False, "study_reports": True}
"""With whether the column may be null."""


def _set_length(length: int) -> None:
    # SQLite takes any length as it is declared, and would have to write each table anew.
    if op.get_bind().dialect.name != "sqlite":
        for table, nullable in TABLES.items():
            op.alter_column(
                table,
                "study_instance_uid",
                type_=sa.String(length),
                existing_type=sa.String(),
                existing_nullable=nullable,
            )


def upgrade() -> None:
    _set_length(80)


def downgrade() -> None:
    _set_length(64)
