"""How the gateway stands, in words: one sentence, what is not well and what to do about it, and part by part.

Pure: what was observed goes in, what an operator reads comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.admin import REFUSED, Answer, CertificateEnd, Mark, Trouble, of_certificate, of_pacs, of_part
from gateway.journal import PausedLane
from gateway.page.prefetched import PrefetchSeen, in_words
from gateway.runtime import LoopState


@dataclass(frozen=True, slots=True)
class PartState:
    """A part of the gateway, or something that it needs."""

    name: str
    mark: Mark
    text: str
    """In a few words."""
    facts: tuple[tuple[str, str | float | None], ...] = ()
    """Names and values; a number is a moment, in unix seconds."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a running gateway."""

    at: float
    """Unix seconds."""
    probes: Mapping[str, str | None]
    """What ``/health`` proves, by name: None where it works, else why not, or nothing where the log says it."""
    since: Mapping[str, float]
    """Unix seconds since when each of these fails that does."""
    loops: Sequence[LoopState]
    pacs: Sequence[Answer]
    judged: Sequence[Trouble]
    """What else is wrong, by the judgement of :mod:`gateway.admin`."""
    paused: Sequence[PausedLane]
    held: int
    """Jobs that wait for an operator."""
    last_webhook: float | None
    """Unix seconds of the last webhook whose signature was right; None where none is remembered."""
    room: str
    """How much of it ``state_dir`` has; empty where that cannot be told."""
    cached: int
    """Bytes in the cache."""
    certificates: Sequence[CertificateEnd] = ()
    prefetch: PrefetchSeen | None = None
    """None where nothing is prefetched, or that cannot be read."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the page's first screen says."""

    at: float
    sentence: str
    mark: Mark
    troubles: tuple[Trouble, ...]
    pacs: tuple[PartState, ...]
    parts: tuple[PartState, ...]


@dataclass(slots=True)
class Memory:
    """Since when troubles are known that do not say so themselves."""

    first: dict[str, float] = field(default_factory=dict)

    def since(self, key: str, now: float) -> float:
        """When it was first seen."""
        return self.first.setdefault(key, now)

    def forget_others(self, keys: Sequence[str]) -> None:
        """What is over begins anew when it comes again."""
        self.first = {key: at for key, at in self.first.items() if key in keys}


PREFETCH_LOOP = "prefetch"
"""The loop that works off what is to be prefetched."""

PLACES = {
    "store": "Store", "dicom_listener": "DICOM listener", "journal": "Journal", "state_dir": "Disk",
    "cache": "Cache", "audit": "Audit trail", "access": "Access policy",
}  # fmt: skip


def judge(seen: Observed, memory: Memory) -> Standing:
    """What is to be said of what was seen."""
    troubles = sorted(_troubles(seen, memory), key=lambda t: (t.mark is not Mark.TROUBLE, t.since or seen.at))
    memory.forget_others([t.key for t in troubles])
    urgent = [t for t in troubles if t.mark is Mark.TROUBLE]
    waiting = len(troubles) - len(urgent)
    if urgent:
        more = f", and {len(urgent) - 1} more" if len(urgent) > 1 else ""
        sentence, mark = f"{urgent[0].what}{more}.", Mark.TROUBLE
    elif waiting:
        sentence, mark = f"All works; {troubles[0].what[0].lower()}{troubles[0].what[1:]}.", Mark.WAITS
    else:
        sentence, mark = "All is well.", Mark.WELL
    return Standing(seen.at, sentence, mark, tuple(troubles), tuple(map(_pacs, seen.pacs)), tuple(_parts(seen)))


def _troubles(seen: Observed, memory: Memory) -> list[Trouble]:
    return [
        *_of_pacs(seen), *_of_probes(seen), *_of_loops(seen), *_of_lanes(seen), *seen.judged, *_of_jobs(seen, memory),
    ]  # fmt: skip


def _of_pacs(seen: Observed) -> list[Trouble]:
    return [trouble for pacs in seen.pacs if (trouble := of_pacs(pacs))]


def _of_probes(seen: Observed) -> list[Trouble]:
    return [of_part(name, why, seen.since.get(name)) for name, why in seen.probes.items() if why is not None]


def _of_loops(seen: Observed) -> list[Trouble]:
    return [
        Trouble(
            f"loop {state.name}", f"“{state.name}” is not running", state.detail or state.reason,
            "It is started again by itself. Where that does not help, the log says what ends it; restart the gateway.",
            state.since,
        )
        for state in seen.loops
        if not state.running
    ]  # fmt: skip


def _of_lanes(seen: Observed) -> list[Trouble]:
    return [
        Trouble(
            f"lane {lane.kind} {lane.lane}",
            f"{kind_in_words(lane.kind).capitalize()} cannot be brought to {lane.lane}",
            f"{lane.failures} attempts in a row have failed: {lane.reason}",
            "Put right what it says. It is tried again by itself, and nothing is lost meanwhile.",
            lane.since, link="/jobs",
        )
        for lane in seen.paused
    ]  # fmt: skip


def _of_jobs(seen: Observed, memory: Memory) -> list[Trouble]:
    if not seen.held:
        return []
    what = "One job waits for you" if seen.held == 1 else f"{seen.held} jobs wait for you"
    why = "they are kept, and cannot go on as things are" if seen.held > 1 else "it is kept, and cannot go on as it is"
    mend = "Look at it, and decide." if seen.held == 1 else "Look at them, and decide."
    return [Trouble("held", what, why, mend, memory.since("held", seen.at), Mark.WAITS, "/jobs")]


def _pacs(pacs: Answer) -> PartState:
    facts = (("address", pacs.where), ("last answer", pacs.answered))
    if pacs.failure:
        return PartState(pacs.name, Mark.TROUBLE, pacs.failure, facts)
    if pacs.answered is None:
        return PartState(pacs.name, Mark.UNKNOWN, "not asked yet", facts)
    took = "" if pacs.milliseconds is None else f" in {pacs.milliseconds:.0f} ms"
    return PartState(pacs.name, Mark.WELL, f"answers{took}", facts)


def _parts(seen: Observed) -> list[PartState]:
    parts = [_avara(seen)]
    for name, why in seen.probes.items():
        well = {"state_dir": seen.room or "can be written to", "store": f"{seen.cached / 1e9:.1f} GB of studies"}
        text = well.get(name, "works") if why is None else why or "does not work: see the log"
        parts.append(PartState(PLACES.get(name, name), Mark.WELL if why is None else Mark.TROUBLE, text))
    down = [state.name for state in seen.loops if not state.running]
    text = f"not running: {', '.join(down)}" if down else f"all {len(seen.loops)} run"
    parts.append(PartState("Loops", Mark.TROUBLE if down else Mark.WELL, text))
    if seen.prefetch is not None:
        mark = Mark.TROUBLE if PREFETCH_LOOP in down else Mark.WELL
        parts.append(PartState("Prefetch", mark, in_words(seen.prefetch)))
    if seen.certificates:
        parts.append(_certificates(seen))
    return parts


def _avara(seen: Observed) -> PartState:
    facts = (("last webhook", seen.last_webhook),)
    for trouble in seen.judged:
        if trouble.key == REFUSED:
            return PartState("Avara", trouble.mark, f"{trouble.what[0].lower()}{trouble.what[1:]}", facts)
    if seen.last_webhook is None:
        return PartState("Avara", Mark.UNKNOWN, "no webhook has come yet", facts)
    return PartState("Avara", Mark.WELL, "signatures are right", facts)


def _certificates(seen: Observed) -> PartState:
    first = min(certificate.ends for certificate in seen.certificates)
    judged = [of_certificate(certificate, seen.at) for certificate in seen.certificates]
    marks = {trouble.mark for trouble in judged if trouble}
    mark = next((m for m in (Mark.TROUBLE, Mark.WAITS) if m in marks), Mark.WELL)
    return PartState("Certificates", mark, f"{len(seen.certificates)} in use", (("the first ends", first),))


def kind_in_words(kind: str) -> str:
    """What a kind of job is about, in words."""
    return KINDS.get(kind, kind)


KINDS = {
    "capture.check": "captures to be looked at",
    "capture.store": "captures",
    "report.fetch": "reports from Avara",
    "report.pacs": "reports",
    "report.store": "reports",
    "report.hl7": "reports by HL7",
    "report.folder": "reports in a folder",
    "alert.send": "alerts",
}
