"""What must survive a crash: facts (which studyId is which study), the ledger of the cache, and durable jobs."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.journal import alerts, commitments, events, jobs, marks, objects, reports, slots, study_reports, tables
    from gateway.journal.commitments import Answer, Commitment
    from gateway.journal.desk import Jobs, PausedLane
    from gateway.journal.events import EventKind, EventLog, JournalEvent
    from gateway.journal.jobs import CLEAN, CleanObject, Job, JobLost, JobState, Unfit, get, job_of
    from gateway.journal.journal import (
        CachedStudy,
        Journal,
        JournalError,
        OlderSchema,
        StudyState,
        remember_study,
        study_of,
    )
    from gateway.journal.payload import Payload, UnreadablePayload
    from gateway.journal.reports import ReportVersion
    from gateway.journal.slots import Slot
    from gateway.journal.study_reports import StudyReport
    from gateway.journal.tables import cached_studies, job_history, studies, upload_slots
    from gateway.journal.transaction import Transaction
    from gateway.journal.worker import CannotBeDone, Done, Ended, Kind, PlaceSilent, Step, TryLater, Worker
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "CLEAN",
    "Answer",
    "CachedStudy",
    "CannotBeDone",
    "CleanObject",
    "Commitment",
    "Done",
    "Ended",
    "EventKind",
    "EventLog",
    "Job",
    "JobLost",
    "JobState",
    "Jobs",
    "Journal",
    "JournalError",
    "JournalEvent",
    "Kind",
    "OlderSchema",
    "PausedLane",
    "Payload",
    "PlaceSilent",
    "ReportVersion",
    "Slot",
    "Step",
    "StudyReport",
    "StudyState",
    "Transaction",
    "TryLater",
    "Unfit",
    "UnreadablePayload",
    "Worker",
    "alerts",
    "cached_studies",
    "commitments",
    "events",
    "get",
    "job_history",
    "job_of",
    "jobs",
    "marks",
    "objects",
    "remember_study",
    "reports",
    "slots",
    "studies",
    "study_of",
    "study_reports",
    "tables",
    "upload_slots",
]
