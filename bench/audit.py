"""What the audit trail costs a warm answer: two gateways, one with it and one without, are asked in turn.

What counts is the CPU time of their processes, all threads together and to the nanosecond, as the kernel has it: the
one who asks is not in it, and what the machine does meanwhile hits both alike.
"""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path
from typing import Any

from bench.world import gateway_of
from gateway.demo import Orthanc, synthetic_ct

STUDY, INSTANCES = "1.2.826.15", 60

AT_ONCE = (20, 1)
"""Answers in a row, of which the trail makes one write where they come within half a second."""

PAUSE = 0.6
"""Seconds after them, in which the trail is written (``WRITES_EVERY`` in ``gateway/audit/trail.py``)."""


async def audit(directory: Path, orthanc: Orthanc, rounds: int) -> dict[str, Any]:
    """CPU time of an answer with the trail and without, by how many came together."""
    await orthanc.add(*(i.content for i in synthetic_ct(STUDY, INSTANCES, 64, 64)))
    pacs = {"name": "pacs", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom_port}
    avara = {"answer": "complete", "answer_within": "60s"}
    found: dict[str, Any] = {}
    async with (
        gateway_of(directory / "trail", pacs, avara=avara) as kept,
        gateway_of(directory / "none", pacs, avara=avara, audit={"enabled": False}) as none,
    ):
        for gateway in (kept, none):
            await orthanc.register("AVARAGW", gateway.dicom_port)
            for _ in range(30):  # the first are cold
                answer, _ = await gateway.ask(STUDY)
            assert len(answer["urls"]) == INSTANCES, answer.get("error")
        for together in AT_ONCE:
            took: dict[int, list[float]] = {kept.pid: [], none.pid: []}
            for n in range(rounds):
                for gateway in (kept, none) if n % 2 else (none, kept):
                    before = cpu(gateway.pid)
                    for _ in range(together):
                        await gateway.ask(STUDY)
                    await asyncio.sleep(PAUSE)
                    took[gateway.pid].append((cpu(gateway.pid) - before) / together)
            on, off = (statistics.median(took[g.pid]) * 1000 for g in (kept, none))
            differences = [a - b for a, b in zip(took[kept.pid], took[none.pid], strict=True)]
            found[f"audit, {together} together"] = {
                "CPU ms an answer, with the trail": on,
                "without": off,
                "ratio": on / off,
                "median of the differences, ms": statistics.median(differences) * 1000,
                "rounds": rounds,
            }
    return found


def cpu(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
