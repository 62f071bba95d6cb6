"""Entries and what binds them: each names the hash of the one before it, so that none can be altered, removed or put in
between without all that follow being made anew.

What it cannot show is an end that was cut off, or a chain that was made anew as a whole. So the gateway tells the hash
of the latest entry to its log, which a hospital sends elsewhere, and ``audit verify`` compares the trail with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

NOTHING_BEFORE = "0" * 64
"""Stands for the hash of the entry before the first."""

PURGED, TORN = "purged", "torn"
"""Entries on the trail itself: older files were removed; the line before was half written when its writer died."""

MAX_VALUE = 512
"""Characters of a value: much of it is whatever somebody sent."""

MOST_PROBLEMS = 20

_json = json.JSONEncoder(separators=(",", ":")).encode

_HASH = ',"hash":"'
_TAIL = len(_HASH) + 64 + len('"}')


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened."""

    at: float
    """Unix seconds."""
    what: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Identifiers, addresses, outcomes; never a patient's name."""


@dataclass(frozen=True, slots=True)
class Head:
    """The latest entry."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


BEGINNING = Head(0, NOTHING_BEFORE)


def written(entry: Entry, before: Head) -> tuple[bytes, Head]:
    """The line of *entry*, which comes after *before*, and what is the head with it."""
    number = before.number + 1
    at = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
    values = {name: _bounded(value) for name, value in entry.fields.items() if value not in (None, "")}
    said = _json({"n": number, "at": at, "what": entry.what, **values, "before": before.hash})
    digest = hashlib.sha256(said.encode()).hexdigest()
    return f'{said[:-1]}{_HASH}{digest}"}}\n'.encode(), Head(number, digest)


def _bounded(value: Any) -> Any:
    return value[:MAX_VALUE] if isinstance(value, str) else value


def read(line: bytes) -> tuple[dict[str, Any], Head] | None:
    """An entry as it is in its *line*, and the head that it makes; None where it is not what was written."""
    text = line.rstrip(b"\n").decode("ascii", "replace")
    said, told = text[:-_TAIL] + "}", text[-66:-2]
    if text[-_TAIL:] != f'{_HASH}{told}"}}' or hashlib.sha256(said.encode()).hexdigest() != told:
        return None
    values = json.loads(said)
    return values, Head(values["n"], told)


@dataclass(slots=True)
class Verdict:
    """What is to be said of a trail."""

    entries: int = 0
    first: str = ""
    last: str = ""
    """Times of the first and the last entry."""
    head: Head = BEGINNING
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """One more problem."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def verify(lines: Iterable[tuple[str, bytes]], *, known: Head | None = None) -> Verdict:
    """Whether the entries in *lines*, each with where it is, are what was written, all of it and in order; and, where
    an earlier head is *known*, whether it is among them."""
    verdict = Verdict()
    begins_after: Head | None = None
    unreadable = ""
    purged: set[Head] = set()
    heads: set[Head] = set()
    for where, line in lines:
        found = read(line)
        if found is None:
            if unreadable:
                verdict.add(f"{unreadable}: this line was altered, or put there")
            unreadable = where
            continue
        values, head = found
        before = Head(head.number - 1, values["before"])
        if unreadable and values["what"] != TORN:
            verdict.add(f"{unreadable}: this line was altered, or put there")
        unreadable = ""
        if begins_after is None:
            begins_after, verdict.first = before, values["at"]
        elif before != verdict.head:
            verdict.add(
                f"{where}: entry {head.number} does not follow entry {verdict.head.number}: entries were removed"
            )
        if values["what"] == PURGED:
            purged.add(Head(values["through"], values["hash_of_that"]))
        if known is not None:
            heads.add(head)
        verdict.entries, verdict.last, verdict.head = verdict.entries + 1, values["at"], head
    if unreadable:
        verdict.add(f"{unreadable}: this line is not whole: was the gateway killed in the midst of it?")
    if begins_after not in (None, BEGINNING) and begins_after not in purged:
        verdict.add(f"it begins after entry {begins_after.number}, which nothing says was removed by the gateway")
    if known is not None and known not in heads and known not in purged:
        verdict.add(f"entry {known.number} with this hash is not in it: the trail was cut off, or made anew")
    return verdict
