"""Values as people write them: durations, sizes, AE titles."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS_OF_TIME = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS_OF_SIZE = {"": 1, "B": 1} | {
    f"{prefix}{kind}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for kind, base in (("", 1000), ("B", 1000), ("iB", 1024), ("i", 1024))
}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_duration(value: Any) -> float:
    """Seconds in ``10s``, ``1h30m``, ``250ms`` or a plain number of seconds. Raises ValueError."""
    text = str(value).strip().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in _DURATION_PART.findall(text))
    else:
        raise ValueError(_NO_DURATION)
    if not 0 <= seconds < 1e9:
        raise ValueError(_NO_DURATION)
    return seconds


def parse_size(value: Any) -> int:
    """Bytes in ``200GB``, ``512MiB`` or a plain number of bytes; GB are 10⁹, GiB 2³⁰. Raises ValueError."""
    match = _SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    unit = {name.lower(): factor for name, factor in _UNITS_OF_SIZE.items()}.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError("not a size: write it like 200GB, 512MiB or 1048576 (bytes)")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def show_duration(seconds: float) -> str:
    """As :func:`parse_duration` reads it."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:.0f}{unit}"
    return f"{seconds!r}s".replace(".0s", "s")


def show_size(size: int) -> str:
    """As :func:`parse_size` reads it."""
    for base, ending in ((1000, "B"), (1024, "iB")):
        for power in (4, 3, 2, 1):
            if size and size % base**power == 0:
                return f"{size // base**power}{'KMGT'[power - 1]}{ending}"
    return str(size)


class SecretPathUrl(str):
    """A URL of which the path is the permission, as those of chat services are: shown without it."""

    __slots__ = ()

    def shown(self) -> str:
        """Where it leads, and nothing more."""
        parts = urlsplit(self)
        host = parts.netloc.rpartition("@")[2]
        return (
            f"{parts.scheme}://{host}/********" if parts.path.strip("/") or parts.query else f"{parts.scheme}://{host}"
        )


def _ae_title(value: str) -> str:
    title = value.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("not an AE title: 1 to 16 ASCII characters without backslash (PS3.5 §6.2, AE)")
    return title


_NO_DURATION = "not a duration: write it like 10s, 1h30m, 250ms or 90 (seconds)"

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(show_duration, return_type=str),
    WithJsonSchema({"type": ["string", "number"], "description": "a duration: 10s, 1h30m, 250ms, or seconds"}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(show_size, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "description": "a size: 200GB, 512MiB, or bytes"}),
]
AETitle = Annotated[str, AfterValidator(_ae_title)]
