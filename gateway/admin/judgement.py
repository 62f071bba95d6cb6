"""How each part stands: what is wrong, since when, why, and what to do about it.

One judgement for all who show it: the page's first screen, alerts, ``/health`` and metrics.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.admin.answering import Answer, Answering
from gateway.admin.arrivals import Arrivals, silent_unusually
from gateway.admin.certificates import CertificateEnd
from gateway.admin.health import Unhealthy, moment
from gateway.admin.state_dir import StateDir
from gateway.journal import EventKind, Journal, Transaction, events
from gateway.objects import ObjectStore, StoreError
from gateway.runtime import Clock

CERTIFICATES_EVERY = 600.0
"""Seconds between two looks at certificates: one that was renewed is no trouble any more."""


REFUSED = "avara refused"
"""The key of what is said of refused webhooks."""


class Mark(enum.Enum):
    """How something is."""

    WELL = "well"
    TROUBLE = "trouble"
    """Radiologists or reports feel it now, or will."""
    WAITS = "waits"
    """It waits for an operator, and nothing else suffers meanwhile."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not as it should be."""

    key: str
    """What makes it the same trouble the next time that is looked."""
    what: str
    why: str
    mend: str
    """What to do about it."""
    since: float | None = None
    """Unix seconds; None where it is not known from before it was first seen."""
    mark: Mark = Mark.TROUBLE
    link: str = ""
    """A page that shows more."""
    name: str = ""
    """Which PACS, certificate or part it is of, where there are several."""


PARTS = {
    "store": (
        "The object store does not work",
        "Look whether it runs and has room: avara-gateway check says what it answers. Studies that are not yet cached "
        "cannot be opened, no capture is taken, and reports wait until then.",
    ),
    "dicom_listener": (
        "Our own DICOM listener does not answer",
        "Look in the log for what keeps it, and restart the gateway. No PACS can send to us until then.",
    ),
    "journal": (
        "The journal cannot be read",
        "Look whether the disk of state_dir has room and is in order (df -h, dmesg), and restart the gateway. Reports "
        "and captures are not acknowledged until then, so Avara sends them again.",
    ),
    "state_dir": (
        "The gateway's own disk cannot be written to",
        "Free space on it, or put it in order. Reports and captures are not acknowledged until then.",
    ),
    "cache": (
        "The cache has no room",
        "Make room as it says. Studies that are in the cache can be opened; others cannot until then.",
    ),
    "audit": (
        "The audit trail cannot be written",
        "Look whether the disk it lies on is full, read-only, or not the gateway's to write to; the log says.",
    ),
    "access": (
        "The access policy cannot be asked as it is meant to be",
        "Look whether its lists can be read and its decision point answers: avara-gateway check says which does not. "
        "Studies may be refused that Avara may have, or, with on_failure: allow, be given that it may not.",
    ),
}
"""What is said of a part of ours that fails its proof, and what to do about it."""


def of_part(name: str, why: str, since: float | None = None) -> Trouble:
    """A part that fails its proof in ``/health``; *why* may be empty, where the log says it."""
    what, mend = PARTS.get(name, (f"{name} does not work", "The log says why."))
    return Trouble(f"probe {name}", what, why or "the log has the details", mend, since)


def of_pacs(answer: Answer) -> Trouble | None:
    """A PACS that does not answer."""
    if not answer.failure:
        return None
    return Trouble(
        f"pacs {answer.name}", f"PACS {answer.name} does not answer", answer.failure,
        "Look whether it runs, and whether a firewall lies between; avara-gateway check says more. It is asked again "
        "by itself. Studies that are not in the cache cannot be opened from it meanwhile, and what is to be stored in "
        "it waits; nothing is lost.",
        answer.since, name=answer.name,
    )  # fmt: skip


def of_disk(free: int, least: int) -> Trouble | None:
    """The disk of ``state_dir``, where it has fewer than *least* bytes free."""
    if free >= least:
        return None
    return Trouble(
        "disk low", "The disk of state_dir is nearly full", f"{free / 1e9:.1f} GB are left",
        "Free space on it, make it larger, or, where the embedded store lies on it, lower cache.max_size: when it is "
        "full nothing can be opened or taken.",
        mark=Mark.WAITS,
    )  # fmt: skip


def of_certificate(one: CertificateEnd, now: float) -> Trouble | None:
    """A certificate that has ended, or soon does."""
    if one.told_from >= now:
        return None
    mend = "Have a new one made, put it in its place, and restart what shows it."
    key = f"certificate {one.what} {one.ends:.0f}"
    if one.ends <= now:
        what, why = f"The certificate of {one.what} has expired", "connections that need it are refused"
        return Trouble(key, what, why, mend, one.ends, name=one.what)
    what = f"The certificate of {one.what} ends in {(one.ends - now) / 86400:.0f} days"
    why = f"it ends at {moment(one.ends)}, and is refused from then on"
    return Trouble(key, what, why, mend, one.told_from, Mark.WAITS, name=one.what)


def of_signatures(arrivals: Arrivals) -> Trouble | None:
    """Webhooks whose signature, or its time, was not right, with none between that was."""
    if not arrivals.unproven:
        return None
    number = arrivals.unproven
    what = "The last webhook was refused" if number == 1 else f"The last {number} webhooks were refused"
    return Trouble(
        REFUSED, what, arrivals.why,
        "Compare avara.webhook_keys with the key that Avara shows, and this machine's clock with the time: where Avara "
        "sent them, studies cannot be opened. Where strangers did, nothing has happened; the log has their addresses.",
        arrivals.unproven_since, Mark.WAITS,
    )  # fmt: skip


def of_silence(quiet: float, since: float | None) -> Trouble:
    """That no webhook came for *quiet* seconds, where there usually are some."""
    return Trouble(
        "avara silent", "Avara asks for nothing, where it usually does",
        f"no webhook with a right signature came for {quiet / 3600:g} hours",
        "Look whether http.public_url is reached from outside, whether its reverse proxy runs and its certificate "
        "holds, and which URL Avara has; avara-gateway check says more, and avara-gateway test tries the way.",
        since, Mark.WAITS,
    )  # fmt: skip


class StoreProof:
    """Whether the store does what it is for."""

    def __init__(self, store: ObjectStore, clock: Clock, took: Callable[[float], None] = lambda seconds: None) -> None:
        """*took* is told in how many seconds the store did what it was asked for."""
        self._store = store
        self._clock = clock
        self._took = took
        self._failed = False
        self._proving = asyncio.Lock()

    async def prove(self) -> None:
        """Has it take an object, give it back and delete it. Raises StoreError."""
        async with self._proving:
            began = self._clock.monotonic()
            try:
                await self._store.check()
            except StoreError:
                self._failed = True
                raise
            self._failed = False
            self._took(self._clock.monotonic() - began)

    async def look(self) -> None:
        """The same, but where it was proven a moment ago it is asked for an answer only. Raises StoreError."""
        if self._failed:
            await self.prove()
        else:
            await self._store.head("probe/health")


@dataclass(slots=True)
class Judgement:
    """Looks at what has to be asked for, and judges it. Each method says what is wrong now."""

    answering: Answering
    store: StoreProof
    state_dir: StateDir
    disk_free: int
    """Bytes of its disk below which that is nearly full."""
    arrivals: Arrivals
    journal: Journal
    quiet_for: float | None
    """Seconds without a webhook, where there usually are some, from which on that is told; None: never."""
    read_certificates: Callable[[], Awaitable[Sequence[CertificateEnd]]]
    clock: Clock
    certificates: Sequence[CertificateEnd] = ()
    """As they were when they were last read."""
    _read_at: float = float("-inf")

    def of_pacs(self) -> list[Trouble]:
        """Of each PACS, as far as is known; asks nobody."""
        return [trouble for answer in self.answering.answers() if (trouble := of_pacs(answer))]

    async def of_store(self) -> list[Trouble]:
        """Of the store, by an object that it is given."""
        try:
            await self.store.prove()
        except StoreError as e:
            return [of_part("store", str(e))]
        return []

    async def of_disk(self) -> list[Trouble]:
        """Of the disk of ``state_dir``: that it fails, or is nearly full."""
        try:
            room = await self.state_dir.check()
        except Unhealthy as e:
            return [of_part("state_dir", str(e))]
        trouble = of_disk(room.free, self.disk_free)
        return [trouble] if trouble else []

    async def of_certificates(self) -> list[Trouble]:
        """Of every certificate, which are read anew now and then."""
        now = self.clock.monotonic()
        if now - self._read_at >= CERTIFICATES_EVERY:
            self._read_at, self.certificates = now, await self.read_certificates()
        judged = (of_certificate(one, self.clock.now()) for one in self.certificates)
        return [trouble for trouble in judged if trouble]

    def of_signatures(self) -> list[Trouble]:
        """Of the latest webhooks."""
        trouble = of_signatures(self.arrivals)
        return [trouble] if trouble else []

    async def of_silence(self) -> list[Trouble]:
        """Of Avara, which says nothing. Raises JournalError."""
        quiet = self.quiet_for
        if quiet is None:
            return []

        def look(c: Transaction) -> list[Trouble]:
            if not silent_unusually(c, quiet):
                return []
            last = events.latest(c, EventKind.WEBHOOK, 1)
            return [of_silence(quiet, last[-1].at if last else None)]

        return await self.journal.run(look)
