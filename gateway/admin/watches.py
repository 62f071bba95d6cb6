"""What people are told of when it goes wrong and stays so: each a watch, with a text that says what to do.

How most of it stands is judged in :mod:`gateway.admin.judgement`, as the page and ``/health`` have it.

Nothing here names a patient or a study: alerts leave the clinical systems.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.admin.arrivals import Arrivals
from gateway.admin.canary import Canary
from gateway.admin.health import moment
from gateway.admin.judgement import Judgement, Mark, Trouble, of_part
from gateway.alerts import Alert, Watch
from gateway.config import AlertsConfig
from gateway.journal import Journal, commitments
from gateway.runtime import Clock, Supervisor

RESTART_TOLD_FOR = 3600.0
"""Seconds for which a loop has to run before its restart is over."""

AUDIT_BEHIND_FOR = 900.0
"""Seconds for which an audit repository may be away before people are told: it is restarted, too."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at."""

    judgement: Judgement
    journal: Journal
    arrivals: Arrivals
    loops: Supervisor
    clock: Clock
    canary: Canary | None = None
    access_trouble: Callable[[], str] = lambda: ""
    """What is wrong with the access policy now; empty where nothing is."""
    audit_trouble: Callable[[], str] = lambda: ""
    """Why audit messages do not reach their repository now; empty where they do."""


def watches(of: Watched, limits: AlertsConfig) -> list[Watch]:
    """Every watch there is."""
    judgement = of.judgement
    found = [
        Watch("pacs.away", lambda: _pacs(judgement), limits.pacs_away_for),
        Watch("store.failing", lambda: _store(judgement), limits.store_away_for),
        Watch("disk.low", lambda: _disk(judgement)),
        Watch("commitment.overdue", lambda: _commitments(of.journal, limits.commitment_overdue)),
        Watch("certificate.ends", lambda: _certificates(judgement)),
        Watch("clock.off", lambda: _clock(of.arrivals, limits.clock_off)),
        Watch("webhook.signatures", lambda: _signatures(judgement, limits.signature_failures)),
        Watch("access.failing", lambda: _access(of.access_trouble())),
        Watch("audit.behind", lambda: _audit(of.audit_trouble()), AUDIT_BEHIND_FOR),
        Watch("loop.restarted", lambda: _loops(of.loops, of.clock)),
    ]
    if (canary := of.canary) is not None:
        found.append(Watch("canary.failed", lambda: _canary(canary)))
    if limits.no_webhook_for is not None:
        found.append(Watch("webhook.none", lambda: _silence(judgement)))
    return found


async def _pacs(judgement: Judgement) -> Collection[Alert]:
    await judgement.answering.ask()
    return [_told("A PACS does not answer", one, one.name, {"pacs": one.name}) for one in judgement.of_pacs()]


async def _store(judgement: Judgement) -> Collection[Alert]:
    return [_told("The store fails", one) for one in await judgement.of_store()]


async def _disk(judgement: Judgement) -> Collection[Alert]:
    return [_told("The disk of state_dir fails or is nearly full", one) for one in await judgement.of_disk()]


async def _commitments(journal: Journal, limit: float) -> Collection[Alert]:
    silent = await journal.run(lambda c: commitments.silent(c, asked_before=c.now - limit))
    if not silent:
        return []
    return [
        _alert(
            "",
            "A PACS owes storage commitments",
            f"For {silent} objects it was asked, and it has not committed to them, so our copies are kept. See in its "
            "queue whether it works on them, and whether it reports to our AE title, address and port; avara-gateway "
            "jobs list shows them.",
            {"objects": str(silent)},
        )
    ]


async def _certificates(judgement: Judgement) -> Collection[Alert]:
    return [
        _told(
            "A certificate has ended" if one.mark is Mark.TROUBLE else "A certificate ends soon",
            one,
            one.key.partition(" ")[2],
            {"certificate": one.name},
        )
        for one in await judgement.of_certificates()
    ]


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


async def _signatures(judgement: Judgement, limit: int) -> Collection[Alert]:
    if judgement.arrivals.unproven < limit:
        return []
    return [_told("Webhooks are refused: their signature is not right", one) for one in judgement.of_signatures()]


async def _access(trouble: str) -> Collection[Alert]:
    if not trouble:
        return []
    return [_told("The access policy cannot be asked as it is meant to be", of_part("access", trouble))]


async def _audit(trouble: str) -> Collection[Alert]:
    if not trouble:
        return []
    return [
        _alert(
            "",
            "Audit messages do not reach their repository",
            "They wait in the audit trail, in order, and are sent once it takes them: none is lost. See that it runs "
            f"and that the network lets us through; avara-gateway check says more. {trouble}",
        )
    ]


async def _silence(judgement: Judgement) -> Collection[Alert]:
    return [_told("No webhook comes, where there usually are some", one) for one in await judgement.of_silence()]


async def _canary(canary: Canary) -> Collection[Alert]:
    if not canary.failure:
        return []
    return [
        _alert(
            "",
            "What Avara does could not be done by the canary",
            f"Radiologists may not be able to open studies now, or to send captures. {canary.failure}",
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


def _told(title: str, trouble: Trouble, subject: str = "", facts: dict[str, str] | None = None) -> Alert:
    """An alert of a trouble; its title is that of all of its kind, so that rules can go by it."""
    return _alert(subject, title, f"{trouble.mend} {trouble.what}: {trouble.why}", facts)


def _alert(subject: str, title: str, what_to_do: str, facts: dict[str, str] | None = None) -> Alert:
    return Alert("", subject, title, what_to_do, 0.0, facts or {})
