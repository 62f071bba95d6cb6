"""Secondary captures, out of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.captures import CHECK, CHECKS_AT_ONCE, Policy, UploadChecker
from gateway.config import Config
from gateway.journal import Journal, Kind
from gateway.objects import ObjectStore
from gateway.outbox import Outbox
from gateway.pacs.scu import Finder, Target
from gateway.runtime import Spools


def capture_kinds(
    config: Config,
    outbox: Callable[..., Outbox],
    *,
    journal: Journal,
    store: ObjectStore,
    targets: Mapping[str, Target],
    finders: Mapping[str, Finder],
    spools: Spools,
) -> dict[str, Kind]:
    """The kinds of jobs that bring what was uploaded into the PACS. *outbox* makes one of a name and its settings;
    *targets* and *finders* are by the operator's name for a PACS."""
    captures, into = config.captures, config.capture_targets
    ours = outbox(
        "capture",
        storage_commitment=captures.storage_commitment,
        keep_for=captures.keep_after_stored,
        retry_for=captures.retry_for,
    )
    checker = UploadChecker(
        store=store,
        journal=journal,
        pacs=[finders[name] for name in dict.fromkeys((*into, *finders))],
        targets=targets,
        outbox=ours,
        policy=Policy(
            targets=into,
            max_size=captures.max_size,
            allowed_sop_classes=captures.allowed_sop_classes,
            coerce_patient=captures.on_patient_mismatch == "coerce",
        ),
        spools=spools,
    )
    return {CHECK: Kind(checker, CHECKS_AT_ONCE, captures.retry_for)} | ours.kinds()
