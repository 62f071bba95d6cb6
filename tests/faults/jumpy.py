"""Runs a gateway whose wall clock is as many seconds ahead as a file says.

``python -m tests.faults.jumpy FILE serve -c CONFIG``. The monotonic clock, and with it every wait, stays as it is: that
is what becomes of a machine's clock when it is set.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

AHEAD = struct.Struct("d")
"""The whole of the file: seconds."""


def main() -> None:
    wall = time.time
    with Path(sys.argv.pop(1)).open("rb") as file:
        # Mapped once: to ask for the time takes no descriptor, where those have run out.
        ahead = mmap.mmap(file.fileno(), AHEAD.size, access=mmap.ACCESS_READ)
    time.time = lambda: wall() + AHEAD.unpack_from(ahead)[0]
    from gateway.cli import main as gateway  # now, so that nothing holds the machine's own clock

    gateway()


if __name__ == "__main__":
    main()
