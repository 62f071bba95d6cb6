"""What must survive a crash: facts (which studyId is which study), the cache's ledger, durable jobs."""
