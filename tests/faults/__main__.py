"""What takes longer than a test may. Exit code 1 where a promise was broken.

python -m tests.faults kills N              N rounds of kill -9
python -m tests.faults soak MINUTES [TIMES] mixed load, TIMES (3) a large hospital's, with every fault again and again
python -m tests.faults load MINUTES [TIMES] the same load, and nothing fails
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from .faults import FAULTS
from .hospital import Hospital
from .kills import Tally, kill_rounds
from .soak import Record, Soak, verdict, write

BATCH = 10


async def _kills(rounds: int) -> int:
    tally, began = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as directory:
        async with Hospital(Path(directory)) as hospital:
            await hospital.gateway.start()
            while sum(tally.rounds.values()) < rounds and not tally.broken:
                left = rounds - sum(tally.rounds.values())
                await kill_rounds(hospital, min(BATCH, left), tally=tally)
                print(
                    f"{sum(tally.rounds.values())} rounds {dict(tally.rounds)}: {tally.captures} captures and "
                    f"{tally.reports} reports acknowledged, {len(tally.broken)} promises broken, "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )
            if tally.broken:
                _keep(hospital)
    for line in tally.broken:
        print(line)
    print("VERDICT:", "broken" if tally.broken else "every promise was kept")
    return 1 if tally.broken else 0


async def _soak(minutes: float, times: float, *, with_faults: bool) -> int:
    record, seed = Record(), time.time_ns() % 10_000
    print(f"seed {seed}", flush=True)
    stores = ("embedded", "relayed") if with_faults else ("embedded",)
    for store in stores:
        faults = [f for f in FAULTS if f.needs in ("", store)] if with_faults else []
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as directory:
            async with Hospital(Path(directory), relayed_store=store == "relayed") as hospital:
                await hospital.gateway.start()
                soak = Soak(hospital, record, times=times, faults=faults, seed=seed)
                await soak.run(minutes * 60 / len(stores))
                if record.bad:
                    _keep(hospital)
                    break
    drawn = write(record, "soak" if with_faults else "load")
    print(json.dumps(verdict(record), indent=2))
    print(f"VERDICT: {'broken' if record.bad else 'every promise was kept'}; drawn in {drawn}")
    return 1 if record.bad else 0


def _keep(hospital: Hospital) -> None:
    kept = Path("bench/out")
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "gateway.log").write_bytes(hospital.gateway.log_file.read_bytes())


def main() -> int:
    match sys.argv[1:]:
        case ["soak" | "load" as what, minutes, *times]:
            return asyncio.run(_soak(float(minutes), float(times[0]) if times else 3.0, with_faults=what == "soak"))
        case ["kills", number]:
            return asyncio.run(_kills(int(number)))
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main())
