"""The jobs of secondary captures, and where their objects lie in the store while they are under way.

Three kinds. ``capture.check`` looks at one upload: (slot, ETag) is what makes it one. ``capture.store`` brings one
object into one PACS: (target, SOP Instance UID) makes it one, so what is uploaded twice is stored once.
``capture.clean`` removes our copy later.
"""

from __future__ import annotations

import hashlib

CHECK, STORE, CLEAN = "capture.check", "capture.store", "capture.clean"

KINDS = (CHECK, STORE, CLEAN)


def check_subject(slot_id: str, etag: str) -> str:
    """What makes an upload the same upload."""
    return f"{slot_id} {etag}"


def store_subject(target: str, sop_instance_uid: str) -> str:
    """What makes storing the same storing."""
    return f"{sop_instance_uid} {target}"


def accepted_key(target: str, sop_instance_uid: str, sha256: str) -> str:
    """Where an accepted object waits for its PACS; each target has its own copy, to be removed by itself."""
    return f"captures/{sop_instance_uid}/{sha256[:16]}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"


def quarantine_key(slot_id: str, sha256: str) -> str:
    """Where an upload lies that waits for an operator."""
    return f"quarantine/{slot_id}/{sha256}"
