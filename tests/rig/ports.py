"""Ports for what tests start: each process of a run has a range of its own, so that no two are given the same one."""

from __future__ import annotations

import itertools
import os
import socket

RANGE = 1_200

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_first = 10_000 + _worker % 8 * RANGE
_numbers = itertools.count(os.getpid())


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago, and was not given out lately."""
    while True:
        port = _first + next(_numbers) % RANGE
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
