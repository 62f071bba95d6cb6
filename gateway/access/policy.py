"""The hospital's policy: its rules, its lists and its decision point, as one question."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime

from gateway.access.decision import DecisionPoint
from gateway.access.lists import DenyList
from gateway.access.rules import Facts, Purpose, Rules, Verdict
from gateway.runtime import Clock

REMEMBERED = 1024
"""Decisions of the decision point that are kept for a while."""

FAILED_FOR = 5.0
"""Seconds for which a decision point that failed is not asked about the same study again: viewers open hundreds of URLs
at once."""

TO_ANSWER = 0.3
"""Seconds before an answer is due at which the decision point is no longer waited for."""


class AccessPolicy:
    """Says of a study whether Avara may have it."""

    def __init__(
        self,
        rules: Rules,
        *,
        patients: DenyList,
        accessions: DenyList,
        decision: DecisionPoint | None,
        keep_for: float,
        within: float,
        clock: Clock,
    ) -> None:
        """*keep_for* is seconds for which a decision of the decision point is taken to hold, *within* those that it
        has for one."""
        self._rules = rules
        self._patients = patients
        self._accessions = accessions
        self._decision = decision
        self._keep_for = keep_for
        self._within = within
        self._clock = clock
        self._decided: OrderedDict[tuple[Facts, Purpose], tuple[Verdict, float]] = OrderedDict()
        self._asking: dict[tuple[Facts, Purpose], asyncio.Task[Verdict]] = {}
        listed = patients.values is not None or accessions.values is not None
        self.needed = rules.any or listed or decision is not None
        """Whether there is anything to ask: without a policy, nothing is asked of anybody."""

    @property
    def trouble(self) -> str:
        """What is wrong with it now, for the operator; empty where nothing is."""
        troubles = (self._patients.trouble, self._accessions.trouble, self._decision.trouble if self._decision else "")
        return "; ".join(one for one in troubles if one)

    @property
    def check(self) -> Callable[[], Awaitable[None]] | None:
        """Proves the decision point; None where there is none."""
        return self._decision.check if self._decision is not None else None

    async def judge(self, facts: Facts, purpose: Purpose, *, event: str = "", deadline: float | None = None) -> Verdict:
        """Whether it may be given. The decision point is asked last, and not after *deadline* (event-loop seconds)."""
        today = datetime.fromtimestamp(self._clock.now()).astimezone().date()
        verdict = self._rules.judge(facts, today, self._patients.values, self._accessions.values)
        if not verdict.allowed or self._decision is None:
            return verdict
        key = (facts, purpose)
        known = self._decided.get(key)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        asking = self._asking.get(key)
        if asking is None:
            left = self._within
            if deadline is not None:
                left = max(min(left, deadline - TO_ANSWER - asyncio.get_running_loop().time()), 0.05)
            asking = self._asking[key] = asyncio.create_task(self._decide(self._decision, key, event, left))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        # Others wait for the same answer: one who goes away ends it for nobody.
        return await asyncio.shield(asking)

    async def _decide(self, decision: DecisionPoint, key: tuple[Facts, Purpose], event: str, within: float) -> Verdict:
        verdict, its_own = await decision.decide(*key, event, within=within)
        holds = self._keep_for if its_own else min(self._keep_for, FAILED_FOR)
        self._decided[key] = (verdict, self._clock.monotonic() + holds)
        self._decided.move_to_end(key)
        while len(self._decided) > REMEMBERED:
            self._decided.popitem(last=False)
        return verdict
