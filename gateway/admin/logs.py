"""The log: one line an event, for people or for machines, and never patient data at INFO or above.

What repeats is told so often a minute and then counted: a thousand connections that are refused are two numbers for
whoever reads, and 243 MB for the disk (measured, in half a minute).
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from gateway.runtime import log_ids
from gateway.runtime import printable as runtime_printable

LINES = 60
"""Lines of one kind in a :data:`PERIOD`; what comes on top is counted."""

TRACEBACKS = 5
"""Tracebacks of one kind in a :data:`PERIOD`; the lines come without them then."""

ALL_TRACEBACKS = 50
"""Tracebacks in a :data:`PERIOD`, of whatever kind."""

PERIOD = 60.0
"""Seconds."""

KINDS = 1000
"""Kinds of lines that are kept apart."""

TELLS_EVERY = 5.0
"""Seconds between two looks for what was left out and is to be told."""


@dataclass(slots=True)
class _Seen:
    began: float
    example: logging.LogRecord
    lines: int = 0
    tracebacks: int = 0


class Repeats:
    """Counts lines by their kind: who tells them, how loud, and what they say but for their details."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[object, ...], _Seen] = OrderedDict()
        self._tracebacks = 0
        self._tracebacks_since = float("-inf")

    def admits(self, record: logging.LogRecord) -> tuple[bool, bool]:
        """Whether a line is to be told, and whether with its traceback."""
        now = self._clock()
        kind = (record.name, record.levelno, str(record.msg).partition("\n")[0][:200], _error(record))
        seen = self._seen.get(kind)
        if seen is None:
            seen = self._seen[kind] = _Seen(now, record)
        seen.lines += 1
        if seen.lines > LINES and record.levelno > logging.DEBUG:
            return False, False
        if now - self._tracebacks_since >= PERIOD:
            self._tracebacks, self._tracebacks_since = 0, now
        whole = bool(record.exc_info) and seen.tracebacks < TRACEBACKS and self._tracebacks < ALL_TRACEBACKS
        seen.tracebacks += whole
        self._tracebacks += whole
        return True, whole

    def left_out(self, *, over: bool = False) -> Iterator[logging.LogRecord]:
        """A line for each kind of which some were left out in the last period; *over*: in this one, too."""
        while self._seen:
            kind, seen = next(iter(self._seen.items()))
            if not over and self._clock() - seen.began < PERIOD and len(self._seen) <= KINDS:
                return
            del self._seen[kind]
            more = seen.lines - LINES
            if more > 0 and seen.example.levelno > logging.DEBUG:
                yield _summary(seen.example, more)


def _error(record: logging.LogRecord) -> str:
    return record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""


def _summary(example: logging.LogRecord, more: int) -> logging.LogRecord:
    record = copy.copy(example)
    record.created = time.time()
    record.exc_info = record.exc_text = None
    first = example.getMessage().partition("\n")[0][:200]
    record.msg, record.args = "… %d more like this in the last minute: %s", (more, first)
    record.__dict__["ids"] = {}
    return record


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error, and keeps what repeats short."""

    def __init__(self, repeats: Repeats | None = None) -> None:
        super().__init__()
        self._repeats = repeats or Repeats()

    def handle(self, record: logging.LogRecord) -> bool:
        """Writes a line, or counts it."""
        self.acquire()
        try:
            self.tell_left_out()
            told, whole = self._repeats.admits(record)
            if told:
                if record.exc_info and not whole:
                    record = copy.copy(record)
                    record.exc_info = record.exc_text = None
                self.emit(record)
        finally:
            self.release()
        return told

    def tell_left_out(self, *, over: bool = False) -> None:
        """Writes what was counted and not told."""
        for record in self._repeats.left_out(over=over):
            self.emit(record)

    async def run(self) -> None:
        """Until it is cancelled: tells what was left out also where nothing more comes."""
        while True:
            self.tell_left_out()
            await asyncio.sleep(TELLS_EVERY)

    def close(self) -> None:
        """The end: what was left out is told."""
        self.tell_left_out(over=True)
        super().close()


def _ids(record: logging.LogRecord) -> dict[str, str]:
    ids: dict[str, str] = record.__dict__.get("ids", log_ids.current())
    return ids


class TextFormatter(logging.Formatter):
    """A line for people, with what it is about at its end. A line is one event, whatever is in it; the lines of a
    traceback are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        """The line, without a traceback."""
        line = runtime_printable.printable(super().formatMessage(record))
        ids = _ids(record)
        return f"{line} [{' '.join(f'{name}={value}' for name, value in ids.items())}]" if ids else line

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's own name)
        """A traceback, of which no line looks like an event."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  (logging's own name)
        """A stack, likewise."""
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(f"    {runtime_printable.printable(line)}" for line in lines.splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str, form: str) -> LogHandler:
    """Sends the log to standard error; its handler."""
    handler = LogHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries that tell at INFO what only their own developers ask for.
    for name in ("alembic", "aiohttp", "asyncio", "urllib3", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # pydicom tells of an odd value by quoting it, and values are patient data.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
    return handler
