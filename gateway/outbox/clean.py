"""Does ``object.clean`` jobs: removes from the store what no job needs any more."""

from __future__ import annotations

from gateway.journal import CleanObject, Job, JobState, Journal, Transaction, jobs, objects
from gateway.objects import ObjectStore


class Cleaner:
    """The handler of ``object.clean``."""

    def __init__(self, store: ObjectStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal

    async def __call__(self, job: Job) -> None:
        """Removes one object. Raises StoreError."""
        key = job.read(CleanObject).key
        if not await self._journal.run(lambda c: self._claim(c, job, key)):
            return
        await self._store.delete([key])
        await self._journal.run(lambda c: self._done(c, job, key))

    def _claim(self, c: Transaction, job: Job, key: str) -> bool:
        user = objects.claim(c, job.id, key)
        if user is not None:
            # What was discarded may have been sent again since: then the end of that job says when it goes.
            jobs.end(c, job, JobState.DONE, f"kept: job {user} needs it")
        return user is None

    def _done(self, c: Transaction, job: Job, key: str) -> None:
        objects.removed(c, key)
        jobs.end(c, job, JobState.DONE, "removed")
