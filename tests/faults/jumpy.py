"""Runs a gateway whose wall clock is as many seconds ahead as a file says: ``python -m tests.faults.jumpy CONFIG FILE``.

The monotonic clock, and with it every wait, stays as it is: that is what a machine's clock does when it is set.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path


def main() -> None:
    clock, wall = Path(sys.argv[2]), time.time
    ahead, looked = 0.0, float("-inf")

    def jumps() -> float:
        nonlocal ahead, looked
        if time.monotonic() - looked > 0.2:
            ahead, looked = float(clock.read_text()), time.monotonic()
        return wall() + ahead

    time.time = jumps
    # After the clock is set: nothing may hold the machine's own.
    from gateway import app
    from gateway.admin.logs import set_up_logging
    from gateway.config import load

    set_up_logging("info", "text")
    asyncio.run(app.serve(load(Path(sys.argv[1]), {})))


if __name__ == "__main__":
    main()
