"""Until when the certificates hold that the configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

SOON = 21 * 86400.0
"""Seconds before its end at which a certificate is spoken of: time enough to have a new one made."""


@dataclass(frozen=True, slots=True)
class CertificateEnd:
    """The end of the certificate in a file that ends first."""

    setting: str
    """The setting that names the file."""
    ends: float | None
    """Unix seconds; None where the file cannot be read."""
    error: str = ""


def ends(files: Mapping[str, Path]) -> list[CertificateEnd]:
    """The ends of certificates in files, by the settings that name them. Reads files: to be called in a thread."""
    return [_end(setting, path) for setting, path in files.items()]


def _end(setting: str, path: Path) -> CertificateEnd:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as e:
        return CertificateEnd(setting, None, f"its file cannot be read ({e.strerror})")
    except ValueError:
        return CertificateEnd(setting, None, "its file holds no certificate in PEM form")
    return CertificateEnd(setting, min(c.not_valid_after_utc.timestamp() for c in found))
