"""Reports know the others of their study: an addendum is a report of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "study_reports",
        sa.Column("report_id", sa.String(256), primary_key=True),
        sa.Column("study_id", sa.String(256), nullable=False),
        sa.Column("study_instance_uid", sa.String(64)),
        sa.Column("received", sa.Float, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("original", sa.String(256)),
        sa.Column("text_key", sa.String(1024)),
    )
    op.create_index("study_reports_by_study", "study_reports", ["study_instance_uid"])
    op.create_index("study_reports_by_avaras_study", "study_reports", ["study_id"])
    c = op.get_bind()
    reports = sa.table("reports", *(sa.column(n) for n in ("report_id", "version", "study_instance_uid", "received")))
    added = sa.table(
        "study_reports",
        *(sa.column(n) for n in ("report_id", "study_id", "study_instance_uid", "received", "ordinal", "original")),
    )
    before: dict[str, list[str]] = {}
    known = c.execute(sa.select(reports).order_by(reports.c.received, reports.c.report_id, reports.c.version)).all()
    seen = set()
    for row in known:
        if row.report_id in seen:
            continue
        seen.add(row.report_id)
        others = before.setdefault(row.study_instance_uid, [])
        c.execute(
            sa.insert(added).values(
                report_id=row.report_id, study_id="", study_instance_uid=row.study_instance_uid,
                received=row.received, ordinal=len(others) + 1, original=others[0] if others else None,
            )
        )  # fmt: skip
        others.append(row.report_id)


def downgrade() -> None:
    op.drop_table("study_reports")
