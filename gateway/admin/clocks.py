"""Our clock against those of others, by the Date of their answers (RFC 9110 §6.6.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import aiohttp

from gateway.admin.results import Result
from gateway.runtime import SYSTEM_CLOCK
from gateway.web import Outbound

WITHIN = 5.0
"""Seconds for each to answer."""

CLOCK_OFF = 60.0
"""Seconds by which a clock may differ before it is told; webhooks bear 300, S3 900."""


async def compared(peers: Mapping[str, str], way: Outbound) -> list[Result]:
    """How far the clocks of *peers* are from ours; their URLs, by what they are. Nothing but the root is asked for, and
    nothing of ours is shown; who does not answer is left out, since other checks tell of it."""
    timeout = aiohttp.ClientTimeout(total=WITHIN)
    # A certificate that is not valid yet, by a clock that is off, must not hide that.
    async with aiohttp.ClientSession(
        timeout=timeout, trust_env=False, connector=aiohttp.TCPConnector(ssl=False)
    ) as http:
        offs = await asyncio.gather(*(_off(http, url, way) for url in peers.values()))
    known = {name: off for name, off in zip(peers, offs, strict=True) if off is not None}
    found = [
        Result(f"clock against {name}", False, f"it is {off:+.0f} s off ours: set both by NTP (timedatectl)")
        for name, off in known.items()
        if abs(off) >= CLOCK_OFF
    ]
    if found or not known:
        return found
    return [Result("clock against others", True, f"{', '.join(known)}: {max(map(abs, known.values())):.0f} s apart")]


async def _off(http: aiohttp.ClientSession, url: str, way: Outbound) -> float | None:
    try:
        async with http.head(url, allow_redirects=False, **way.way(url)) as answer:
            return off(answer.headers)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


def off(headers: Mapping[str, str]) -> float | None:
    """Seconds by which the clock of whoever answered is ahead of ours; None where the answer does not say."""
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp() - SYSTEM_CLOCK.now()
    except (ValueError, TypeError):
        return None
