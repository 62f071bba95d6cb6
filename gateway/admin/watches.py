"""What people are told of when it goes wrong and stays so: each a watch, with a text that says what to do.

Nothing here names a patient or a study: alerts leave the clinical systems.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.admin.arrivals import Arrivals, silent_unusually
from gateway.admin.canary import Canary
from gateway.admin.certificates import CertificateEnd
from gateway.admin.health import Unhealthy, moment
from gateway.admin.state_dir import StateDir
from gateway.alerts import Alert, Watch
from gateway.config import AlertsConfig
from gateway.journal import Journal, commitments
from gateway.objects import ObjectStore, StoreError
from gateway.pacs import Claim, Lane, PacsError, ahead
from gateway.runtime import Clock, Supervisor
from gateway.studies import Pacs

RESTART_TOLD_FOR = 3600.0
"""Seconds for which a loop has to run before its restart is over."""

PROVEN_FOR = 55.0
"""Seconds for which a PACS that has answered is not asked whether it does."""

ASKED_ASIDE = Claim(Lane.QUERY, urgency=ahead)
"""Behind whatever a radiologist waits for."""

CERTIFICATES_EVERY = 6 * 3600.0
"""Seconds between two looks at certificates."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at."""

    pacs: Sequence[Pacs]
    store: ObjectStore
    state_dir: StateDir
    directory: Path
    """``state_dir`` itself."""
    journal: Journal
    arrivals: Arrivals
    loops: Supervisor
    certificates: Callable[[], Awaitable[Sequence[CertificateEnd]]]
    clock: Clock
    canary: Canary | None = None
    store_took: Callable[[float], None] = lambda seconds: None
    """Is told in how many seconds the store did what it was asked for."""


def watches(of: Watched, limits: AlertsConfig) -> list[Watch]:
    """Every watch there is."""
    found = [
        Watch("pacs.away", lambda: _pacs(of.pacs), limits.pacs_away_for),
        Watch("store.failing", lambda: _store(of), limits.store_away_for),
        Watch("disk.low", lambda: _disk(of.state_dir, of.directory, limits.disk_free)),
        Watch("commitment.overdue", lambda: _commitments(of.journal, limits.commitment_overdue)),
        Watch("certificate.ends", _Certificates(of, limits.certificate_before).look),
        Watch("clock.off", lambda: _clock(of.arrivals, limits.clock_off)),
        Watch("webhook.signatures", lambda: _signatures(of.arrivals, limits.signature_failures)),
        Watch("loop.restarted", lambda: _loops(of.loops, of.clock)),
    ]
    if (canary := of.canary) is not None:
        found.append(Watch("canary.failed", lambda: _canary(canary)))
    if (quiet := limits.no_webhook_for) is not None:
        found.append(Watch("webhook.none", lambda: _silence(of, quiet)))
    return found


async def _pacs(pacs: Sequence[Pacs]) -> Collection[Alert]:
    answers = await asyncio.gather(*(_why_away(one) for one in pacs))
    return [
        _alert(
            one.name,
            "A PACS does not answer",
            "Studies that are not in the cache cannot be opened from it, and what is to be stored in it waits; nothing "
            f"is lost. See that it runs and that the network lets us through; avara-gateway check says more. {why}",
            {"pacs": one.name},
        )
        for one, why in zip(pacs, answers, strict=True)
        if why
    ]


async def _why_away(pacs: Pacs) -> str:
    """Why a PACS does not answer; empty where it does."""
    if pacs.finder.breaker.answered_within(PROVEN_FOR):
        return pacs.trouble
    try:
        if pacs.finder is pacs.client:
            await pacs.client.echo(ASKED_ASIDE)
        else:  # its DICOMweb service is what studies are found by
            await pacs.finder.list_studies(f"{datetime.now(UTC):%Y%m%d}", 1)
    except PacsError as e:
        return str(e)
    return pacs.trouble


async def _store(of: Watched) -> Collection[Alert]:
    began = of.clock.monotonic()
    try:
        await of.store.check()
        of.store_took(of.clock.monotonic() - began)
    except StoreError as e:
        what_to_do = f"No study can be opened, no capture taken, and reports wait, until it works again. {e}"
        return [_alert("", "The store fails", what_to_do)]
    return []


async def _disk(state_dir: StateDir, directory: Path, least: int) -> Collection[Alert]:
    title = "The disk of state_dir fails or is nearly full"
    try:
        await state_dir.check()
    except Unhealthy as e:
        return [_alert("", title, f"What the gateway must keep cannot be kept. {e}")]
    free = (await asyncio.to_thread(shutil.disk_usage, directory)).free
    if free >= least:
        return []
    return [
        _alert(
            "",
            title,
            f"{free / 1e9:.1f} GB are left. Free space on it, make it larger, or, where the embedded store lies on it, "
            "lower cache.max_size: when it is full nothing can be opened or taken.",
        )
    ]


async def _commitments(journal: Journal, limit: float) -> Collection[Alert]:
    silent = await journal.run(lambda c: commitments.silent(c, asked_before=c.now - limit))
    if not silent:
        return []
    return [
        _alert(
            "",
            "A PACS owes storage commitments",
            f"For {silent} objects it was asked and has not committed itself, so that our copies are kept. See in its "
            "queue whether it works on them, and whether it reports to our AE title, address and port; avara-gateway "
            "jobs list shows them.",
            {"objects": str(silent)},
        )
    ]


class _Certificates:
    """Looks at certificates now and then."""

    def __init__(self, of: Watched, before: float) -> None:
        self._of = of
        self._before = before
        self._found: Sequence[CertificateEnd] = ()
        self._looked = float("-inf")

    async def look(self) -> Collection[Alert]:
        now = self._of.clock.monotonic()
        if now - self._looked >= CERTIFICATES_EVERY:
            self._found, self._looked = await self._of.certificates(), now
        return [self._alert(one) for one in self._found if one.ends - self._of.clock.now() < self._before]

    def _alert(self, one: CertificateEnd) -> Alert:
        ended = one.ends <= self._of.clock.now()
        return _alert(
            f"{one.what} {one.ends:.0f}",
            "A certificate has ended" if ended else "A certificate ends soon",
            f"It {'held' if ended else 'holds'} until {moment(one.ends)}. Have a new one made, put it in the place of "
            "the old one, and restart what shows it.",
            {"certificate": one.what},
        )


async def _clock(arrivals: Arrivals, limit: float) -> Collection[Alert]:
    ahead = arrivals.clock_ahead
    if ahead is None or abs(ahead) < limit:
        return []
    return [
        _alert(
            "",
            "The clock differs from Avara's",
            f"It is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Avara's. At 300 s every webhook is "
            "refused, and URLs end too early or too late: let this machine's clock be set by NTP (timedatectl says "
            "whether it is).",
        )
    ]


async def _signatures(arrivals: Arrivals, limit: int) -> Collection[Alert]:
    if arrivals.unproven < limit:
        return []
    return [
        _alert(
            "",
            "Webhooks are refused: their signature is not right",
            f"{arrivals.unproven} in a row were, the last one because {arrivals.why}. Where Avara sent them, studies "
            "cannot be opened: compare avara.webhook_keys with the key that Avara shows, and this machine's clock with "
            "the right time. Where strangers sent them, nothing has happened: the log has their addresses.",
        )
    ]


async def _silence(of: Watched, quiet: float) -> Collection[Alert]:
    if not await of.journal.run(lambda c: silent_unusually(c, quiet)):
        return []
    return [
        _alert(
            "",
            "No webhook comes, where there usually are some",
            f"None came for {quiet / 3600:g} hours. See whether the public URL can be reached from outside, whether "
            "its reverse proxy runs and its certificate holds, and which URL Avara has; avara-gateway check "
            "says more, and avara-gateway test tries the way.",
        )
    ]


async def _canary(canary: Canary) -> Collection[Alert]:
    if not canary.failure:
        return []
    return [
        _alert(
            "",
            "A study could not be opened as Avara opens it",
            f"Radiologists may not be able to open studies now. {canary.failure}",
        )
    ]


async def _loops(loops: Supervisor, clock: Clock) -> Collection[Alert]:
    return [
        _alert(
            state.name,
            "A part of the gateway ended and was started again",
            f"{state.reason or 'It runs again.'} What it looks after waited meanwhile. The log says at "
            f"{moment(state.last_end or state.since)} what ended it; where that is no fault of a disk or of the "
            "network, report it with that part of the log.",
            {"loop": state.name},
        )
        for state in loops.states()
        if not state.running or (state.last_end and clock.now() - state.last_end < RESTART_TOLD_FOR)
    ]


def _alert(subject: str, title: str, what_to_do: str, facts: dict[str, str] | None = None) -> Alert:
    return Alert("", subject, title, what_to_do, 0.0, facts or {})
