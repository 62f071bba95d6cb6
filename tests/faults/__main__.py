"""``python -m tests.faults kills N``: N rounds of kill -9, and what they lost. Exit code 1 where anything was."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from .hospital import Hospital
from .kills import Tally, kill_rounds

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
                kept = Path("bench/out")
                kept.mkdir(parents=True, exist_ok=True)
                (kept / "gateway.log").write_bytes(hospital.gateway.log_file.read_bytes())
    for line in tally.broken:
        print(line)
    print("VERDICT:", "broken" if tally.broken else "every promise was kept")
    return 1 if tally.broken else 0


def main() -> int:
    match sys.argv[1:]:
        case ["kills", number]:
            return asyncio.run(_kills(int(number)))
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main())
