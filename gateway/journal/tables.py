"""The journal's tables as the code uses them; the migrations make them. Times are unix seconds."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from gateway.dicom import MAX_USABLE_LENGTH

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("study_id", String(256), primary_key=True),
    Column("study_instance_uid", String(MAX_USABLE_LENGTH), nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Index("studies_by_uid", "study_instance_uid"),
    Index("studies_by_last_seen", "last_seen"),
)
"""Which of Avara's studies is which of the PACS's: an older ``report.delivered`` names only the former."""

cached_studies = Table(
    "cached_studies",
    metadata,
    Column("study_instance_uid", String(MAX_USABLE_LENGTH), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("last_used", Float, nullable=False),
    Column("urls_valid_until", Float, nullable=False),
    Column("opened", Float, nullable=False, default=0.0),
    Index("cached_studies_by_use", "last_used"),
)
"""What lies in the object store, for eviction; ``opened`` is when an answer last had URLs of it, 0 where none had."""

prefetches = Table(
    "prefetches",
    metadata,
    Column("study_instance_uid", String(MAX_USABLE_LENGTH), primary_key=True),
    Column("task", String(16), primary_key=True),
    Column("pacs", String(64), nullable=False),
    Column("source", String(16), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("instances", Integer),
    Column("added", Float, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("size", BigInteger, nullable=False),
    Column("opened", Float),
    Column("reason", Text, nullable=False),
    Index("prefetches_by_state", "state", "next_at"),
    Index("prefetches_by_end", "ended"),
)
"""Studies that are, were or will be fetched before anybody asks, and studies whose priors are; what was seen is not
queued again. ``size`` are the bytes that came, ``opened`` is when somebody opened it first after that."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(32), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("lane", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("payload", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("since", Float, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("pause", Float, nullable=False),
    Column("ended", Float),
    Column("taken", Integer, nullable=False),
    Column("leased_by", String(64)),
    Column("leased_until", Float),
    Column("unclean_ends", Integer, nullable=False, default=0),
    Column("log_ids", Text, nullable=False, default="{}"),
    Column("last_error", Text, nullable=False),
    UniqueConstraint("kind", "subject", name="jobs_by_subject"),
    Index("jobs_by_lane", "state", "kind", "lane", "next_at"),
)
Index("jobs_by_end", jobs.c.state, jobs.c.ended, sqlite_where=jobs.c.ended.is_not(None))
"""Work that has to be done however often it fails; (kind, subject) is what makes it the same work.

``taken`` grows each time that a job is taken; ``pause`` is how many seconds lay before ``next_at`` when it was set;
``unclean_ends`` is how many workers in a row died while they had it; ``log_ids`` are, as JSON, the ids of what it was
begun by."""

job_history = Table(
    "job_history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("at", Float, nullable=False),
    Column("text", Text, nullable=False),
    Index("job_history_by_job", "job_id"),
)
"""What happened to a job, for the operator."""

job_objects = Table(
    "job_objects",
    metadata,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(1024), primary_key=True),
    Index("job_objects_by_key", "key"),
)
"""Which object in the store which job needs, for as long as it is not over."""

removals = Table(
    "removals",
    metadata,
    Column("key", String(1024), primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
)
"""Objects that are being removed from the store at this moment: nobody may begin to use them."""

commitments = Table(
    "commitments",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("round", Integer, nullable=False),
    Column("asked", Float, nullable=False),
    Column("answered", Float),
    Column("failure", Text, nullable=False),
    Index("commitments_by_job", "job_id"),
)
"""Storage commitment that was asked for. ``round`` counts how often the object had been stored before; ``failure``
says why a PACS does not commit itself, and is empty where it does."""

paused_lanes = Table(
    "paused_lanes",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("lane", String(256), primary_key=True),
    Column("since", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Places that do not answer, and are therefore tried now and then only."""

upload_slots = Table(
    "upload_slots",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("webhook_id", String(256), nullable=False, unique=True),
    Column("study_id", String(256), nullable=False),
    Column("study_instance_uid", String(MAX_USABLE_LENGTH), nullable=False),
    Column("series_instance_uid", String(64)),
    Column("sop_instance_uid", String(64)),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("taken", String(64)),
    Index("upload_slots_by_expiry", "expires"),
)
"""Upload URLs that were given out; ``taken`` is the SHA-256 of the upload that won."""

reports = Table(
    "reports",
    metadata,
    Column("report_id", String(256), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("content", String(64), nullable=False),
    Column("study_instance_uid", String(MAX_USABLE_LENGTH), nullable=False),
    Column("has_pdf", Boolean, nullable=False),
    Column("has_text", Boolean, nullable=False),
    Column("received", Float, nullable=False),
    UniqueConstraint("report_id", "content", name="reports_by_content"),
    Index("reports_by_time", "received"),
)
"""Versions of reports that are, or were, delivered; ``content`` is a SHA-256 over what they say."""

study_reports = Table(
    "study_reports",
    metadata,
    Column("report_id", String(256), primary_key=True),
    Column("study_id", String(256), nullable=False),
    Column("study_instance_uid", String(MAX_USABLE_LENGTH)),
    Column("received", Float, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("original", String(256)),
    Column("text_key", String(1024)),
    Index("study_reports_by_study", "study_instance_uid"),
    Index("study_reports_by_avaras_study", "study_id"),
    Index("study_reports_by_time", "received"),
)
"""Every report that was acknowledged, among the others of its study. ``ordinal`` is 1 for the first, from 2 on for what
was added to it, and 0 while that is not decided; ``original`` is the report that it adds to, where it is known."""

marks = Table(
    "marks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text),
)
"""How far something has come that goes on over restarts."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("timestamp", BigInteger, nullable=False),
    Index("deliveries_by_time", "timestamp"),
)
"""Webhooks that were answered, for as long as their signature is good: a hash of the id, and when it was signed."""

alerts = Table(
    "alerts",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("subject", String(256), primary_key=True),
    Column("occasion", Integer, nullable=False),
    Column("raised", Float, nullable=False),
    Column("ended", Float),
    Column("alert", Text),
    Column("lasts", Boolean, nullable=False),
    Column("told", Float, nullable=False),
    Column("reminders", Integer, nullable=False),
)
"""What people were told of, so that they are told of it once; ``ended`` is null while it stands, ``alert`` is what was
said. Of one that ``lasts`` they are reminded: ``told`` is when they heard of it last."""

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("trouble", Boolean, nullable=False),
    Index("events_by_time", "at"),
    Index("events_by_kind", "kind", "id"),
)
"""What happened, for whoever asks why."""

event_keys = Table(
    "event_keys",
    metadata,
    Column("event_id", Integer, ForeignKey("events.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(256), primary_key=True),
    Index("event_keys_by_key", "key"),
)
"""By which an event is found."""
