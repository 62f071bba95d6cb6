"""What must survive a crash: facts (which studyId is which study), the ledger of the cache, and durable jobs."""

from gateway.journal.jobs import Job, Jobs, JobState
from gateway.journal.journal import CachedStudy, Journal, JournalError, StudyState, Transaction

__all__ = ["CachedStudy", "Job", "JobState", "Jobs", "Journal", "JournalError", "StudyState", "Transaction"]
