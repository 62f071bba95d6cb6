"""What ``check`` asks a PACS: whether it answers, lists, and really sends to us."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.admin.probe import RETRIEVE_WITHIN, RetrieveProbe
from gateway.admin.results import Begins, CheckEvent, Result
from gateway.admin.verdict import Expected, verdict
from gateway.pacs import (
    Claim,
    HungUp,
    IncomingInstance,
    Lane,
    OperationFailed,
    PacsError,
    Status,
    UnknownMoveDestination,
)
from gateway.pacs.scp import Seen
from gateway.pacs.scu import Finder, InstanceRef, Retriever, Selection
from gateway.studies import Pacs

_RIGHTS = {"C-FIND": "AllowFind", "C-MOVE": "AllowMove", "C-GET": "AllowGet"}
"""By Orthanc's names, in its DicomModalities."""


@dataclass(frozen=True, slots=True)
class PacsChecks:
    """A PACS, and what it takes to see whether it sends to us."""

    pacs: Pacs
    expected: Expected
    probe: RetrieveProbe
    callers: Callable[[float], Sequence[Seen]]
    """Who has connected to our listener since then (event-loop seconds)."""
    not_listening: str
    """Why nothing can be sent to us now; empty where it can."""

    async def run(self) -> AsyncIterator[CheckEvent]:
        """Checks one after the other."""
        pacs, what = self.pacs, f"PACS {self.pacs.name}"
        if pacs.habits.told:
            yield Result(f"{what}: habits", True, pacs.habits.told)
        if pacs.trouble:
            yield Result(f"{what}: answers", False, pacs.trouble)
        echoes = False
        if pacs.has_dimse:
            yield Begins(f"{what}: C-ECHO")
            began = time.monotonic()
            try:
                await pacs.client.echo()
                yield Result(f"{what}: C-ECHO", True, f"answers in {_milliseconds(began)}")
                echoes = True
            except PacsError as e:
                yield Result(f"{what}: C-ECHO", False, str(e))
        if pacs.finder is not pacs.client or echoes:
            async for told in self._finds(what, echoes=echoes):
                yield told
        if pacs.stow is not None:
            yield Begins(f"{what}: STOW-RS")
            try:
                yield Result(f"{what}: STOW-RS", True, f"takes what is stored: {await pacs.stow()}")
            except PacsError as e:
                yield Result(f"{what}: STOW-RS", False, str(e))

    async def _finds(self, what: str, *, echoes: bool) -> AsyncIterator[CheckEvent]:
        pacs, service = self.pacs, self.pacs.finder.service
        yield Begins(f"{what}: {service}")
        began = time.monotonic()
        try:
            example = await _an_instance(pacs.finder)
        except PacsError as e:
            yield Result(f"{what}: {service}", False, self._refused(service, e, echoes=echoes) or str(e))
            return
        methods = [retriever.method for retriever in pacs.retrievers]
        if example is None:
            yield Result(f"{what}: {service}", True, f"answers in {_milliseconds(began)}, and lists no study")
            for method in methods:
                yield Result(f"{what}: {method}", None, "cannot be tried: the PACS lists nothing that it could send us")
            return
        yield Result(f"{what}: {service}", True, f"answers in {_milliseconds(began)}, and lists instances")
        for retriever in pacs.retrievers:
            yield Begins(f"{what}: {retriever.method}")
            yield await self._retrieves(what, retriever, example)

    async def _retrieves(self, what: str, retriever: Retriever, example: tuple[str, InstanceRef]) -> Result:
        study, instance = example
        name = f"{what}: {retriever.method}"
        by_listener = retriever.method == "C-MOVE"
        if by_listener and self.not_listening:
            return Result(name, None, f"cannot be tried: {self.not_listening}")
        uid, classes = instance.sop_instance_uid, (instance.sop_class_uid,) if instance.sop_class_uid else ()

        def retrieve() -> Awaitable[object]:
            return retriever.retrieve(
                Selection(study, instance.series_instance_uid, (uid,), classes),
                turn=Claim(Lane.RETRIEVE, study),
                deliver=self.probe.before(_refuse),
                last_arrival=lambda: 0.0,
                total_limit=RETRIEVE_WITHIN,
            )

        began, since = time.monotonic(), asyncio.get_running_loop().time()
        try:
            if await self.probe.arrives(study, uid, retrieve):
                return Result(name, True, f"sends to us, an instance in {_milliseconds(began)}")
            return Result(
                name, False, self._why(since, retriever, "it says that it sent an instance, but none arrived")
            )
        except TimeoutError:
            return Result(name, False, self._why(since, retriever, f"nothing came within {RETRIEVE_WITHIN:g} s"))
        except PacsError as e:
            refused = self._refused(retriever.method, e, echoes=True)
            return Result(name, False, refused or self._why(since, retriever, e))

    def _refused(self, service: str, e: PacsError, *, echoes: bool) -> str | None:
        """What it means that one that answers a C-ECHO hangs up on another request."""
        if not (isinstance(e, HungUp) and echoes and service in _RIGHTS):
            return None
        return (
            f"it answers C-ECHO, and ends the association at {service}: {self.expected.ours} is not known to it, or "
            f"may not do that: register {self.expected.advertised} in it, and allow it {service} (Orthanc: an entry of "
            f"DicomModalities with {_RIGHTS[service]})"
        )

    def _why(self, since: float, retriever: Retriever, what: PacsError | str) -> str:
        """Why nothing came, by what our listener saw, where it comes by that."""
        if retriever.method != "C-MOVE":
            return str(what) if retriever.remedy in str(what) else f"{what}; {retriever.remedy}"
        seen = self.callers(since)
        if isinstance(what, UnknownMoveDestination) and not any(caller.rejected for caller in seen):
            return str(what)
        cause = f"status {what.status:04X}" if isinstance(what, OperationFailed) else str(what)
        return f"{verdict(seen, self.expected)} ({cause})"


def _milliseconds(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


async def _an_instance(finder: Finder) -> tuple[str, InstanceRef] | None:
    month = f"{datetime.now(UTC) - timedelta(days=30):%Y%m%d}-"
    for dates in (month, ""):
        for study in await finder.list_studies(dates, 3):
            listing = await finder.list_instances(study)
            if listing.instances:
                return study, listing.instances[0]
    return None


async def _refuse(incoming: IncomingInstance) -> int:
    incoming.body.close()
    return Status.NOT_AUTHORIZED
