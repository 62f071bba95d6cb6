"""Use case 1, ``study.access_requested``: find, fetch, cache, answer with URLs."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.studies.access import StudyAccessHandler
    from gateway.studies.cache import Budget, CacheFull, StudyCache
    from gateway.studies.deferred import DeferredInstances, DeferredUrls
    from gateway.studies.fetch import Fetcher
    from gateway.studies.flight import Flight
    from gateway.studies.habits import Habits, KeptHabits
    from gateway.studies.index import Instance, StudyIndex, rejected
    from gateway.studies.intake import Intake
    from gateway.studies.outcome import (
        Complete,
        Disputed,
        NotFound,
        NotSent,
        NotStored,
        Outcome,
        Partial,
        Unconfirmed,
        Unreachable,
    )
    from gateway.studies.pacs import Pacs
    from gateway.studies.permission import StudyPermission
    from gateway.studies.refusals import Refusals, names_of
    from gateway.studies.samples import Samples
    from gateway.studies.statement import in_words
    from gateway.studies.upkeep import Upkeep
    from gateway.studies.verify import Verification
    from gateway.studies.watch import Watch
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Budget",
    "CacheFull",
    "Complete",
    "DeferredInstances",
    "DeferredUrls",
    "Disputed",
    "Fetcher",
    "Flight",
    "Habits",
    "Instance",
    "Intake",
    "KeptHabits",
    "NotFound",
    "NotSent",
    "NotStored",
    "Outcome",
    "Pacs",
    "Partial",
    "Refusals",
    "Samples",
    "StudyAccessHandler",
    "StudyCache",
    "StudyIndex",
    "StudyPermission",
    "Unconfirmed",
    "Unreachable",
    "Upkeep",
    "Verification",
    "Watch",
    "in_words",
    "names_of",
    "rejected",
]
