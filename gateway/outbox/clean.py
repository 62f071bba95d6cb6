"""Does ``object.clean`` jobs: removes from the store what no job needs any more."""

from __future__ import annotations

from gateway.journal import Job, Journal, jobs
from gateway.journal.worker import Done, TryLater
from gateway.objects import ObjectStore, StoreError


class Cleaner:
    """The handler of ``object.clean``."""

    def __init__(self, objects: ObjectStore, journal: Journal) -> None:
        self._objects = objects
        self._journal = journal

    async def __call__(self, job: Job) -> Done:
        """Removes one object. Raises TryLater."""
        key = job.payload["key"]
        # What was discarded may have been sent again since: then the end of that job says when it goes.
        user = await self._journal.run(lambda c: jobs.user_of(c, key))
        if user is not None:
            return Done(f"kept: job {user} needs it")
        try:
            await self._objects.delete([key])
        except StoreError as e:
            raise TryLater(str(e)) from e
        return Done("removed")
