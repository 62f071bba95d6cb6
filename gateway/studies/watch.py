"""Asks the PACS, for all studies whose URLs work, whether these are what they were.

Many studies are asked for by one query (UID list matching, PS3.4 C.2.2.2.2) where the PACS takes that, so that what was
withdrawn is noticed in time however many studies are open. A list proves nothing of what its answer leaves out: that is
asked for by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway.pacs import PacsError, background
from gateway.runtime import progress
from gateway.studies.cache import StudyCache
from gateway.studies.fetch import Fetcher
from gateway.studies.index import StudyIndex
from gateway.studies.pacs import Pacs

log = logging.getLogger(__name__)

IN_A_LIST = 50
"""Studies that one query asks for: some 3 KB, which neither an identifier nor a URL is too short for."""

BY_THEMSELVES = 10
"""Studies that are asked for one by one before the turn at the PACS is given to whoever waits for it."""

AT_ONCE = 2
"""Queries at once to one PACS, each on an association of its own."""


class Watch:
    """Compares studies with what their PACS says of them now."""

    def __init__(self, cache: StudyCache, fetcher: Fetcher, pacs: Sequence[Pacs]) -> None:
        self._cache = cache
        self._fetcher = fetcher
        self._pacs = {one.name: one for one in pacs}
        self.unasked: dict[str, str] = {}
        """Studies whose PACS could not be asked the last time: by Study Instance UID, why."""

    async def look(self, study_instance_uids: Sequence[str], changed: Callable[[str], None]) -> None:
        """Tells *changed* of those that may not be what their PACS has now, as they are found. Raises StoreError."""
        held, unasked = dict[str, dict[str, StudyIndex]](), dict[str, str]()
        for uid in study_instance_uids:
            progress()
            index = await self._cache.index(uid)
            if index is None or self._fetcher.flight(uid) is not None:
                continue
            if self._fetcher.merges:  # a fetch asks no more than this would
                changed(uid)
            elif index.pacs in self._pacs:
                held.setdefault(index.pacs, {})[uid] = index
        await asyncio.gather(*(self._ask(self._pacs[n], studies, changed, unasked) for n, studies in held.items()))
        self._tell(unasked)

    async def _ask(
        self,
        pacs: Pacs,
        held: dict[str, StudyIndex],
        changed: Callable[[str], None],
        unasked: dict[str, str],
    ) -> None:
        size = IN_A_LIST if pacs.habits.takes_uid_lists else BY_THEMSELVES
        uids_of = list(held)
        waiting = [uids_of[at : at + size] for at in range(0, len(uids_of), size)][::-1]

        async def work() -> None:
            while waiting:
                progress()
                uids = waiting.pop()
                try:
                    found = await pacs.finder.find_studies(
                        uids, urgency=background, in_a_list=pacs.habits.takes_uid_lists
                    )
                except PacsError as e:
                    unasked.update(dict.fromkeys(uids, str(e)))
                    continue
                if not found.lists_work:
                    pacs.habits.takes_no_uid_lists()
                for uid in uids:
                    if self._fetcher.differs(held[uid], found.records[uid]):
                        changed(uid)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    def _tell(self, unasked: dict[str, str]) -> None:
        new = len(unasked.keys() - self.unasked.keys())
        if new:
            log.warning(
                "%d studies whose URLs work cannot be compared with their PACS now; what is withdrawn of them is "
                "noticed once it answers: %s",
                len(unasked), next(iter(unasked.values())),
            )  # fmt: skip
        elif self.unasked and not unasked:
            log.warning("every study whose URLs work is compared with its PACS again")
        self.unasked = unasked
