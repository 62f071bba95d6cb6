"""What is to be fetched before anybody asks for it, and what became of it: a queue that a crash does not empty.

One row is one study to fetch, or one study whose priors are to be looked for. What was done stays for a while, so that
a study which is seen again and has not grown is not fetched again, and so that what was of use can be told.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, delete, func, insert, select, update

from gateway.journal.tables import prefetches
from gateway.journal.transaction import Transaction

MOST_WAITING = 5000
"""Rows that wait, at most; past them what is least urgent, and has waited longest, is let go."""

LONGEST_PAUSE = 6 * 3600.0
"""Seconds. What is due later than that was written by a clock that ran ahead."""


class Task(enum.Enum):
    """What is to be done."""

    STUDY = "study"
    """The study is to be fetched."""
    PRIORS = "priors"
    """Earlier studies of its patient are to be looked for."""


class Cause(enum.Enum):
    """Why; in the order of urgency."""

    OPERATOR = "operator"
    ORDER = "order"
    PRIOR = "prior"
    PUSH = "push"
    POLL = "poll"


class PrefetchState(enum.Enum):
    """Where it stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    GIVEN_UP = "given up"
    OVERTAKEN = "overtaken"
    """Somebody opened it first."""


_OPEN = (PrefetchState.WAITING.value, PrefetchState.RUNNING.value)
_URGENCY = {cause.value: number for number, cause in enumerate(Cause)}


@dataclass(frozen=True, slots=True)
class Prefetch:
    """A row."""

    study_instance_uid: str
    task: Task
    pacs: str
    """Name of the PACS that has it."""
    cause: Cause
    rule: str
    """The rule by which it was chosen; empty where none was asked."""
    state: PrefetchState
    instances: int | None
    """As many as the PACS counted when it was seen last."""
    added: float
    """Unix seconds; so too the other times."""
    next_at: float
    attempts: int
    started: float | None
    ended: float | None
    size: int
    """Bytes that came."""
    opened: float | None
    reason: str
    """How it ended, or why it waits."""


def want(
    c: Transaction,
    study_instance_uid: str,
    task: Task,
    *,
    pacs: str,
    cause: Cause,
    rule: str = "",
    instances: int | None = None,
    after: float = 0.0,
) -> bool:
    """It is to be done, *after* so many seconds. False where it is on the list already, or was done, and the PACS does
    not count more *instances* since."""
    mine = _one(study_instance_uid, task)
    known = c.execute(select(prefetches).where(mine)).one_or_none()
    now = c.now
    if known is not None:
        grown = instances is not None and instances != known.instances
        asked = cause in (Cause.OPERATOR, Cause.ORDER)
        if known.state in _OPEN:
            if known.state == PrefetchState.WAITING.value and asked:
                c.execute(update(prefetches).where(mine).values(source=cause.value, pacs=pacs, next_at=now))
                return True
            if grown:  # it still comes into the PACS
                later = {"next_at": now + after} if known.state == PrefetchState.WAITING.value else {}
                c.execute(update(prefetches).where(mine).values(instances=instances, **later))
            return False
        if not grown and not asked:
            return False
    values = {
        "pacs": pacs, "source": cause.value, "rule": rule, "state": PrefetchState.WAITING.value, "added": now,
        "next_at": now + after, "attempts": 0, "started": None, "ended": None, "opened": None, "reason": "",
    } | ({} if known is not None and instances is None else {"instances": instances})  # fmt: skip
    if known is not None:  # what came of it before still counts
        c.execute(update(prefetches).where(mine).values(values))
    else:
        named = {"study_instance_uid": study_instance_uid, "task": task.value, "size": 0}
        c.execute(insert(prefetches).values(values | named))
    _keep_within(c)
    return True


def _keep_within(c: Transaction) -> None:
    waiting = prefetches.c.state == PrefetchState.WAITING.value
    if (over := c.execute(select(func.count()).where(waiting)).scalar_one() - MOST_WAITING) <= 0:
        return
    rows = c.execute(select(prefetches.c.study_instance_uid, prefetches.c.task, prefetches.c.source, prefetches.c.added)
                     .where(waiting)).all()  # fmt: skip
    for row in sorted(rows, key=lambda r: (-_URGENCY[r.source], r.added))[:over]:
        end(c, row.study_instance_uid, Task(row.task), PrefetchState.GIVEN_UP, "too much waits already")


def take(c: Transaction, pacs: str, *, causes: Collection[Cause] = tuple(Cause)) -> Prefetch | None:
    """The next that is due at a PACS, of one of these *causes*, which runs from now on; the most urgent, of these the
    latest."""
    mine = (prefetches.c.state == PrefetchState.WAITING.value) & (prefetches.c.pacs == pacs)
    mine &= prefetches.c.source.in_([cause.value for cause in causes])
    rows = c.execute(select(prefetches).where(mine, _due(c))).all()
    if not rows:
        return None
    row = min(rows, key=lambda r: (_URGENCY[r.source], r.task != Task.STUDY.value, -r.added))
    c.execute(
        update(prefetches)
        .where(_one(row.study_instance_uid, Task(row.task)))
        .values(state=PrefetchState.RUNNING.value, started=c.now, attempts=row.attempts + 1)
    )
    return get(c, row.study_instance_uid, Task(row.task))


def get(c: Transaction, study_instance_uid: str, task: Task = Task.STUDY) -> Prefetch | None:
    """One row; None where there is none."""
    row = c.execute(select(prefetches).where(_one(study_instance_uid, task))).one_or_none()
    return None if row is None else _prefetch(row)


def later(c: Transaction, study_instance_uid: str, task: Task, reason: str, *, after: float, counts: bool) -> None:
    """It goes on *after* so many seconds; whether that *counts* as an attempt."""
    mine = _one(study_instance_uid, task)
    values: dict[str, Any] = {"state": PrefetchState.WAITING.value, "next_at": c.now + after, "reason": reason}
    if not counts:
        values |= {"attempts": prefetches.c.attempts - 1, "started": None}
    c.execute(update(prefetches).where(mine).values(values))


def end(
    c: Transaction, study_instance_uid: str, task: Task, state: PrefetchState, reason: str, *, size: int = 0
) -> None:
    """It is over; *size* are the bytes that came."""
    values = {"state": state.value, "ended": c.now, "reason": reason, "size": prefetches.c.size + size}
    c.execute(update(prefetches).where(_one(study_instance_uid, task)).values(values))


def came(c: Transaction, study_instance_uid: str, size: int) -> None:
    """So many bytes of it came, and it is not over."""
    mine = _one(study_instance_uid, Task.STUDY)
    c.execute(update(prefetches).where(mine).values(size=prefetches.c.size + size))


def release(c: Transaction) -> None:
    """What ran when the gateway was killed is to be done."""
    running = prefetches.c.state == PrefetchState.RUNNING.value
    c.execute(update(prefetches).where(running).values(state=PrefetchState.WAITING.value, next_at=c.now))


def opened(c: Transaction, study_instance_uid: str) -> None:
    """An answer with URLs of the study leaves. Whoever came before its prefetch ended has overtaken it."""
    mine = _one(study_instance_uid, Task.STUDY)
    done = prefetches.c.state == PrefetchState.DONE.value
    c.execute(update(prefetches).where(mine, done, prefetches.c.opened.is_(None)).values(opened=c.now))
    over = {"state": PrefetchState.OVERTAKEN.value, "ended": c.now, "opened": c.now, "reason": "somebody opened it"}
    c.execute(update(prefetches).where(mine, prefetches.c.state == PrefetchState.WAITING.value).values(over))


def size_since(c: Transaction, at: float) -> int:
    """Bytes that were prefetched since *at* (unix seconds)."""
    wanted = select(func.coalesce(func.sum(prefetches.c.size), 0)).where(
        func.coalesce(prefetches.c.ended, prefetches.c.started, prefetches.c.added) > at
    )
    return int(c.execute(wanted).scalar_one())


def started_since(c: Transaction, pacs: str, at: float) -> int:
    """Studies whose prefetch from a PACS began since *at* (unix seconds)."""
    mine = (prefetches.c.pacs == pacs) & (prefetches.c.task == Task.STUDY.value)
    return int(c.execute(select(func.count()).where(mine, prefetches.c.started > at)).scalar_one())


def listed(c: Transaction, limit: int) -> list[Prefetch]:
    """Those that run and wait, and then the latest that are over, *limit* in all."""
    wanted = select(prefetches).order_by(
        prefetches.c.state != PrefetchState.RUNNING.value,
        prefetches.c.state != PrefetchState.WAITING.value,
        func.coalesce(prefetches.c.ended, prefetches.c.added).desc(),
    )
    return [_prefetch(row) for row in c.execute(wanted.limit(limit))]


def counts(c: Transaction) -> dict[str, int]:
    """How many studies there are, by where they stand; of those that are done, ``opened`` are those of use since."""
    study = prefetches.c.task == Task.STUDY.value
    by_state = select(prefetches.c.state, func.count().label("number")).where(study).group_by(prefetches.c.state)
    found = {state.value: 0 for state in PrefetchState} | {row.state: row.number for row in c.execute(by_state)}
    return found | {"opened": int(c.execute(select(func.count()).where(_of_use())).scalar_one())}


def waiting(c: Transaction) -> dict[str, tuple[int, int]]:
    """By the PACS that has them: how many studies could begin now, and how many are to wait for longer, since they are
    new or failed."""
    due = func.sum(case((_due(c), 1), else_=0))
    mine = (prefetches.c.task == Task.STUDY.value) & (prefetches.c.state == PrefetchState.WAITING.value)
    rows = c.execute(select(prefetches.c.pacs, func.count().label("number"), due.label("due"))
                     .where(mine).group_by(prefetches.c.pacs))  # fmt: skip
    return {row.pacs: (row.due, row.number - row.due) for row in rows}


def warm_since(c: Transaction, at: float) -> int:
    """Studies that were first opened since *at* (unix seconds), and were warm thanks to prefetch."""
    return int(c.execute(select(func.count()).where(_of_use(), prefetches.c.opened >= at)).scalar_one())


def forget(c: Transaction, before: float) -> None:
    """What was over *before* that (unix seconds) counts as new where it is seen again."""
    c.execute(delete(prefetches).where(prefetches.c.ended < before))


def _one(study_instance_uid: str, task: Task) -> Any:
    return (prefetches.c.study_instance_uid == study_instance_uid) & (prefetches.c.task == task.value)


def _due(c: Transaction) -> Any:
    return (prefetches.c.next_at <= c.now) | (prefetches.c.next_at > c.now + LONGEST_PAUSE)


def _of_use() -> Any:
    """Fetched ahead as a study, and opened since."""
    mine = (prefetches.c.task == Task.STUDY.value) & (prefetches.c.state == PrefetchState.DONE.value)
    return mine & prefetches.c.opened.is_not(None) & (prefetches.c.size > 0)


def _prefetch(row: Any) -> Prefetch:
    return Prefetch(
        row.study_instance_uid, Task(row.task), row.pacs, Cause(row.source), row.rule, PrefetchState(row.state),
        row.instances, row.added, row.next_at, row.attempts, row.started, row.ended, row.size, row.opened, row.reason,
    )  # fmt: skip
