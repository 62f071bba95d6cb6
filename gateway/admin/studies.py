"""What an operator can do with one study in the cache: look at it, drop it, have it fetched anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.access import Purpose, Refused
from gateway.admin.control import Line, progress_of
from gateway.journal import Journal
from gateway.objects import StoreError
from gateway.studies import Fetcher, StudyCache, StudyIndex, StudyPermission, rejected


class Studies:
    """The studies in the cache, for an operator."""

    def __init__(
        self,
        cache: StudyCache,
        fetcher: Fetcher,
        journal: Journal,
        noted: Callable[[str, str], None],
        permission: StudyPermission,
    ) -> None:
        """*noted* is told of a study, and what was done with it, by whom and why."""
        self._cache = cache
        self._fetcher = fetcher
        self._journal = journal
        self._noted = noted
        self._permission = permission

    def do(self, what: str, study_instance_uid: str, why: str) -> AsyncIterator[Line]:
        """*what* is ``show``, ``access``, ``drop`` or ``refetch``."""
        match what:
            case "access":
                return self.access(study_instance_uid)
            case "show":
                return self.show(study_instance_uid)
            case "drop":
                return self.drop(study_instance_uid, why)
            case _:
                return self.refetch(study_instance_uid, why)

    async def show(self, study_instance_uid: str) -> AsyncIterator[Line]:
        """What is held of a study; nothing of its patient."""
        try:
            index = await self._cache.index(study_instance_uid)
        except StoreError as e:
            yield {"ok": False, "text": str(e)}
            return
        if index is None or not index.instances:
            yield {"ok": False, "text": "the study is not in the cache"}
            return
        ledger = await self._journal.cached_study(study_instance_uid)
        yield {
            "ok": True,
            "urls_valid_until": ledger.urls_valid_until if ledger is not None else 0.0,
            "in_flight": self._fetcher.flight(study_instance_uid) is not None,
            **_facts(index),
        }

    async def access(self, study_instance_uid: str) -> AsyncIterator[Line]:
        """Whether the hospital's policy lets Avara have it, and which rule does not."""
        if not self._permission.needed:
            yield {"ok": True, "allowed": True, "text": "there is no access policy: whatever a PACS has may be opened"}
            return
        try:
            rule = await self._permission.rule_against(study_instance_uid, Purpose.OPEN, event="operator")
        except Refused as e:
            yield {"ok": False, "text": str(e)}
            return
        text = f"the access policy forbids it: {rule}" if rule else "the access policy allows it"
        yield {"ok": True, "allowed": not rule, "rule": rule, "text": text}

    async def drop(self, study_instance_uid: str, why: str) -> AsyncIterator[Line]:
        """Deletes it from the store; URLs that were given out die with it."""
        if await self._cache.index(study_instance_uid) is None:
            yield {"ok": False, "text": "the study is not in the cache"}
            return
        try:
            dropped = await self._cache.drop(study_instance_uid)
        except StoreError as e:
            yield {"ok": False, "text": str(e)}
            return
        if not dropped:
            yield {"ok": False, "text": "the study is being fetched or opened right now: try again in a moment"}
            return
        self._noted(study_instance_uid, f"dropped by an operator: {why}")
        yield {"ok": True, "text": "dropped: its URLs work no longer, and it is fetched when it is opened again"}

    async def refetch(self, study_instance_uid: str, why: str) -> AsyncIterator[Line]:
        """Fetches it anew beside what is here, and changes over once it is whole."""
        self._noted(study_instance_uid, f"fetched anew for an operator: {why}")
        flight = await self._fetcher.refetch(study_instance_uid)
        async for line in progress_of(flight):
            yield line


def _facts(index: StudyIndex) -> dict[str, Any]:
    instances = index.instances.values()
    return {
        "study": index.study_instance_uid,
        "pacs": index.pacs,
        "complete": index.complete,
        "instances": len(instances),
        "shown": len(index.shown),
        "bytes": index.size,
        "fetched": index.fetched,
        "compared": index.compared,
        "rejection_notes": sorted(i.sop_instance_uid for i in instances if i.rejection),
        "rejected": sorted(rejected(index.instances) & index.instances.keys()),
        "not_yet_listed": sorted(i.sop_instance_uid for i in instances if i.unlisted_since),
        "replaced": sorted(i.sop_instance_uid for i in instances if i.revision),
        "odd": {i.sop_instance_uid: i.note for i in instances if i.note},
    }
