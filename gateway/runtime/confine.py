"""Runs a program of ours within limits. Started by :mod:`gateway.runtime.confined` as a process of its own.

It imports nothing of the gateway: it holds no secret that a flaw in a decoder or parser could give away.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """``confine LIMITS PARENT PROGRAM ARGUMENT…``: limits itself for good, then becomes the program."""
    limits, parent, *sys.argv = json.loads(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before we asked
            os._exit(1)
    cpu = limits["cpu"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 2))  # the lower one ends it by SIGXCPU, which tells why
    for limit, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file_size"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
