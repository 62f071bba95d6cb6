"""How the gateway stands, in words: one sentence, what is not well and what to do about it, and part by part.

Pure: what was observed goes in, what an operator reads comes out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.admin import CertificateEnd
from gateway.journal import PausedLane
from gateway.runtime import LoopState

SOON = 21 * 86400.0
"""Seconds before its end at which a certificate is spoken of: time enough to have a new one made."""

SILENT_AFTER = 24 * 3600.0
"""Seconds without a webhook after which that is told."""


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
class PacsSeen:
    """A PACS, as it was last seen."""

    name: str
    title: str
    """Its AE title and address."""
    trouble: str
    """What its breaker says; empty where it answers."""
    echoed: float | None = None
    """Unix seconds of the last C-ECHO that it answered."""
    milliseconds: float | None = None
    failure: str = ""
    """Why the latest C-ECHO was not answered."""


@dataclass(frozen=True, slots=True)
class AvaraSeen:
    """Avara's side."""

    last_webhook: float | None
    """Unix seconds of the last webhook whose signature was right; None where none is remembered."""
    refused: int
    """Webhooks that were refused since then, of the last that are remembered."""
    refusal: str
    """The latest refusal, in words."""
    refused_at: float | None


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a running gateway."""

    at: float
    """Unix seconds."""
    probes: Mapping[str, str | None]
    """What ``/health`` proves, by name: None where it works, else why not, or nothing where the log says it."""
    loops: Sequence[LoopState]
    pacs: Sequence[PacsSeen]
    paused: Sequence[PausedLane]
    held: int
    """Jobs that wait for an operator."""
    avara: AvaraSeen
    disk: str
    """How much room ``state_dir`` has; empty where that cannot be told."""
    cached: int
    """Bytes in the cache."""
    certificates: Sequence[CertificateEnd] = ()


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


PROBES = {
    "store": (
        "The object store does not work",
        "Look whether it runs and has room: avara-gateway check says what it answers. Studies that are not yet cached "
        "cannot be opened until then.",
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
}
"""What is said of a failing probe, and what to do about it."""

PLACES = {"store": "Store", "dicom_listener": "DICOM listener", "journal": "Journal", "state_dir": "Disk"}


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
        *_of_pacs(seen, memory), *_of_probes(seen, memory), *_of_loops(seen), *_of_lanes(seen), *_of_avara(seen),
        *_of_certificates(seen), *_of_jobs(seen, memory),
    ]  # fmt: skip


def _of_pacs(seen: Observed, memory: Memory) -> list[Trouble]:
    return [
        Trouble(
            key := f"pacs {pacs.name}",
            f"PACS {pacs.name} does not answer",
            pacs.trouble or pacs.failure,
            f"Look whether it runs at {pacs.title}, and whether a firewall lies between. It is asked again by itself; "
            "what is cached can be opened meanwhile.",
            memory.since(key, seen.at),
        )
        for pacs in seen.pacs
        if pacs.trouble or pacs.failure
    ]


def _of_probes(seen: Observed, memory: Memory) -> list[Trouble]:
    found = []
    for name, why in seen.probes.items():
        if why is not None:
            what, mend = PROBES.get(name, (f"{name} does not work", "The log says why."))
            key = f"probe {name}"
            found.append(Trouble(key, what, why or "the log has the details", mend, memory.since(key, seen.at)))
    return found


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


def _of_avara(seen: Observed) -> list[Trouble]:
    avara = seen.avara
    found = []
    if avara.refused:
        times = "The last webhook was" if avara.refused == 1 else f"The last {avara.refused} webhooks were"
        found.append(
            Trouble(
                "avara refused",
                f"{times} refused",
                avara.refusal,
                "Compare avara.webhook_keys with the key that Avara shows, and this machine's clock with the time. "
                "Where it was not Avara that asked, nothing is to be done.",
                avara.refused_at,
                Mark.WAITS,
            )
        )
    silent = seen.at - avara.last_webhook if avara.last_webhook is not None else 0.0
    if silent > SILENT_AFTER:
        found.append(
            Trouble(
                "avara silent",
                "Avara has not asked for anything for a day",
                "no webhook with a right signature came",
                "Where that is not usual: look whether http.public_url is reached from outside, and whether Avara has "
                "that URL.",
                avara.last_webhook,
                Mark.WAITS,
            )
        )
    return found


def _of_certificates(seen: Observed) -> list[Trouble]:
    found = []
    for certificate in seen.certificates:
        key, where = f"certificate {certificate.what}", certificate.what
        if certificate.ends < seen.at:
            found.append(
                Trouble(key, f"The certificate of {where} has expired", "connections that need it are refused",
                        "Have a new one made, put it in its place, and restart the gateway.", certificate.ends)
            )  # fmt: skip
        elif certificate.ends < seen.at + SOON:
            days = (certificate.ends - seen.at) / 86400
            found.append(
                Trouble(key, f"The certificate of {where} ends in {days:.0f} days", "it is refused from then on",
                        "Have a new one made, put it in its place, and restart the gateway.",
                        certificate.ends - SOON, Mark.WAITS)
            )  # fmt: skip
    return found


def _of_jobs(seen: Observed, memory: Memory) -> list[Trouble]:
    if not seen.held:
        return []
    what = "One job waits for you" if seen.held == 1 else f"{seen.held} jobs wait for you"
    why = "they are kept, and cannot go on as things are" if seen.held > 1 else "it is kept, and cannot go on as it is"
    mend = "Look at it, and decide." if seen.held == 1 else "Look at them, and decide."
    return [Trouble("held", what, why, mend, memory.since("held", seen.at), Mark.WAITS, "/jobs")]


def _pacs(pacs: PacsSeen) -> PartState:
    facts = (("address", pacs.title), ("last C-ECHO", pacs.echoed))
    if pacs.trouble or pacs.failure:
        return PartState(pacs.name, Mark.TROUBLE, pacs.trouble or pacs.failure, facts)
    if pacs.echoed is None:
        return PartState(pacs.name, Mark.UNKNOWN, "not asked yet", facts)
    return PartState(pacs.name, Mark.WELL, f"answers in {pacs.milliseconds or 0:.0f} ms", facts)


def _parts(seen: Observed) -> list[PartState]:
    parts = [_avara(seen.avara)]
    for name, why in seen.probes.items():
        well = {"state_dir": seen.disk or "can be written to", "store": f"{seen.cached / 1e9:.1f} GB of studies"}
        text = well.get(name, "works") if why is None else why or "does not work: see the log"
        parts.append(PartState(PLACES.get(name, name), Mark.WELL if why is None else Mark.TROUBLE, text))
    down = [state.name for state in seen.loops if not state.running]
    text = f"not running: {', '.join(down)}" if down else f"all {len(seen.loops)} run"
    parts.append(PartState("Loops", Mark.TROUBLE if down else Mark.WELL, text))
    if seen.certificates:
        parts.append(_certificates(seen))
    return parts


def _avara(avara: AvaraSeen) -> PartState:
    facts = (("last webhook", avara.last_webhook),)
    if avara.refused:
        return PartState("Avara", Mark.WAITS, f"{avara.refused} refused since the last good webhook", facts)
    if avara.last_webhook is None:
        return PartState("Avara", Mark.UNKNOWN, "no webhook has come yet", facts)
    return PartState("Avara", Mark.WELL, "signatures are right", facts)


def _certificates(seen: Observed) -> PartState:
    first = min(certificate.ends for certificate in seen.certificates)
    mark = Mark.WELL if first > seen.at + SOON else Mark.WAITS if first > seen.at else Mark.TROUBLE
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
