"""What a reader waits for: the answer, the first slice, all slices, from a cold cache and over a slow link."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from bench.floors import push_floor
from bench.link import link
from bench.world import AE_TITLE, gateway
from gateway.demo import Orthanc, synthetic_ct

CONNECTIONS = 6
"""That a browser has to a host (HTTP/1.1)."""


async def slices(directory: Path, orthanc: Orthanc, cases: Sequence[tuple[float | None, int, int]]) -> dict[str, Any]:
    """For each (MB a second or None for no limit, instances, pixels a side): seconds from the webhook."""
    found: dict[str, Any] = {}
    for megabytes, count, side in cases:
        study = f"1.2.826.9.{secrets.randbits(40)}"
        objects = [i.content for i in synthetic_ct(study, count, side, side)]
        total = sum(map(len, objects)) / 1e6
        await orthanc.add(*objects)
        name = directory / f"slices-{megabytes}-{count}-{side}"
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(gateway(name, orthanc, answer_within="10s", answer="listed"))
            if megabytes is not None:
                port = await stack.enter_async_context(link(running.dicom_port, megabytes * 1e6))
                await orthanc.register(AE_TITLE, port)
            began = time.perf_counter()
            answer, answered = await running.ask(study)
            first, last = await opened(answer["urls"], began)
        alone = await push_floor(study, count, orthanc, None if megabytes is None else megabytes * 1e6)
        over = f"{megabytes:g} MB/s" if megabytes is not None else "no limit"
        found[f"cold, {count} × {total / count * 1000:.0f} KB over {over}"] = {
            "answer s": answered,
            "URLs": len(answer["urls"]),
            "deferred": sum("/deferred/" in url for url in answer["urls"]),
            "first slice s": first,
            "all slices s": last,
            "PACS into a receiver that only answers s": alone,
            "times that": last / alone,
        }
        shutil.rmtree(name, ignore_errors=True)
    return found


async def opened(urls: Sequence[str], began: float) -> tuple[float, float]:
    """Seconds since *began* until the first URL, and until all of them, were read, six at a time in their order."""
    waiting, first = list(reversed(list(enumerate(urls)))), 0.0
    connector = aiohttp.TCPConnector(limit_per_host=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as http:

        async def browse() -> None:
            nonlocal first
            while waiting:
                n, url = waiting.pop()
                async with http.get(url) as answer:
                    assert answer.status == 200, (answer.status, await answer.text())
                    await answer.read()
                if n == 0:
                    first = time.perf_counter() - began

        await asyncio.gather(*(browse() for _ in range(CONNECTIONS)))
    return first, time.perf_counter() - began
