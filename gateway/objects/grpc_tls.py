"""Certificates for what the embedded store's servers say to each other. Run as a program of its own by
:mod:`gateway.objects.embedded`: ``grpc_tls DIRECTORY``; it prints what kept it from writing.

Its parts talk by gRPC on loopback ports, and there is no key to that: whoever has an account on the machine could
read images and delete them. With mutual TLS only who has the certificate is served. It is made anew at each start and
lies in the store's folder for its owner only; the authority's key goes with the process that signed by it.

It imports nothing of the gateway.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=3650)
"""Longer than any process lives; a certificate that ended under a running store would stop it."""

_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client", "msg_broker", "msg_agent", "mq")
"""Those that SeaweedFS has in its ``security.toml``."""


def write_security(directory: Path) -> None:
    """Writes ``security.toml`` and what it names into *directory*, the server's working directory. Raises OSError."""
    folder = directory / "tls"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = (
        _certificate("Embedded store's authority", "Embedded store's authority", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _certificate("Embedded store", "Embedded store's authority", key)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write(folder / "authority.pem", authority.public_bytes(serialization.Encoding.PEM))
    _write(folder / "store.pem", certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    _write(folder / "store.key", key.private_bytes(serialization.Encoding.PEM, form, plain))
    lines = ["[grpc]", 'ca = "tls/authority.pem"']
    for part in _PARTS:
        lines += [f"[grpc.{part}]", 'cert = "tls/store.pem"', 'key = "tls/store.key"']
    _write(directory / "security.toml", "\n".join([*lines, ""]).encode())


def _certificate(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # From a day ago, since a clock that is set back must not shut the store out of itself.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFETIME)
    )


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # so that the mode is ours, whoever made it before
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


if __name__ == "__main__":
    try:
        write_security(Path(sys.argv[1]))
    except OSError as e:
        sys.stdout.write(e.strerror or type(e).__name__)
        sys.exit(1)
