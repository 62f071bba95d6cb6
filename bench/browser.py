"""What a radiologist waits for: a cold study over a slow link, drawn by cornerstone in headless Chromium."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bench.floors import push_floor
from bench.link import link
from bench.world import AE_TITLE, gateway
from gateway.demo import Orthanc, synthetic_ct
from tests.rig.npm import NotToBeHad
from tests.rig.viewer import viewer

ELLIPSES = (
    (1000, 0.72, 0.95, 0.0, 0.0, 0.0), (-600, 0.67, 0.89, 0.0, 0.02, 0.0), (-200, 0.12, 0.32, 0.22, 0.0, 0.3),
    (-200, 0.17, 0.42, -0.22, 0.0, -0.3), (150, 0.21, 0.25, 0.0, -0.38, 0.0), (250, 0.05, 0.05, 0.0, -0.1, 0.0),
    (250, 0.06, 0.03, 0.08, 0.62, 0.0), (200, 0.03, 0.06, -0.1, 0.6, 0.0),
)  # fmt: skip
"""Density, half axes, place and turn (radians) of each, after the phantom of Shepp and Logan."""

WITHIN = 300.0
"""Seconds."""


def phantom(side: int) -> bytes:
    """Pixels of something that one recognises: ellipses of several densities, as a CT of a head has them."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    pixels = np.zeros((side, side), "<i2")
    for density, width, height, across, down, turned in ELLIPSES:
        u = (x - across) * np.cos(turned) + (y - down) * np.sin(turned)
        v = (y - down) * np.cos(turned) - (x - across) * np.sin(turned)
        pixels[(u / width) ** 2 + (v / height) ** 2 <= 1] += density
    return pixels.tobytes()


async def seen(
    directory: Path, orthanc: Orthanc, cases: Sequence[tuple[float, int, int]], picture: Path
) -> dict[str, Any]:
    """For each (MB a second of the link, instances, pixels a side): seconds from the webhook, until the browser has
    drawn the first image and until it has read all. The last study's first image goes into *picture*."""
    found: dict[str, Any] = {}
    for megabytes, count, side in cases:
        study = f"1.2.826.11.{secrets.randbits(40)}"
        shown = phantom(side)
        objects = [i.content[: -len(shown)] + shown for i in synthetic_ct(study, count, side, side)]
        total = sum(map(len, objects)) / 1e6
        await orthanc.add(*objects)
        name = directory / f"browser-{megabytes}-{count}-{side}"
        name.mkdir(parents=True)
        async with AsyncExitStack() as stack:
            try:
                tab = await stack.enter_async_context(viewer(name))
            except NotToBeHad as e:
                return {"as a browser sees it": {"not measured": str(e)}}
            await tab.look(width=512, height=512)
            running = await stack.enter_async_context(gateway(name, orthanc, answer_within="10s", answer="listed"))
            port = await stack.enter_async_context(link(running.dicom_port, megabytes * 1e6))
            await orthanc.register(AE_TITLE, port)
            began = time.perf_counter()
            answer, _ = await running.ask(study)
            answered = time.perf_counter() - began
            read = await tab.run(f"read({json.dumps(answer['urls'])})", WITHIN)
            await tab.screenshot(picture)
        alone = await push_floor(study, count, orthanc, megabytes * 1e6)
        found[f"in a browser, cold, {count} × {total / count * 1000:.0f} KB over {megabytes:g} MB/s"] = {
            "answer s": answered,
            "first image drawn s": answered + read["first"],
            "all images read s": answered + read["all"],
            "PACS into a receiver that only answers s": alone,
        }
        shutil.rmtree(name, ignore_errors=True)
    return found
