"""Secondary captures, out of the configuration."""

from __future__ import annotations

from gateway.app.shared import SharedParts
from gateway.captures import CHECK, Policy, UploadChecker
from gateway.journal import Kind


def capture_kinds(parts: SharedParts) -> dict[str, Kind]:
    """The kinds of jobs that bring what was uploaded into the PACS."""
    config = parts.config.captures
    targets = parts.config.capture_targets
    outbox = parts.outbox(
        "capture",
        storage_commitment=config.storage_commitment,
        keep_for=config.keep_after_stored,
        retry_for=config.retry_for,
    )
    checker = UploadChecker(
        store=parts.store,
        journal=parts.journal,
        pacs=[parts.finders[name] for name in dict.fromkeys((*targets, *parts.finders))],
        targets=parts.targets,
        outbox=outbox,
        policy=Policy(
            targets=targets,
            max_size=config.max_size,
            allowed_sop_classes=config.allowed_sop_classes,
            coerce_patient=config.on_patient_mismatch == "coerce",
        ),
        spools=parts.spools,
        added=parts.wake,
    )
    return {CHECK: Kind(checker, 2, config.retry_for)} | outbox.kinds()
