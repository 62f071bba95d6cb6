"""Every kind of job, out of the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from gateway.alerts import AlertChannel
from gateway.app.alerts import alert_kinds
from gateway.app.captures import capture_kinds
from gateway.app.reports import report_kinds, report_places
from gateway.config import Config
from gateway.journal import CLEAN, Journal, Kind
from gateway.objects import ObjectStore
from gateway.outbox import Cleaner, Outbox, StoredObject
from gateway.pacs import IncomingInstance
from gateway.pacs.scu import Finder, Target
from gateway.runtime import Spools
from gateway.studies import Fetcher

KEEP_CLEANING_FOR = 30 * 86400.0
"""Seconds for which the removal of an object that nobody needs is tried."""


def job_kinds(
    config: Config,
    channels: dict[str, AlertChannel],
    *,
    journal: Journal,
    store: ObjectStore,
    targets: Mapping[str, Target],
    finders: Mapping[str, Finder],
    spools: Spools,
    on_stored: Callable[[StoredObject], Awaitable[None]],
    added: Callable[[], None],
) -> dict[str, Kind]:
    """By their names. *targets* and *finders* are by the operator's name for a PACS; *on_stored* is told of what a PACS
    has taken, *added* of jobs that there are now."""
    outbox = partial(Outbox, objects=store, journal=journal, targets=targets, spools=spools, on_stored=on_stored)
    kinds = alert_kinds(channels)
    kinds |= capture_kinds(
        config,
        outbox,
        journal=journal,
        store=store,
        targets=targets,
        finders=finders,
        spools=spools,
    )
    kinds |= report_kinds(
        config,
        outbox,
        report_places(config.reports),
        list(channels),
        journal=journal,
        store=store,
        finders=finders.values(),
        added=added,
    )
    kinds[CLEAN] = Kind(Cleaner(store, journal), 1, KEEP_CLEANING_FOR)
    return kinds


def adoption(fetcher: Fetcher, ae_title: str) -> Callable[[StoredObject], Awaitable[None]]:
    """What lets the cache know of an object that a PACS has now; *ae_title* is ours."""

    async def adopt(stored: StoredObject) -> None:
        incoming = IncomingInstance(
            sop_class_uid=stored.sop_class_uid,
            sop_instance_uid=stored.sop_instance_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            calling_ae_title=ae_title,
            called_ae_title=ae_title,
            peer_host="",
            answers=stored.study_instance_uid,
            body=stored.body,
        )
        await fetcher.adopt(stored.study_instance_uid, incoming)

    return adopt
