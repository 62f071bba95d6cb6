"""What must survive a crash: facts (which studyId is which study), the ledger of the cache, and durable jobs."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.journal import (
        alerts,
        commitments,
        deliveries,
        erasure,
        events,
        jobs,
        marks,
        objects,
        prefetches,
        reports,
        retention,
        slots,
        study_reports,
        tables,
    )
    from gateway.journal.commitments import Commitment, CommitmentAnswer
    from gateway.journal.desk import Jobs, PausedLane
    from gateway.journal.erasure import SyntheticWork
    from gateway.journal.errors import JournalError
    from gateway.journal.events import EventKind, EventLog, JournalEvent
    from gateway.journal.facts import remember_study, study_of
    from gateway.journal.handling import (
        CannotBeDone,
        Ended,
        JobDone,
        JobStep,
        Kind,
        PlaceSilent,
        Recorded,
        TryLater,
    )
    from gateway.journal.job import CLEAN, CleanObject, Job, JobLost, JobState, Unfit, job_of
    from gateway.journal.jobs import get
    from gateway.journal.journal import CachedStudy, Journal, StudyState
    from gateway.journal.payload import Payload, UnreadablePayload
    from gateway.journal.prefetches import Cause, Prefetch, PrefetchState, Task
    from gateway.journal.reports import ReportVersion
    from gateway.journal.schema import OlderSchema
    from gateway.journal.slots import Slot
    from gateway.journal.study_reports import StudyReport
    from gateway.journal.tables import cached_studies, job_history, studies, upload_slots
    from gateway.journal.transaction import Transaction
    from gateway.journal.worker import Worker
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "CLEAN",
    "CachedStudy",
    "CannotBeDone",
    "Cause",
    "CleanObject",
    "Commitment",
    "CommitmentAnswer",
    "Ended",
    "EventKind",
    "EventLog",
    "Job",
    "JobDone",
    "JobLost",
    "JobState",
    "JobStep",
    "Jobs",
    "Journal",
    "JournalError",
    "JournalEvent",
    "Kind",
    "OlderSchema",
    "PausedLane",
    "Payload",
    "PlaceSilent",
    "Prefetch",
    "PrefetchState",
    "Recorded",
    "ReportVersion",
    "Slot",
    "StudyReport",
    "StudyState",
    "SyntheticWork",
    "Task",
    "Transaction",
    "TryLater",
    "Unfit",
    "UnreadablePayload",
    "Worker",
    "alerts",
    "cached_studies",
    "commitments",
    "deliveries",
    "erasure",
    "events",
    "get",
    "job_history",
    "job_of",
    "jobs",
    "marks",
    "objects",
    "prefetches",
    "remember_study",
    "reports",
    "retention",
    "slots",
    "studies",
    "study_of",
    "study_reports",
    "tables",
    "upload_slots",
]
