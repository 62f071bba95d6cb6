"""``check``: says in order what is right and what is wrong, and how to fix it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.admin.arrivals import Arrivals
from gateway.admin.certificates import CertificateEnd
from gateway.admin.clocks import CLOCK_OFF
from gateway.admin.health import moment
from gateway.admin.outside import Outside
from gateway.admin.pacs_checks import PacsChecks
from gateway.admin.results import Begins, CheckEvent, Result
from gateway.admin.state_dir import StateDir
from gateway.journal import Jobs, JobState, JournalError
from gateway.objects import ObjectStore, StoreError
from gateway.pacs import PacsError, Senders
from gateway.runtime import SYSTEM_CLOCK, GatewayError, Supervisor, in_thread
from gateway.studies import Refusals

MOST_CALLERS = 5
"""Callers that were rejected, or whose instances were refused, that are told of."""


STORE_WITHIN = 20.0
"""Seconds for the store to answer; it is tried again meanwhile."""

DESTINATION_WITHIN = 40.0
"""Seconds for each place that reports and alerts go to."""

Proof = Callable[[], Awaitable[object]]
"""Raises GatewayError where something does not work."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What is checked: the parts of a gateway, and what is around it."""

    pacs: Sequence[PacsChecks]
    store: ObjectStore
    cache: Proof
    """That there is room in the cache."""
    echo_self: Proof
    senders: Senders
    refusals: Refusals
    jobs: Jobs
    destinations: Mapping[str, Proof]
    """Where reports and alerts go besides the PACS: what proves each, by its name."""
    outside: Outside
    """What Avara and browsers see."""
    certificates: Callable[[], Awaitable[Sequence[CertificateEnd]]]
    state_dir: StateDir
    loops: Supervisor
    week: Callable[[], Awaitable[tuple[bool | None, str]]]
    """Whether a busy week fits into the cache, and what to say of it."""
    versions: Callable[[], tuple[bool | None, str]]
    """The same of what runs and what is installed."""
    clocks: Callable[[], Awaitable[Sequence[Result]]]
    """Our clock against those of others."""
    arrivals: Arrivals | None
    """What Avara's webhooks say of the way to us; None where no gateway runs."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Parts that could not be started: by their names, why."""

    async def run(self) -> AsyncIterator[CheckEvent]:
        """Checks one after the other."""
        yield Result("versions", *await in_thread(self.versions))
        yield _clock()
        for result in await self.clocks():
            yield result
        yield await _state_dir(self.state_dir)
        for result in _loops(self.loops):
            yield result
        yield Begins("store")
        store_works = False
        for name in ("embedded store", "store client"):
            if name in self.failed:
                yield Result("store", False, self.failed[name])
                break
        else:
            async for result in _store(self.store):
                store_works = result.ok is not False
                yield result
        try:
            yield Result("cache", True, str(await self.cache()))
        except GatewayError as e:
            yield Result("cache", False, str(e))
        with contextlib.suppress(JournalError):  # of which the jobs tell
            yield Result("room for a busy week", *await self.week())
        yield await self._listener()
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
            async for told in pacs.run():
                yield told
        for name, proof in self.destinations.items():
            yield Begins(name)
            yield await _proven(name, proof)
        async for told in self.outside.run(store_works=store_works):
            yield told
        for result in _webhooks(self.arrivals) if self.arrivals is not None else ():
            yield result
        for end in await self.certificates():
            yield _certificate(end)
        if "journal" in self.failed:
            yield Result("jobs", False, self.failed["journal"])
            return
        async for result in _jobs(self.jobs):
            yield result

    async def _listener(self) -> Result:
        if "DICOM listener" in self.failed:
            return Result("DICOM listener", False, self.failed["DICOM listener"])
        try:
            await self.echo_self()
            return Result("DICOM listener", True, "answers our own C-ECHO")
        except PacsError as e:
            return Result("DICOM listener", False, str(e))


def _certificate(end: CertificateEnd) -> Result:
    left = end.ends - SYSTEM_CLOCK.now()
    name = f"certificate {end.what}"
    if left < 0:
        return Result(name, False, f"it ended on {moment(end.ends)}: renew it")
    if end.told_from < SYSTEM_CLOCK.now():
        return Result(name, None, f"it ends on {moment(end.ends)}, in {left / 86400:.0f} days: renew it")
    return Result(name, True, f"it is good for {left / 86400:.0f} days")


def _webhooks(arrivals: Arrivals) -> Iterator[Result]:
    """What has come of Avara since the gateway started."""
    if arrivals.unproven:
        times = "the last one was" if arrivals.unproven == 1 else f"the last {arrivals.unproven} were"
        yield Result("webhooks", False, f"{times} refused: {arrivals.why}")
    elif arrivals.last:
        yield Result("webhooks", True, f"the last one came at {moment(arrivals.last)}, and its signature was right")
    else:
        yield Result(
            "webhooks", None, f"none has come since the gateway started at {moment(arrivals.began)}: where some "
            "should have, compare the URL that Avara has with the one above",
        )  # fmt: skip
    if (ahead := arrivals.clock_ahead) is not None and abs(ahead) >= CLOCK_OFF:
        yield Result(
            "clock against Avara", False, f"ours is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
            "Avara's, by its last webhooks, and at 300 s all are refused: set it by NTP (timedatectl)",
        )  # fmt: skip
    elif ahead is not None:
        yield Result("clock against Avara", True, f"{abs(ahead):.0f} s apart, by its last webhooks")


async def _proven(name: str, proof: Proof) -> Result:
    try:
        async with asyncio.timeout(DESTINATION_WITHIN):
            await proof()
        return Result(name, True, "can be reached")
    except GatewayError as e:
        return Result(name, False, str(e))
    except TimeoutError:
        return Result(name, False, f"does not answer within {DESTINATION_WITHIN:g} s: is it up?")


async def _state_dir(state_dir: StateDir) -> Result:
    try:
        return Result("state_dir", True, str(await state_dir.check()))
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
        size = await jobs.size()
    except JournalError as e:
        yield Result("jobs", False, str(e))
        return
    yield Result("journal", True, f"{size / 1e6:.1f} MB; how long what is kept: docs/operate.md")
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
        async with asyncio.timeout(STORE_WITHIN):
            # First what needs no thread: one that waits for a store that never answers could not be ended.
            await store.head("probe/gateway-check")
            await store.ensure_bucket()
            await store.check()
        yield Result("store", True, f"{store} takes, gives back and deletes objects")
        if await store.refuses_anonymous():
            yield Result("store access", True, "a request without a signature is refused")
        else:
            yield Result("store access", False, f"{store} lets anyone in: remove its anonymous access policy")
    except StoreError as e:
        yield Result("store", False, str(e))
    except TimeoutError:
        yield Result(
            "store", False, f"{store} does not answer within {STORE_WITHIN:g} s: is it up, and is store.endpoint right?"
        )
