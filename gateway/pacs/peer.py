"""A PACS as this gateway knows it: an Application Entity to ask (PS3.7, PS3.8)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait on a PACS, in seconds. Every wait on the network has one of these."""

    connect: float = 5.0
    """TCP connection and TLS handshake."""
    associate: float = 10.0
    """From A-ASSOCIATE-RQ to its answer (the ACSE timer)."""
    respond: float = 30.0
    """Silence on an association that owes us a response."""
    idle: float = 60.0
    """A C-MOVE of which neither a response nor an instance was seen for this long is given up
    (field note 5: silence on one association alone proves nothing)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One PACS: where it listens and under which titles the two of us speak."""

    name: str
    """The operator's name for it, used in messages and metrics."""
    ae_title: str
    """The PACS's own AE title (called AE title of our requests)."""
    host: str
    port: int
    calling_ae_title: str
    """Our AE title; also the C-MOVE destination, so the PACS has to know it."""
    max_associations: int = 4
    """Associations we hold open to it at once (field note 8)."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: ssl.SSLContext | None = None
    certificate_names: frozenset[str] = frozenset()
    """With TLS: names of which its certificate has one, lower case."""

    def __str__(self) -> str:
        return f"PACS {self.name} ({self.ae_title} at {self.host}:{self.port})" if self.host else f"PACS {self.name}"
