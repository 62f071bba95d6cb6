"""Until when certificates hold: those in files that the configuration names, and those that servers show."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.runtime import in_thread

log = logging.getLogger(__name__)

WITHIN = 10.0
"""Seconds for a server to show its certificate."""


@dataclass(frozen=True, slots=True)
class CertificateEnd:
    """A certificate, and when it ends."""

    what: str
    """The setting that names its file, or the server that shows it."""
    ends: float
    """Unix seconds; of a chain, when its first certificate ends."""
    told_from: float
    """Unix seconds from which people are told of it, wherever they look."""


async def ends(files: Mapping[str, Path], servers: Mapping[str, str], before: float) -> list[CertificateEnd]:
    """The ends of the certificates in *files*, by the settings that name them, and of those that *servers* show, by
    what they are; their values are URLs. *before* are seconds before its end from which people are told of one. What
    cannot be read or reached is left out: ``check`` tells of it."""
    read = await in_thread(lambda: [_in_file(setting, path) for setting, path in files.items()])
    shown = await asyncio.gather(*(_of_server(what, url) for what, url in servers.items()))
    named = zip((*files, *servers), (*read, *shown), strict=True)
    return [CertificateEnd(what, end, end - before) for what, end in named if end is not None]


def _in_file(setting: str, path: Path) -> float | None:
    from cryptography import x509  # here, since most gateways have no certificate to look at: 8 MB of memory

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as e:
        log.debug("%s: no certificate can be read (%s)", setting, type(e).__name__)
        return None
    return min(c.not_valid_after_utc.timestamp() for c in found)


async def _of_server(what: str, url: str) -> float | None:
    from cryptography import x509

    parts = urlsplit(url)
    assert parts.hostname is not None, "the configuration's URLs have a host"
    # It is looked at and not trusted: one that has ended already must be seen, too.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(WITHIN):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=context, server_hostname=parts.hostname
            )
    except (OSError, TimeoutError) as e:
        log.debug("%s shows no certificate (%s)", what, type(e).__name__)
        return None
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return x509.load_der_x509_certificate(shown).not_valid_after_utc.timestamp()
