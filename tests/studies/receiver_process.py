"""A Storage SCP with the intake behind it and a store that never takes anything, in a process of its own.

For test_memory.py: prints its port, then, for each line that it is sent, what it is resident in at most (MB).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.pacs.scp.server import StorageScp
from gateway.runtime.clock import SYSTEM_CLOCK
from gateway.runtime.spools import Spools
from gateway.studies.flight import Flight
from gateway.studies.intake import Intake
from gateway.studies.refusals import Refusals


class StalledStore:
    async def put(self, key, parts, *, content_type):
        await asyncio.sleep(3600)

    async def put_stream(self, key, size, chunks, *, content_type):
        await asyncio.sleep(3600)


class Cache:
    async def reserve(self, study_instance_uid, size, *, for_nobody=False):
        pass


async def main():
    intake = Intake(
        StalledStore(),
        Cache(),
        Refusals(SYSTEM_CLOCK),
        open_for_push=lambda uid, ae: None,
        pacs_at=lambda ae, host: ["main"],
    )
    for study in sys.argv[2:]:
        flight = Flight(study)
        flight.sources = frozenset({"main"})
        intake.expect(flight)
    scp = StorageScp(
        ae_title="US",
        host="127.0.0.1",
        port=0,
        handler=intake,
        allows=lambda ae, host: True,
        spools=Spools(Path(sys.argv[1])),
    )
    await scp.start()
    print(scp.port, flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) // 1000, flush=True)


asyncio.run(main())
