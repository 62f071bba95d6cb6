"""``check``: says in order what is right and what is wrong, and how to fix it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.admin.health import moment
from gateway.admin.probe import RETRIEVE_WITHIN, RetrieveProbe
from gateway.admin.state_dir import StateDir
from gateway.journal import Jobs, JobState, JournalError
from gateway.objects import ObjectStore, StoreError
from gateway.pacs.errors import PacsError
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.receiver import IncomingInstance, Status
from gateway.pacs.scu.client import InstanceRef
from gateway.pacs.scu.retrieve import Finder, Retriever, Selection
from gateway.pacs.senders import Senders
from gateway.runtime.errors import GatewayError
from gateway.runtime.supervise import Supervisor
from gateway.studies.refusals import Refusals
from gateway.studies.retrieval import Pacs

MOST_CALLERS = 5
"""Callers that were rejected, or whose instances were refused, that are told of."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was checked."""

    name: str
    ok: bool | None
    """None: it could not be told, or is allowed and unwise."""
    text: str

    def to_dict(self) -> dict[str, Any]:
        """For the control socket."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Checks:
    """What is checked: the parts of a gateway, and what is around it."""

    pacs: Sequence[Pacs]
    store: ObjectStore
    probe: RetrieveProbe
    echo_self: Callable[[], Awaitable[None]]
    senders: Senders
    refusals: Refusals
    jobs: Jobs
    destinations: Mapping[str, Callable[[], Awaitable[None]]]
    """Where reports go besides the PACS: what proves each, by its name. It raises GatewayError."""
    state_dir: StateDir
    loops: Supervisor

    async def run(self) -> AsyncIterator[Result]:
        """Checks one after the other."""
        yield _clock()
        yield await _state_dir(self.state_dir)
        for result in _loops(self.loops):
            yield result
        async for result in _store(self.store):
            yield result
        try:
            await self.echo_self()
            yield Result("DICOM listener", True, "answers our own C-ECHO")
        except PacsError as e:
            yield Result("DICOM listener", False, str(e))
        for caller in self.senders.rejected()[:MOST_CALLERS]:
            yield Result(
                "DICOM callers", None, f"AE {caller.ae_title} at {caller.host} was rejected {caller.times} times, last "
                f"at {moment(caller.last)}: {caller.reason}",
            )  # fmt: skip
        for refused in self.refusals.latest()[:MOST_CALLERS]:
            yield Result(
                "refused instances", None, f"{refused.times} of AE {refused.ae_title} since the start, the latest at "
                f"{moment(refused.last)}: {refused.sop_instance_uid or 'one without a UID'}: {refused.reason}",
            )  # fmt: skip
        for pacs in self.pacs:
            async for result in _pacs(pacs, self.probe):
                yield result
        for name, proof in self.destinations.items():
            try:
                await proof()
                yield Result(name, True, "can be reached")
            except GatewayError as e:
                yield Result(name, False, str(e))
        async for result in _jobs(self.jobs):
            yield result


async def _state_dir(state_dir: StateDir) -> Result:
    try:
        return Result("state_dir", True, await state_dir.check())
    except GatewayError as e:
        return Result("state_dir", False, str(e).removeprefix("state_dir: "))


def _loops(loops: Supervisor) -> Sequence[Result]:
    states = loops.states()
    down = [state for state in states if not state.running]
    if not down:
        return [Result("loops", True, f"all run: {', '.join(state.name for state in states)}")] if states else []
    return [
        Result(f"loop {state.name}", False, f"not running since {moment(state.since)}: {state.detail}; {state.reason}")
        for state in down
    ]


async def _jobs(jobs: Jobs) -> AsyncIterator[Result]:
    try:
        held, paused = await jobs.list([JobState.QUARANTINED]), await jobs.paused_lanes()
    except JournalError as e:
        yield Result("jobs", False, str(e))
        return
    for lane in paused:
        yield Result(
            f"jobs: {lane.kind} for {lane.lane}",
            False,
            f"not answered {lane.failures} times in a row, since {moment(lane.since)}; asked again by itself: "
            f"{lane.reason}",
        )
    if not held:
        yield Result("jobs", True, "none waits for you")
        return
    yield Result(
        "jobs", None, f"{len(held)} wait for you, the latest since: {held[0].last_error}; see avara-gateway jobs list"
    )


def _clock() -> Result:
    if sys.platform == "linux":
        # adjtimex(2): 5 is TIME_ERROR, the clock is not synchronized.
        if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)) != 5:
            return Result("clock", True, "synchronized")
    return Result("clock", None, "not known to be synchronized: webhooks over five minutes off are refused; run NTP")


async def _store(store: ObjectStore) -> AsyncIterator[Result]:
    try:
        await store.check()
        yield Result("store", True, f"{store} takes, gives back and deletes objects")
        if await store.refuses_anonymous():
            yield Result("store access", True, "a request without a signature is refused")
        else:
            yield Result("store access", False, f"{store} lets anyone in: remove its anonymous access policy")
    except StoreError as e:
        yield Result("store", False, str(e))


async def _pacs(pacs: Pacs, probe: RetrieveProbe) -> AsyncIterator[Result]:
    what, service = f"PACS {pacs.name}", pacs.finder.service
    if pacs.habits.told:
        yield Result(f"{what}: habits", True, pacs.habits.told)
    if pacs.trouble:
        yield Result(f"{what}: answers", False, pacs.trouble)
    try:
        await pacs.client.echo()
        yield Result(f"{what}: C-ECHO", True, "answers")
    except PacsError as e:
        yield Result(f"{what}: C-ECHO", False, str(e))
        if pacs.finder is pacs.client:
            return
    try:
        example = await _an_instance(pacs.finder)
    except PacsError as e:
        yield Result(f"{what}: {service}", False, str(e))
        return
    methods = [retriever.method for retriever in pacs.retrievers]
    if example is None:
        yield Result(f"{what}: {service}", True, "answers, and lists no study")
        for method in methods:
            yield Result(f"{what}: {method}", None, "cannot be tried: the PACS lists nothing that it could send us")
        return
    yield Result(f"{what}: {service}", True, "answers, and lists instances")
    for retriever in pacs.retrievers:
        yield await _retrieves(what, retriever, example, probe)


async def _an_instance(finder: Finder) -> tuple[str, InstanceRef] | None:
    month = f"{datetime.now(UTC) - timedelta(days=30):%Y%m%d}-"
    for dates in (month, ""):
        for study in await finder.list_studies(dates, 3):
            listing = await finder.list_instances(study)
            if listing.instances:
                return study, listing.instances[0]
    return None


async def _retrieves(what: str, retriever: Retriever, example: tuple[str, InstanceRef], probe: RetrieveProbe) -> Result:
    study, instance = example
    name, remedy = f"{what}: {retriever.method}", retriever.remedy
    uid, classes = instance.sop_instance_uid, (instance.sop_class_uid,) if instance.sop_class_uid else ()

    def retrieve() -> Awaitable[object]:
        return retriever.retrieve(
            Selection(study, instance.series_instance_uid, (uid,), classes),
            turn=Claim(Lane.RETRIEVE, study),
            deliver=probe.before(_refuse),
            last_arrival=lambda: 0.0,
            total_limit=RETRIEVE_WITHIN,
        )

    try:
        if await probe.arrives(study, uid, retrieve):
            return Result(name, True, "sends to us")
        return Result(name, False, f"it says that it sent an instance, but none arrived: {remedy}")
    except TimeoutError:
        return Result(name, False, f"nothing came within {RETRIEVE_WITHIN:g} s: {remedy}")
    except PacsError as e:
        return Result(name, False, f"{e}; {remedy}")


async def _refuse(incoming: IncomingInstance) -> int:
    incoming.body.close()
    return Status.NOT_AUTHORIZED
