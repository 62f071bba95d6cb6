"""Asks a PACS what the rules, and the choice of priors, have to know."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence

from gateway.pacs import PacsError
from gateway.pacs.scu import OFFLINE, StudyQuery, StudyTraits
from gateway.prefetch.place import Place
from gateway.prefetch.priors import WILD, earlier, relevant, same_patient
from gateway.prefetch.rules import Decision, Rule, decide
from gateway.runtime import Clock

log = logging.getLogger(__name__)

NOT_TO_BE_HAD = (OFFLINE, "UNAVAILABLE")
"""Instance Availability of what nobody brings without a person who fetches it."""


class WallClock:
    """The time as the PACS write it."""

    def __init__(self, clock: Clock, zone: datetime.tzinfo | None) -> None:
        """*zone* is theirs; None: this machine's."""
        self._clock = clock
        self._zone = zone

    def now(self) -> datetime.datetime:
        """What the clock on the wall shows, to the second."""
        return datetime.datetime.fromtimestamp(self._clock.now(), self._zone).replace(tzinfo=None, microsecond=0)


class Chooser:
    """Applies the rules; asks for a study's series where one of them needs these."""

    def __init__(self, rules: Sequence[Rule], wall: WallClock) -> None:
        self._rules = rules
        self._wall = wall

    async def decide(self, study: StudyTraits, place: Place) -> Decision:
        """What they say of a study. Raises PacsError."""
        today = self._wall.now()
        decision = decide(self._rules, study, today)
        if decision is None:
            place.spent.queries["rules"] += 1
            decision = decide(self._rules, study, today, await place.search.series(study.study_instance_uid))
            assert decision is not None, "the series were given"
        return decision


class Priors:
    """Looks for the earlier studies that one will be compared with."""

    def __init__(self, places: Sequence[Place], chooser: Chooser, *, most: int, max_age: float) -> None:
        """*most* are looked for of each study; none is older by more than *max_age* seconds."""
        self._places = places
        self._chooser = chooser
        self.most = most
        self._max_age = max_age

    async def find(self, study_instance_uid: str, place: Place) -> list[tuple[str, str, int | None]]:
        """The priors of a study that *place* has, the newest first: UID, PACS, and instances. Raises PacsError where
        that PACS cannot be asked."""
        place.spent.queries["priors"] += 1
        answers = (await place.search.studies(StudyQuery(study_instance_uid=study_instance_uid))).studies
        study = next((one for one in answers if one.study_instance_uid == study_instance_uid), None)
        if study is None or not study.patient_id or WILD.search(study.patient_id):
            return []
        where: dict[str, Place] = {}
        candidates: list[StudyTraits] = []
        for other in (place, *(p for p in self._places if p is not place and study.issuer)):
            for one in await self._of_patient(study, other, same_pacs=other is place):
                if where.setdefault(one.study_instance_uid, other) is other:
                    candidates.append(one)

        async def body_parts(one: StudyTraits) -> frozenset[str]:
            at = where.get(one.study_instance_uid, place)
            at.spent.queries["priors"] += 1
            return (await at.search.series(one.study_instance_uid)).body_parts

        wanted = []
        for one in await relevant(study, earlier(study, candidates, max_age=self._max_age), self.most, body_parts):
            at = where[one.study_instance_uid]
            decision = await self._chooser.decide(one, at)
            if decision.fetch or not decision.rule:  # only a rule that forbids it keeps a prior away
                wanted.append((one.study_instance_uid, at.name, one.instances))
        return wanted

    async def _of_patient(self, study: StudyTraits, place: Place, *, same_pacs: bool) -> list[StudyTraits]:
        place.spent.queries["priors"] += 1
        try:
            found = await place.search.studies(StudyQuery(patient_id=study.patient_id))
        except PacsError as e:
            if same_pacs:
                raise
            log.info("priors in PACS %s are not looked for: %s", place.name, e)
            return []
        mine = [one for one in found.studies if same_patient(study, one, same_pacs=same_pacs)]
        away = [one.study_instance_uid for one in mine if one.availability in NOT_TO_BE_HAD]
        if away:
            log.info("%d earlier studies in PACS %s are off-line and are not asked for: %s", len(away), place.name,
                     ", ".join(away[:3]))  # fmt: skip
        return [one for one in mine if one.availability not in NOT_TO_BE_HAD]
