"""Passwords, as the configuration keeps them: ``scrypt$N$r$p$salt$key`` (RFC 7914), which gives no password away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

N, R, P = 2**15, 8, 1
"""32 MB and a tenth of a second for each guess."""

LEAST = 10
"""Characters of a password."""


def make(password: str) -> str:
    """What the configuration keeps of a password."""
    salt = secrets.token_bytes(16)
    parts = [_encoded(salt), _encoded(_derived(password, salt, N, R, P))]
    return "$".join(["scrypt", str(N), str(R), str(P), *parts])


def fits(password: str, kept: str) -> bool:
    """Whether it is the password that *kept*, which the configuration has checked, was made of."""
    _, n, r, p, salt, key = kept.split("$")
    expected = base64.b64decode(key)
    found = _derived(password, base64.b64decode(salt), int(n), int(r), int(p), len(expected))
    return hmac.compare_digest(found, expected)


def _derived(password: str, salt: bytes, n: int, r: int, p: int, length: int = 32) -> bytes:
    memory = 256 * n * r + 1024 * 1024  # OpenSSL refuses more than it is allowed, and counts a little of its own
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=length)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
