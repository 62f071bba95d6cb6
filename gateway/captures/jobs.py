"""The jobs of secondary captures, and where an upload lies that waits for an operator.

``capture.check`` looks at one upload: (slot, ETag) is what makes it one. Storing it is the outbox's.
"""

from __future__ import annotations

CHECK = "capture.check"


def check_subject(slot_id: str, etag: str) -> str:
    """What makes an upload the same upload."""
    return f"{slot_id} {etag}"


def quarantine_key(slot_id: str, sha256: str) -> str:
    """Where an upload lies that waits for an operator."""
    return f"quarantine/{slot_id}/{sha256}"
