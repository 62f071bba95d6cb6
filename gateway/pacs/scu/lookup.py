"""Asks several PACS for what any of them may know, and waits for none that is silent while others have answered.

Whom nobody waits for any more is not asked again until its question has ended, by an answer or by its time-out: so one
that is silent costs its patience once, and not each time.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from gateway.pacs import PacsError, PacsUnreachable, background
from gateway.pacs.scu.results import StudyRecord
from gateway.pacs.scu.retrieve import Finder

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds for which one that comes first in the order is waited for, once another has answered."""

_WILD = re.compile(r"[*?\\]|[^ -~]")
"""What C-FIND matches more than itself by, or takes for another value (PS3.4 C.2.2.2)."""

Answers = Mapping[str, T | PacsError]
"""What those that have answered said, or how asking them failed, by name."""


class Questions(Generic[T]):
    """The questions of one kind that are open."""

    def __init__(self) -> None:
        self._overdue: dict[str, set[asyncio.Task[T]]] = defaultdict(set)

    async def ask(
        self,
        questions: Mapping[str, Callable[[], Awaitable[T]]],
        *,
        enough: Callable[[Answers[T]], bool],
        patience: float,
        at_most: float | None = None,
    ) -> dict[str, T | PacsError]:
        """Asks by name. Returns once all have answered, or *patience* seconds after those that have are *enough*, or
        after *at_most* seconds; who is silent is not among the answers."""
        tasks = {
            name: asyncio.create_task(_answer(question), name=f"question to {name}")
            for name, question in questions.items()
            if not self._overdue[name]
        }
        answers: dict[str, T | PacsError] = {}
        loop = asyncio.get_running_loop()
        until = None if at_most is None else loop.time() + at_most
        open_ones = dict(tasks)
        try:
            while open_ones:
                left = None if until is None else max(until - loop.time(), 0.0)
                done, _ = await asyncio.wait(open_ones.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for name in [name for name, task in open_ones.items() if task in done]:
                    answers[name] = _said(open_ones.pop(name))
                if enough(answers):
                    soon = loop.time() + patience
                    until = soon if until is None else min(until, soon)
        except asyncio.CancelledError:
            for task in open_ones.values():
                task.cancel()
            raise
        for name, task in open_ones.items():
            self._overdue[name].add(task)
            task.add_done_callback(self._overdue[name].discard)
            task.add_done_callback(_ended)
        return answers


async def _answer(question: Callable[[], Awaitable[T]]) -> T:
    return await question()


def _said(task: asyncio.Task[T]) -> T | PacsError:
    try:
        return task.result()
    except PacsError as e:
        return e


def _ended(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()  # nobody waits for it any more


class Records:
    """What the PACS of a hospital say of a study."""

    def __init__(self, pacs: Sequence[Finder]) -> None:
        """Those that come first are preferred, where they answer."""
        self._pacs = pacs
        self._questions = Questions[StudyRecord | None]()

    async def find(self, study_instance_uid: str) -> StudyRecord | None:
        """What the first PACS that answers and has the study says of it; None where every one answered and none has
        it. Raises PacsError where none of those that answered has it and one could not be asked."""
        names = [str(n) for n in range(len(self._pacs))]
        questions = {
            name: partial(finder.find_study, study_instance_uid, urgency=background)
            for name, finder in zip(names, self._pacs, strict=True)
        }
        answers = await self._questions.ask(questions, enough=_has_a_record, patience=PATIENCE)
        for name in names:
            if isinstance(answer := answers.get(name), StudyRecord):
                return answer
        for name in names:
            if isinstance(answer := answers.get(name), PacsError):
                raise answer
        if len(answers) < len(names):
            raise PacsUnreachable("a PACS that was asked before has not answered yet")
        return None

    async def only_study_of(self, identifier: str) -> str | None:
        """The one study whose Patient ID, or else whose Accession Number, is *identifier*; None where there is none, or
        more than one. Every PACS has to answer, since each may have another: raises PacsError where one does not."""
        wanted = identifier.strip()
        if not wanted or _WILD.search(wanted):
            return None
        for key in ("patient_id", "accession_number"):
            answers = await asyncio.gather(*(finder.studies_of(**{key: wanted}) for finder in self._pacs))
            if found := {uid for studies in answers for uid in studies}:
                return found.pop() if len(found) == 1 else None
        return None


def _has_a_record(answers: Answers[StudyRecord | None]) -> bool:
    return any(isinstance(answer, StudyRecord) for answer in answers.values())
