"""Where a trace may be taken of what the gateway does (OpenTelemetry): each place is a span with a name, and with the
ids that are bound there (:mod:`gateway.runtime.log_ids`), which are never a patient's.

Who wants traces gives :func:`trace_by` what begins a span; until then a span costs a look at a variable, and no library
of traces is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from gateway.runtime import log_ids

BeginSpan = Callable[[str, Mapping[str, str]], AbstractContextManager[str]]
"""Begins a span of a name, about these ids; gives what the spans of what is begun in it have for a parent."""

_NOTHING: AbstractContextManager[None] = nullcontext()
_begin: BeginSpan | None = None


def trace_by(begin: BeginSpan | None) -> None:
    """From now on spans are begun by *begin*; None: there are none."""
    global _begin  # noqa: PLW0603  (a process has one trace of itself, as it has one log)
    _begin = begin


def span(name: str) -> AbstractContextManager[None]:
    """What is done inside is a span of *name*, where traces are wanted."""
    return _NOTHING if _begin is None or not name else _span(_begin, name)


@contextmanager
def _span(begin: BeginSpan, name: str) -> Iterator[None]:
    ids = log_ids.with_parent()
    with begin(name, ids) as parent:
        if log_ids.PARENT in ids:
            yield
        else:  # what is begun here goes on elsewhere: in tasks of the DICOM listener, in jobs, after a restart
            with log_ids.bound(**{log_ids.PARENT: parent}):
                yield
