"""What must survive a crash: facts (which studyId is which study), the ledger of the cache, and durable jobs."""

from gateway.journal.desk import Jobs, PausedLane
from gateway.journal.jobs import Job, JobLost, JobState
from gateway.journal.journal import CachedStudy, Journal, JournalError, OlderSchema, StudyState
from gateway.journal.payload import Payload
from gateway.journal.transaction import Transaction

__all__ = [
    "CachedStudy",
    "Job",
    "JobLost",
    "JobState",
    "Jobs",
    "Journal",
    "JournalError",
    "OlderSchema",
    "PausedLane",
    "Payload",
    "StudyState",
    "Transaction",
]
