"""Whose a certificate is (PS3.15 B.9 leaves that to the two sides). An authority signs those of many systems: that it
was signed says that somebody is one of them, and its names say which."""

from __future__ import annotations

from collections.abc import Collection

ANY = "*"
"""Among the names that are expected: whatever the authority has signed will do."""


def is_named(shown: Collection[str], expected: Collection[str]) -> bool:
    """Whether one of the names that a certificate has is *expected*, which are in lower case; ``*.example.org`` in a
    certificate stands for one label, as RFC 6125 §6.4.3 has it."""
    if ANY in expected:
        return True
    for name in (name.lower() for name in shown):
        if name in expected:
            return True
        if name.startswith("*.") and any(one.partition(".")[2] == name[2:] for one in expected if "." in one):
            return True
    return False


def names_of(certificate: dict[str, object]) -> frozenset[str]:
    """What a certificate names: the common names of its subject, and its alternative DNS names and addresses (as
    :meth:`ssl.SSLSocket.getpeercert` tells them)."""
    names = set()
    subject, alternatives = certificate.get("subject", ()), certificate.get("subjectAltName", ())
    assert isinstance(subject, tuple)
    assert isinstance(alternatives, tuple)
    for part in subject:
        names |= {str(value) for key, value in part if key == "commonName"}
    names |= {str(value) for key, value in alternatives if key in ("DNS", "IP Address")}
    return frozenset(names)
