"""Values as the page words them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gateway.runtime import SYSTEM_CLOCK


def moment(at: float | None) -> str:
    """A moment (unix seconds), in this machine's time: of today, the time alone."""
    if at is None:
        return "never"
    then = datetime.fromtimestamp(at).astimezone()
    return f"{then:%H:%M:%S}" if then.date() == datetime.now().astimezone().date() else f"{then:%Y-%m-%d %H:%M}"


def exactly(at: float | None) -> str:
    """A moment for machines (ISO 8601)."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def ago(at: float | None) -> str:
    """How long ago it was, or how long it is yet."""
    if at is None:
        return "never"
    seconds = SYSTEM_CLOCK.now() - at
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """A length of time, in its two largest units at most."""
    for unit, size, less, lesser in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= size:
            rest = int(seconds % size // lesser)
            return f"{seconds // size:.0f} {unit}" + (f" {rest} {less}" if rest else "")
    return f"{seconds // 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def megabytes(size: float | None) -> str:
    """Megabytes, or what is easier to read."""
    if size is None:
        return "–"
    return f"{size / 1000:.1f} GB" if size >= 1000 else f"{size:.1f} MB" if size >= 0.1 else f"{size * 1000:.0f} kB"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": moment, "exactly": exactly, "ago": ago, "span": span, "megabytes": megabytes,
}  # fmt: skip
