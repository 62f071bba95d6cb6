"""What is old is found without reading what is not."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

INDEXES = {
    "studies_by_last_seen": ("studies", "last_seen"),
    "study_reports_by_time": ("study_reports", "received"),
    "reports_by_time": ("reports", "received"),
}


def upgrade() -> None:
    for name, (table, column) in INDEXES.items():
        op.create_index(name, table, [column])
    # Only of what is over: work that begins and goes on pays nothing for it.
    op.create_index("jobs_by_end", "jobs", ["state", "ended"], sqlite_where=sa.text("ended IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("jobs_by_end", "jobs")
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
