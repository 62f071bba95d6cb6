"""Why a connection did not come about, in people's words, whichever library has wrapped the cause."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

_MEANT = {
    errno.ECONNREFUSED: "nothing listens on that port",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to its network",
    errno.ECONNRESET: "it closed the connection",
    errno.EPIPE: "it closed the connection",
    errno.EADDRNOTAVAIL: "no such address on this machine",
}


def reason(e: BaseException) -> str:
    """What is behind *e*: never the name of a class, and nothing of what was sent."""
    causes = list(_causes(e))
    for cause in causes:
        # aiohttp's own error is one, too, and knows nothing: what it wraps does.
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_code"):
            return f"its certificate cannot be trusted: {_distrust(cause)}"
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(cause):
            return "it does not speak TLS on that port"
        if isinstance(cause, ssl.SSLError):
            return f"its TLS failed ({getattr(cause, 'reason', None) or 'no reason given'})"
        if isinstance(cause, socket.gaierror):
            return "its host name is not known (DNS)"
    for cause in causes:
        if isinstance(cause, TimeoutError):
            return "it does not answer in time"
        if isinstance(cause, OSError) and cause.errno in _MEANT:
            return _MEANT[cause.errno]
    text = next((c.strerror for c in causes if isinstance(c, OSError) and c.strerror), None)
    return text or "it closed the connection, or its answer cannot be read"


def _distrust(e: ssl.SSLCertVerificationError) -> str:
    # By OpenSSL's number for it (X509_V_ERR_…).
    if e.verify_code == 10:
        return "it has expired"
    if e.verify_code in (18, 19, 20, 21):
        return "it was not issued by an authority that is trusted here"
    return e.verify_message


def _causes(e: BaseException) -> Iterator[BaseException]:
    """*e* and what it comes from, wherever that is kept."""
    left, seen = [e], set()
    while left:
        cause = left.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        named = (getattr(cause, name, None) for name in ("reason", "os_error", "certificate_error"))
        kept = (cause.__cause__, cause.__context__, *named)
        left += [one for one in (*kept, *cause.args) if isinstance(one, BaseException)]
