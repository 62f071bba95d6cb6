"""What keeps a gateway from starting."""

from __future__ import annotations

import errno
import socket

from gateway.runtime import GatewayError


class AlreadyRunning(GatewayError):
    """Another process uses this ``state_dir``."""


class Misconfigured(GatewayError):
    """A setting that only its user can judge is wrong; the text names it and says how."""


class CannotListen(GatewayError):
    """An address or a port cannot be had."""

    transient = True


def cannot_listen(key: str, host: str, port: int, e: OSError) -> str:
    """Why section *key* of the configuration cannot have its address, and what to do."""
    if e.errno == errno.EADDRINUSE:
        return f"{key}.port: another program listens on {port} (ss -ltnp shows which): stop it, or choose another port"
    if e.errno == errno.EACCES:
        return (
            f"{key}.port: ports below 1024 are root's, and {port} is one: choose a higher one, or give the unit "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        )
    if e.errno == errno.EADDRNOTAVAIL or isinstance(e, socket.gaierror):
        return f"{key}.host: {host} is no address of this machine (ip address shows them): write one, or 0.0.0.0"
    return f"{key}: {host}:{port} cannot be listened on ({e.strerror or e})"


CANNOT_START = (GatewayError, OSError)
"""What keeps a gateway from starting; :func:`why` tells it."""


def why(e: Exception) -> str:
    """Why the gateway did not start, for the operator."""
    if isinstance(e, OSError) and e.filename:
        from gateway.admin import MENDS  # commands that go well need not load it

        mend = MENDS.get(e.errno or 0)
        return f"{e.filename}: {e.strerror}" + (f": {mend}" if mend else "")
    return (e.strerror if isinstance(e, OSError) else None) or str(e)
