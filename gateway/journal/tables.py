"""The journal's tables as the code uses them; the migrations make them. Times are unix seconds."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("study_id", String(256), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Index("studies_by_uid", "study_instance_uid"),
)
"""Which of Avara's studies is which of the PACS's: an older ``report.delivered`` names only the former."""

cached_studies = Table(
    "cached_studies",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("last_used", Float, nullable=False),
    Column("urls_valid_until", Float, nullable=False),
    Index("cached_studies_by_use", "last_used"),
)
"""What lies in the object store, for eviction."""
