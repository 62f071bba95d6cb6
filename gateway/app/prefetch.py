"""Prefetch, out of the configuration."""

from __future__ import annotations

import zoneinfo
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from gateway.config import Config, Windows
from gateway.journal import EventKind, EventLog, Journal, PrefetchState, Transaction, prefetches
from gateway.pacs.dicomweb import QidoFinder, QidoSearch
from gateway.pacs.scu import FindSearch
from gateway.page import PrefetchSeen
from gateway.prefetch import Budget, Chooser, Place, Poller, Prefetcher, Priors, Rule, Steps, WallClock
from gateway.runtime import Part, Supervisor, loop
from gateway.studies import Fetcher, Pacs, StudyCache

HANGS_AFTER = 300.0
"""Seconds without progress after which a loop counts as hanging, beyond those for which it rests."""


class Prefetch:
    """What prefetches, and the loops that it takes."""

    def __init__(
        self,
        config: Config,
        *,
        pacs: list[Pacs],
        journal: Journal,
        fetcher: Fetcher,
        cache: StudyCache,
        events: EventLog,
        allows: Callable[[str], Awaitable[bool]],
    ) -> None:
        """*allows* is the hospital's access policy, by Study Instance UID."""
        self._config = config
        settings = config.prefetch
        zone = zoneinfo.ZoneInfo(settings.time_zone) if settings.time_zone is not None else None
        wall = WallClock(journal.clock, zone)
        self._journal, self._clock, self._zone = journal, journal.clock, zone
        self.places = [
            Place(
                one.name,
                QidoSearch(one.finder) if isinstance(one.finder, QidoFinder) else FindSearch(one.client),
                one.habits,
                Windows.parse(theirs.windows, zone),
                theirs.studies_per_hour,
                partial(_trouble, one),
            )
            for one, theirs in zip(pacs, (p.prefetch for p in config.pacs), strict=True)
            if theirs.enabled
        ]
        rules = [
            Rule(
                rule.name,
                frozenset(rule.modality),
                tuple(rule.station),
                tuple(rule.institution),
                tuple(rule.description),
                rule.max_age,
                rule.fetch,
            )
            for rule in settings.rules
        ]
        chooser = Chooser(rules, wall)

        def noted(study_instance_uid: str, what: str, trouble: bool) -> None:
            events.note(EventKind.FETCH, what, [f"study:{study_instance_uid}"], trouble=trouble)

        self.prefetcher = Prefetcher(
            self.places,
            journal=journal,
            fetcher=fetcher,
            cache=cache,
            budget=Budget(settings.max_bytes, int(settings.cache_share * config.cache.max_size)),
            priors=Priors(self.places, chooser, most=settings.priors, max_age=settings.priors_max_age),
            noted=noted,
            allows=allows,
        )
        steps = Steps(settings.poll_every, settings.poll_at_least_every, settings.look_back)
        self.pollers = {
            place.name: Poller(
                place,
                journal=journal,
                chooser=chooser,
                wall=wall,
                steps=steps,
                added=self.prefetcher.wake,
                noted=noted,
            )
            for place in self.places
            if settings.poll
        }

    @property
    def spent(self) -> dict[str, tuple[int, int, int]]:
        """By PACS, since the start: queries, studies asked for, and bytes that came of them."""
        return {one.name: (one.spent.queries.total(), one.spent.studies, one.spent.size) for one in self.places}

    async def seen(self) -> PrefetchSeen:
        """How it stands, for the page; a day begins where the clock on the wall does. Raises JournalError."""
        today = datetime.fromtimestamp(self._clock.now(), self._zone).replace(hour=0, minute=0, second=0, microsecond=0)

        def read(c: Transaction) -> tuple[dict[str, tuple[int, int]], int, int]:
            running = prefetches.counts(c)[PrefetchState.RUNNING.value]
            return prefetches.waiting(c), running, prefetches.warm_since(c, today.timestamp())

        waiting, running, warm = await self._journal.run(read)
        return PrefetchSeen(waiting, dict(self.prefetcher.waits_for), running, warm)

    def loops(self, loops: Supervisor) -> list[Part]:
        """What runs."""
        rests = max(self._config.prefetch.poll_at_least_every, self._config.prefetch.poll_every)
        return [
            loop(loops, "prefetch", self.prefetcher.run, stalls_after=HANGS_AFTER),
            *(
                loop(loops, f"new studies in {name}", poller.run, stalls_after=rests + HANGS_AFTER)
                for name, poller in self.pollers.items()
            ),
        ]


def _trouble(pacs: Pacs) -> str:
    return pacs.trouble
