"""What a log line is about: ids that are bound once, where an event, a fetch, an association or a job begins, and that
every line below carries, however deep it is told. Ids only: never a patient's name, number or date.

A task that is begun takes over what is bound where it is begun, so a fetch carries the webhook that asked for it. A job
keeps it (:func:`begun_by`), and binds it again whenever it runs.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar

ORDER = ("webhook", "event", "study", "association", "job")
"""In which they are shown: from what was asked for to what is done about it."""

BEGINNINGS = ("webhook", "event")
"""Of these, what all the rest follows from."""

PARENT = "traceparent"
"""A trace and a span of it (W3C Trace Context); bound where traces are taken, and never shown in the log."""

_bound: ContextVar[Mapping[str, str]] = ContextVar("log_ids", default={})  # noqa: B039  (never changed in place)

_associations = itertools.count(1)


def bind(**ids: object) -> None:
    """What this task tells from now on is about these, too."""
    _bound.set({**_bound.get(), **{name: str(value) for name, value in ids.items()}})


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """As :func:`bind`, for a while."""
    token = _bound.set({**_bound.get(), **{name: str(value) for name, value in ids.items()}})
    try:
        yield
    finally:
        with suppress(ValueError):  # ended by another task than began it: there is nothing to set back there
            _bound.reset(token)


def current() -> dict[str, str]:
    """What is bound here, in :data:`ORDER`, each in one printable word."""
    ids = _bound.get()
    return {name: _shown(ids[name]) for name in (*ORDER, *(ids.keys() - {*ORDER, PARENT})) if name in ids}


def with_parent() -> Mapping[str, str]:
    """What is bound here, and :data:`PARENT` with it."""
    return _bound.get()


def begun_by() -> dict[str, str]:
    """The webhook and the event that are bound here, as they came: for what goes on beyond this task."""
    ids = _bound.get()
    return {name: ids[name] for name in (*BEGINNINGS, PARENT) if name in ids}


def next_association() -> int:
    """A number for an association, ours or a PACS's, that no other one of this process has."""
    return next(_associations)


@contextmanager
def step(log: logging.Logger, what: str, *details: object) -> Iterator[None]:
    """Tells at DEBUG that a step begins, and how long it took; *what* is a format of the *details*, as in logging."""
    if not log.isEnabledFor(logging.DEBUG):
        yield
        return
    told = what % details if details else what
    log.debug("%s: begins", told, stacklevel=3)
    began = time.monotonic()
    try:
        yield
    except BaseException as e:
        log.debug("%s: %s after %.0f ms", told, type(e).__name__, (time.monotonic() - began) * 1e3, stacklevel=3)
        raise
    log.debug("%s: took %.0f ms", told, (time.monotonic() - began) * 1e3, stacklevel=3)


def _shown(text: str) -> str:
    return text if text.isprintable() and " " not in text else repr(text)
