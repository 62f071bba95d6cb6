"""What must survive a crash: facts (which studyId is which study) and the ledger of the cache."""

from gateway.journal.journal import CachedStudy, Journal, JournalError, StudyState

__all__ = ["CachedStudy", "Journal", "JournalError", "StudyState"]
