"""Asks the hospital's policy about a study, with what is known of it at that moment.

Before anything is fetched, and once more of what came: a PACS may have corrected whose it is meanwhile. The same holds
for a study that is cached, for each deferred URL that is opened, and for what is uploaded to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from gateway.access import AccessPolicy, Facts, Purpose, Refused
from gateway.objects import StoreError
from gateway.pacs import PacsError, PacsUnreachable, background
from gateway.pacs.scu import Questions, StudyRecord
from gateway.studies.cache import StudyCache
from gateway.studies.fetch import Fetcher
from gateway.studies.index import StudyIndex
from gateway.studies.pacs import Pacs
from gateway.studies.statement import statement_of

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds for which a PACS that comes first in the order is waited for, once another has the study."""

OF_THE_TIME = 0.5
"""Part of the time for an answer that the PACS have to say what is to be known of a study."""

NOT_PERMITTED = "the hospital does not permit access to this study"
"""Says no more to the outside: which rule it was is in the audit trail."""

CANNOT_TELL = "the hospital's PACS cannot be asked now whether access is permitted; ask again later"

NOT_THERE = "the study is not in any PACS of this hospital"


OnRefused = Callable[[str, str, Purpose], None]
"""Is told of a study, the rule that forbids it, and what it was wanted for; must not wait."""


class StudyPermission:
    """Whether a study may be given."""

    def __init__(
        self,
        policy: AccessPolicy,
        *,
        fetcher: Fetcher,
        cache: StudyCache,
        pacs: Sequence[Pacs],
        wants: Sequence[str],
        on_refused: OnRefused,
    ) -> None:
        """*wants* are fields of what a PACS says that the policy goes by, and that an index may lack."""
        self._policy = policy
        self._fetcher = fetcher
        self._cache = cache
        self._pacs = {one.name: one for one in pacs}
        self._wants = wants
        self._on_refused = on_refused
        self._questions = Questions[StudyRecord | None]()

    @property
    def needed(self) -> bool:
        """Whether there is a policy at all."""
        return self._policy.needed

    async def ask(
        self, study_instance_uid: str, purpose: Purpose, *, event: str = "", deadline: float | None = None
    ) -> None:
        """Returns where it may be given. *deadline*: of the answer, in event-loop seconds. Raises Refused."""
        if not self._policy.needed:
            return
        rule = await self.rule_against(study_instance_uid, purpose, event=event, deadline=deadline)
        if rule:
            log.info("study %s is not given: %s forbids it", study_instance_uid, rule)
            self._on_refused(study_instance_uid, rule, purpose)
            raise Refused(NOT_PERMITTED, rule)

    async def rule_against(
        self, study_instance_uid: str, purpose: Purpose, *, event: str = "", deadline: float | None = None
    ) -> str:
        """The rule that forbids it; empty where none does. Raises Refused where that cannot be told."""
        try:
            facts = await self._facts(study_instance_uid, deadline)
        except (PacsError, StoreError) as e:
            log.warning("what the access policy wants to know of study %s: %s", study_instance_uid, e)
            raise Refused(CANNOT_TELL) from e
        verdict = await self._policy.judge(facts, purpose, event=event, deadline=deadline)
        return "" if verdict.allowed else verdict.rule

    async def _facts(self, uid: str, deadline: float | None) -> Facts:
        """What is known of it. Raises Refused where no PACS has it, PacsError, StoreError."""
        flight = self._fetcher.flight(uid)
        if flight is not None and flight.record is not None:
            return self._of_record(flight.record, flight.pacs)
        held = await self._cache.index(uid)
        if held is not None and (found := self._of_index(held)) is not None:
            return found
        pacs, record = await self._find(uid, deadline)
        if record is not None:
            return self._of_record(record, pacs)
        if held is None and flight is None:
            raise Refused(NOT_THERE)
        return Facts(uid)  # of what was sent unasked nobody says anything yet

    async def _find(self, uid: str, deadline: float | None) -> tuple[str, StudyRecord | None]:
        loop = asyncio.get_running_loop()
        at_most = max((deadline - loop.time()) * OF_THE_TIME, 0.05) if deadline is not None else None
        answers = await self._questions.ask(
            {name: partial(one.finder.find_study, uid, urgency=background) for name, one in self._pacs.items()},
            enough=lambda found: any(isinstance(answer, StudyRecord) for answer in found.values()),
            patience=PATIENCE,
            at_most=at_most,
        )
        for name in self._pacs:
            if isinstance(answer := answers.get(name), StudyRecord):
                return name, answer
        for answer in answers.values():
            if isinstance(answer, PacsError):
                raise answer
        if len(answers) < len(self._pacs):
            raise PacsUnreachable("a PACS has not answered")
        return "", None

    def _of_record(self, record: StudyRecord, pacs: str) -> Facts:
        now = statement_of(record)
        return Facts(
            record.study_instance_uid,
            _names(pacs),
            _modalities(record.modalities),
            now.study_date if now is not None else "",
            now.patient_id if now is not None else "",
            now.accession_number if now is not None else "",
            record.institution,
            record.status,
        )

    def _of_index(self, index: StudyIndex) -> Facts | None:
        """None where it does not say what the policy goes by."""
        now = index.statement
        if now is None or not index.pacs or any(not getattr(now, name) for name in self._wants):
            return None
        return Facts(
            index.study_instance_uid,
            _names(index.pacs),
            _modalities(now.modalities) or frozenset(i.modality for i in index.instances.values()) - {""},
            now.study_date,
            now.patient_id,
            now.accession_number,
            now.institution,
            now.status,
        )


def _names(pacs: str) -> frozenset[str]:
    return frozenset(pacs.split(" + ")) - {""}


def _modalities(text: str) -> frozenset[str]:
    return frozenset(m.strip().upper() for m in text.split("\\")) - {""}
