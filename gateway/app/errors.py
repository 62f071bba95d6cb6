"""What keeps a gateway from starting."""

from __future__ import annotations

from gateway.admin.state_dir import MENDS
from gateway.runtime.errors import GatewayError


class AlreadyRunning(GatewayError):
    """Another process uses this ``state_dir``."""


class Misconfigured(GatewayError):
    """A setting that only its user can judge is wrong; the text names it and says how."""


CANNOT_START = (GatewayError, OSError)
"""What keeps a gateway from starting; :func:`why` tells it."""


def why(e: Exception) -> str:
    """Why the gateway did not start, for the operator."""
    if isinstance(e, OSError) and e.filename:
        mend = MENDS.get(e.errno or 0)
        return f"{e.filename}: {e.strerror}" + (f": {mend}" if mend else "")
    return (e.strerror if isinstance(e, OSError) else None) or str(e)
