"""What the store says of an object, and an object that is being read."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says of an object."""

    key: str
    size: int
    etag: str
    last_modified: datetime | None
    content_type: str = ""
    """Empty where it was listed only."""


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object whose bytes are coming."""

    info: ObjectInfo
    chunks: AsyncIterator[bytes]
    """Raises StoreError."""


def info_of(key: str, answer: aiohttp.ClientResponse) -> ObjectInfo:
    """What the headers of *answer* say of an object. Raises aiohttp.ClientPayloadError where they lack its size."""
    headers = answer.headers
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    if not size.isdecimal():
        raise aiohttp.ClientPayloadError("an answer that does not say the object's size")
    return ObjectInfo(
        key,
        int(size),
        headers.get("ETag", ""),
        _moment(headers.get("Last-Modified", "")),
        headers.get("Content-Type", ""),
    )


@functools.lru_cache(maxsize=256)
def _moment(text: str) -> datetime | None:
    """Kept, since the instances of a study were stored in the same few seconds."""
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
