"""Conditional requests and ranges (RFC 9110 §13 and §14), as a function of what was asked and what there is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CONDITIONS = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")

_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE | re.ASCII)
"""Of one range."""

_BEYOND = 10**18
"""Bytes, which no object has; a number of 5,000 digits is no larger to us, and Python refuses to read it."""

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


@dataclass(frozen=True, slots=True)
class Content:
    """What there is."""

    size: int
    etag: str
    """With its quotes."""
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a request is to be answered; for 200 and 206 with the bytes from *start* to before *end*."""

    status: int
    start: int = 0
    end: int = 0


def judge(method: str, headers: Mapping[str, str], content: Content) -> Verdict:
    """In the order of RFC 9110 §13.2.2."""
    if (match := headers.get("If-Match")) is not None:
        if not _names(match, content.etag, weakly=False):
            return Verdict(412)
    elif (since := _date(headers, "If-Unmodified-Since")) and content.modified and content.modified > since:
        return Verdict(412)
    if (match := headers.get("If-None-Match")) is not None:
        if _names(match, content.etag, weakly=True):
            return Verdict(304)
    elif (since := _date(headers, "If-Modified-Since")) and content.modified and content.modified <= since:
        return Verdict(304)
    if method != "GET" or not _range_holds(headers, content):  # §14.2: no other method has ranges
        return Verdict(200, 0, content.size)
    return judge_range(headers.get("Range", ""), content.size)


def judge_range(header: str, size: int) -> Verdict:
    """Several ranges, or what is none, mean the whole, as S3 has it and RFC 9110 §14.2 allows."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return Verdict(200, 0, size)
    if match[1] == "":
        start, end = max(size - _number(match[2]), 0), size
    else:
        start, last = _number(match[1]), _number(match[2]) if match[2] else _BEYOND
        if last < start:
            return Verdict(200, 0, size)  # §14.1.1: an invalid one, which is no range
        end = min(last + 1, size)
    return Verdict(206, start, end) if start < end else Verdict(416)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else _BEYOND


def _range_holds(headers: Mapping[str, str], content: Content) -> bool:
    """Whether ``If-Range`` lets the range apply (§13.1.5): only where it names this very content."""
    condition = headers.get("If-Range")
    if condition is None:
        return True
    if condition.lstrip().startswith(('"', "W/")):  # one tag, and no list
        return _TAG.fullmatch(condition.strip()) is not None and _names(condition, content.etag, weakly=False)
    date = _date(headers, "If-Range")
    return date is not None and date == content.modified


def _names(header: str, etag: str, *, weakly: bool) -> bool:
    if header.strip() == "*":
        return True
    weak, opaque = etag.startswith("W/"), etag.removeprefix("W/")
    return any((weakly or not (weak or found[1])) and found[2] == opaque for found in _TAG.finditer(header))


def _date(headers: Mapping[str, str], name: str) -> datetime | None:
    """None where it is none: then the condition is to be ignored (§13.1.3, §13.1.4)."""
    try:
        moment = parsedate_to_datetime(headers.get(name, ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
