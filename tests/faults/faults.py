"""The faults themselves, by name: each is a time during which something in the hospital fails.

What a fault does not touch is served meanwhile as ever: :class:`Bystander` measures it.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from .hospital import Hospital, NotServed
from .process import send
from .relay import Wire

SERVED_WITHIN = 9.9
"""Seconds: Avara's time-out. A warm study that is not answered by then is not served."""

Fails = Callable[[Hospital], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """Something that fails for a while."""

    name: str
    during: Fails
    spares_studies: bool = True
    """Whether a study that is cached has to open as ever meanwhile."""
    needs: str = ""
    """``embedded`` or ``relayed``: the store that it is about."""


# -- wires


def wire(relay: str, **how: object) -> Fails:
    """A wire carries as :class:`Wire` has it."""

    @asynccontextmanager
    async def during(hospital: Hospital) -> AsyncIterator[None]:
        hospital.relays[relay].wire = Wire(**how)
        try:
            yield
        finally:
            hospital.relays[relay].mend()

    return during


def again_and_again(relay: str, what: str, every: float = 0.3) -> Fails:
    """Open connections are ``cut``, ``reset`` or ``half_close``d every so many seconds."""

    @asynccontextmanager
    async def during(hospital: Hospital) -> AsyncIterator[None]:
        async def go_on() -> None:
            while True:
                getattr(hospital.relays[relay], what)()
                await asyncio.sleep(every)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return during


# -- peers and processes


def away(name: str) -> Fails:
    """A server is killed, and comes back."""

    @asynccontextmanager
    async def during(hospital: Hospital) -> AsyncIterator[None]:
        peer = getattr(hospital, name)
        await peer.die()
        try:
            yield
        finally:
            await peer.come_back()

    return during


@asynccontextmanager
async def store_killed(hospital: Hospital) -> AsyncIterator[None]:
    pid = hospital.gateway.store_process()
    assert pid is not None
    send(pid, signal.SIGKILL)
    yield


@asynccontextmanager
async def store_hangs(hospital: Hospital) -> AsyncIterator[None]:
    pid = hospital.gateway.store_process()
    assert pid is not None
    send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pid, signal.SIGCONT)


@asynccontextmanager
async def gateway_killed(hospital: Hospital) -> AsyncIterator[None]:
    await hospital.gateway.kill()
    try:
        yield
    finally:
        await hospital.gateway.start()


# -- the machine


def clock(ahead: float) -> Fails:
    """The wall clock is so many seconds ahead, and is set right again."""

    @asynccontextmanager
    async def during(hospital: Hospital) -> AsyncIterator[None]:
        hospital.gateway.set_clock(ahead)
        try:
            yield
        finally:
            hospital.gateway.set_clock(0.0)

    return during


@asynccontextmanager
async def no_descriptors(hospital: Hospital) -> AsyncIterator[None]:
    """The process may open a few more files, and no others."""
    pid = hospital.gateway.pid
    had = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    few = int(hospital.gateway.figures()["descriptors"]) + 8
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, had[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, had)


@asynccontextmanager
async def no_memory(hospital: Hospital) -> AsyncIterator[None]:
    """The process may have a few MB more than it has, and no others."""
    pid = hospital.gateway.pid
    had = resource.prlimit(pid, resource.RLIMIT_AS)
    status = subprocess.run(["ps", "-o", "vsz=", "-p", str(pid)], capture_output=True, text=True, check=True)
    resource.prlimit(pid, resource.RLIMIT_AS, (int(status.stdout) * 1024 + 8_000_000, had[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, had)


FAULTS = [
    Fault("the PACS is silent", wire("main", silent=True)),
    Fault("the PACS is slow to answer", wire("main", delay=0.5)),
    Fault("the way to the PACS is narrow", wire("main", rate=20_000)),
    Fault("connections to the PACS are cut", again_and_again("main", "cut")),
    Fault("connections to the PACS are reset", again_and_again("main", "reset")),
    Fault("connections to the PACS are half closed", again_and_again("main", "half_close")),
    Fault("the PACS refuses connections", wire("main", refuses=True)),
    Fault("what the PACS sends is cut off", wire("gateway", resets_after=30_000)),
    Fault("what the PACS sends does not arrive", wire("gateway", silent=True)),
    Fault("what the PACS sends is slow", wire("gateway", rate=50_000)),
    Fault("the PACS is killed", away("main")),
    Fault("the second PACS is silent", wire("second", silent=True)),
    Fault("the RIS is silent", wire("ris", silent=True)),
    Fault("the RIS takes a message and its answer is lost", wire("ris", loses_answers=True)),
    Fault("connections to the RIS are reset", again_and_again("ris", "reset")),
    Fault("the RIS is killed", away("ris")),
    Fault("the mail server is silent", wire("mail", silent=True)),
    Fault("connections to the mail server are half closed", again_and_again("mail", "half_close")),
    Fault("the mail server is killed", away("mail")),
    Fault("the store is killed", store_killed, spares_studies=False, needs="embedded"),
    Fault("the store hangs", store_hangs, spares_studies=False, needs="embedded"),
    Fault("the store is silent", wire("store", silent=True), spares_studies=False, needs="relayed"),
    Fault("the store is slow", wire("store", delay=0.2), spares_studies=False, needs="relayed"),
    Fault("the store refuses connections", wire("store", refuses=True), spares_studies=False, needs="relayed"),
    Fault(
        "connections to the store are reset",
        again_and_again("store", "reset"),
        spares_studies=False,
        needs="relayed",
    ),
    Fault("the gateway is killed", gateway_killed, spares_studies=False),
    Fault("the clock is two minutes ahead", clock(120.0)),
    Fault("the clock is a day ahead", clock(86400.0), spares_studies=False),
    Fault("the clock is an hour behind", clock(-3600.0), spares_studies=False),
    Fault("the descriptors run out", no_descriptors, spares_studies=False),
    Fault("the memory runs out", no_memory, spares_studies=False),
]
"""What hospitals have met. A clock that is off by more than five minutes makes every signature of Avara's look stale,
so that nothing new is taken meanwhile: that is the standard's, and not ours to change."""


def fault(name: str) -> Fault:
    (found,) = (f for f in FAULTS if f.name == name)
    return found


# -- who is not touched


@dataclass
class Bystander:
    """Opens one cached study again and again: it has nothing to do with what fails."""

    hospital: Hospital
    study: str
    seconds: list[float] = field(default_factory=list)
    not_served: list[str] = field(default_factory=list)

    async def watch(self, every: float = 0.25) -> None:
        """Until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(every)

    async def look(self) -> None:
        began = time.monotonic()
        try:
            await self.hospital.open_study(self.study, images=1)
        except NotServed as e:
            self.not_served.append(f"the cached study after {time.monotonic() - began:.1f} s: {e}")
        else:
            took = time.monotonic() - began
            self.seconds.append(took)
            if took > SERVED_WITHIN:
                self.not_served.append(f"the cached study only after {took:.1f} s")

    @property
    def told(self) -> str:
        """Its times, for the record."""
        if not self.seconds:
            return "never served"
        return f"median {statistics.median(self.seconds):.3f} s, longest {max(self.seconds):.3f} s"


@asynccontextmanager
async def watched(hospital: Hospital, study: str) -> AsyncIterator[Bystander]:
    """While this is held, somebody opens *study*."""
    bystander = Bystander(hospital, study)
    task = asyncio.create_task(bystander.watch())
    try:
        yield bystander
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def mixed_work(hospital: Hospital, study: str, *, tries: int = 60) -> None:
    """A new study is opened, two captures of it are uploaded, two reports delivered; what is not served is not
    served, and Avara goes on to deliver what was not acknowledged."""
    asked = [
        hospital.open_study(study), hospital.upload(study), hospital.upload(study),
        hospital.deliver(study, critical=True, tries=tries), hospital.deliver(study, tries=tries),
    ]  # fmt: skip

    async def attempt(one: object) -> None:
        with contextlib.suppress(NotServed):
            await one  # type: ignore[misc]

    await asyncio.gather(*(attempt(one) for one in asked))
