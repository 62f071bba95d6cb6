"""Ports on loopback that nobody listens on, for the servers of the embedded store."""

from __future__ import annotations

import os
import random
import socket
from collections import deque

_NAMES = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "admin.port",
)  # fmt: skip
"""As its command line has them."""


def free_ports(previous: dict[str, int]) -> dict[str, int]:
    """A free loopback port for each server; the ones of before where they still are free."""
    if previous and all(_is_free(port) for port in previous.values()):
        return previous
    ports: dict[str, int] = {}
    for name in _NAMES:
        port = free_port()
        # Its admin server insists on a gRPC port 10000 above its own.
        while name == "admin.port" and not _is_free(port + 10000):
            port = free_port()
        ports[name] = port
    return ports


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago, and that was not given out lately.

    From below the range that kernels give to outgoing connections (RFC 6056 §2.1, and Linux from 32768 up), so that
    none of those takes it before it is listened on; and from an eighth of what is there, by the process, so that those
    who look at the same time seldom find the same one.
    """
    first = 20_000 + os.getpid() % 8 * 1500
    while True:
        port = random.randint(first, first + 1499)  # noqa: S311  (nobody has to fail to guess it)
        if port not in _given_out and _is_free(port):
            _given_out.append(port)
            return port


_given_out = deque[int](maxlen=100)
"""What nobody may listen on yet, of :func:`free_port`."""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
