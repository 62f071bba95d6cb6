"""Whether each PACS answers: by what is asked of it anyway, and where that says nothing, by a question of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.pacs import Claim, Lane, PacsError, background
from gateway.runtime import Clock
from gateway.studies import Pacs

PROVEN_FOR = 55.0
"""Seconds for which a PACS that has answered is not asked whether it does."""

AGAIN_AFTER = 10.0
"""Seconds after which one that did not answer is asked again."""

WITHIN = 10.0
"""Seconds for its answer."""

SILENT_TWICE = 2
"""Questions in a row that were not answered, from which on it does not answer: one alone is a PACS that was busy."""

ASKED_ASIDE = Claim(Lane.QUERY, urgency=background)
"""Behind whatever a radiologist waits for."""


@dataclass(slots=True)
class _Asked:
    at: float = float("-inf")
    """Monotonic seconds of the latest question."""
    milliseconds: float | None = None
    failures: int = 0
    failure: str = ""
    since: float = 0.0
    """Unix seconds of the first of these failures."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a PACS answers."""

    name: str
    where: str
    """Its AE title and address."""
    failure: str
    """Why it does not; empty where it does."""
    since: float | None
    """Unix seconds since when it does not."""
    answered: float | None
    """Unix seconds at which it last did what it was asked for."""
    milliseconds: float | None
    """Which our latest question took that it answered."""


class Answering:
    """Knows of each PACS whether it answers. Health, the page, alerts and metrics have it from here."""

    def __init__(self, pacs: Sequence[Pacs], clock: Clock) -> None:
        self._pacs = pacs
        self._clock = clock
        self._asked = {one.name: _Asked() for one in pacs}
        self._asking = asyncio.Lock()

    def answers(self) -> list[Answer]:
        """How each answers, as far as is known; asks nobody."""
        return [self._answer(pacs) for pacs in self._pacs]

    def _answer(self, pacs: Pacs) -> Answer:
        asked, now = self._asked[pacs.name], self._clock.now()
        failure, since = pacs.trouble, now - pacs.silent_for
        if not failure and asked.failures >= SILENT_TWICE:
            failure, since = asked.failure, asked.since
        ago = pacs.finder.breaker.answered_ago
        return Answer(
            pacs.name, pacs.where, failure, since if failure else None, None if ago is None else now - ago,
            asked.milliseconds,
        )  # fmt: skip

    async def ask(self) -> None:
        """Asks those of which nothing new is known; whoever calls meanwhile waits for the same answers."""
        async with self._asking:
            await asyncio.gather(*(self._ask(pacs) for pacs in self._pacs if self._is_due(pacs)))

    def _is_due(self, pacs: Pacs) -> bool:
        asked = self._asked[pacs.name]
        ago = self._clock.monotonic() - asked.at
        if asked.failures:
            return ago >= AGAIN_AFTER
        answered_ago = pacs.finder.breaker.answered_ago
        proven = asked.milliseconds is not None and answered_ago is not None and answered_ago <= PROVEN_FOR
        return ago >= PROVEN_FOR and not proven

    async def _ask(self, pacs: Pacs) -> None:
        asked = self._asked[pacs.name]
        asked.at = self._clock.monotonic()
        try:
            async with asyncio.timeout(WITHIN):
                if pacs.finder is pacs.client:
                    await pacs.client.echo(ASKED_ASIDE)
                else:  # its DICOMweb service is what studies are found by
                    today = datetime.fromtimestamp(self._clock.now(), UTC)
                    await pacs.finder.list_studies(f"{today:%Y%m%d}", 1)
        except (PacsError, TimeoutError) as e:
            if not asked.failures:
                asked.since = self._clock.now()
            asked.failures += 1
            asked.failure = str(e) or f"it has not answered within {WITHIN:g} s"
        else:
            asked.failures = 0
            asked.milliseconds = (self._clock.monotonic() - asked.at) * 1000
