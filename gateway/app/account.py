"""What is noted of what happens, in words: the time line that ``trace`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from gateway.admin import STUDY_ID
from gateway.avara import Answered, Refused
from gateway.journal import EventKind, EventLog
from gateway.studies import (
    Complete,
    Disputed,
    Flight,
    NotFound,
    NotSent,
    NotStored,
    Outcome,
    Partial,
    Unconfirmed,
    Unreachable,
    in_words,
)

_NAMES = {
    "study_instance_uid": "study",
    "series_instance_uid": "series",
    "sop_instance_uid": "instance",
    "study_id": "avara",
    "report_id": "report",
}
"""Fields of an event's data, and what a key names that has their value."""


def webhooks(events: EventLog) -> Callable[[Answered | Refused], None]:
    """Notes what Avara asked and was answered, and who was turned away."""

    def note(what: Answered | Refused) -> None:
        if isinstance(what, Refused):
            keys = [f"webhook:{what.webhook_id}" if what.webhook_id else None, f"peer:{what.remote}"]
            events.note(EventKind.REFUSED, f"webhook from {what.remote} refused: {what.reason}", keys, trouble=True)
            return
        data = what.event.data
        keys = [f"{name}:{value}" for field, name in _NAMES.items() if (value := getattr(data, field, None))]
        keys += [f"webhook:{what.webhook_id}", f"event:{what.event.id}"]
        text = (
            f"{what.event.type} {what.event.id} (webhook {what.webhook_id}): {what.outcome}; {what.status} in "
            f"{what.milliseconds:.0f} ms, from {what.remote}"
        )
        patient = getattr(data, "external_patient_id", None)
        events.note(EventKind.WEBHOOK, text, keys, patient_keys=[patient] if patient else [], trouble=what.trouble)

    return note


What = ParamSpec("What")


def each(*told: Callable[What, None]) -> Callable[What, None]:
    """Tells each of them."""

    def tell(*what: What.args, **named: What.kwargs) -> None:
        for one in told:
            one(*what, **named)

    return tell


def operators(events: EventLog) -> Callable[[str, str], None]:
    """Notes what an operator did with a study."""

    def note(study_instance_uid: str, what: str) -> None:
        events.note(EventKind.OPERATOR, what, [f"study:{study_instance_uid}"])

    return note


def of_avara(told: Callable[[Answered | Refused], None]) -> Callable[[Answered | Refused], None]:
    """Leaves the gateway's own canary out."""

    def tell(what: Answered | Refused) -> None:
        if isinstance(what, Refused) or getattr(what.event.data, "study_id", None) != STUDY_ID:
            told(what)

    return tell


def dropped(events: EventLog) -> Callable[[str, str], None]:
    """Notes that a study left the cache, and why."""

    def note(study_instance_uid: str, why: str) -> None:
        events.note(EventKind.CACHE, why, [f"study:{study_instance_uid}"])

    return note


def fetches(events: EventLog) -> Callable[[Flight, Outcome, float], None]:
    """Notes how fetches ended. One that only found that nothing has changed is no news."""

    def note(flight: Flight, outcome: Outcome, seconds: float) -> None:
        if changed := _changed(flight):
            events.note(EventKind.CACHE, changed, [f"study:{flight.study_instance_uid}"], trouble=True)
        if isinstance(outcome, Complete) and outcome.index == flight.held:
            return
        text, trouble = _told(flight, outcome)
        record = flight.record
        events.note(
            EventKind.FETCH,
            f"{text}; {seconds:.1f} s",
            [f"study:{flight.study_instance_uid}"],
            patient_keys=[record.accession_number, record.patient_id] if record is not None else [],
            trouble=trouble,
        )

    return note


def _changed(flight: Flight) -> str:
    """What the PACS has changed of a study that was held; empty where nothing."""
    if flight.corrected:
        return f"the PACS has corrected {in_words(flight.corrected)}: what was here is not given any more"
    was = flight.differences
    counts = {"withdrawn": was.withdrawn, "replaced": was.replaced, "shown again": was.readmitted}
    told = [f"{len(uids)} {how} ({', '.join(sorted(uids)[:3])})" for how, uids in counts.items() if uids]
    return f"not what it was in the PACS: {'; '.join(told)}" if told else ""


def _told(flight: Flight, outcome: Outcome) -> tuple[str, bool]:
    source = f" from PACS {flight.pacs}" if flight.pacs else ""
    match outcome:
        case Complete(index):
            return f"complete: {len(index.instances)} instances{source}", False
        case Partial(index, missing, reason):
            named = f" ({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''})" if missing else ""
            lacks = f"{len(missing)} missing{named}" if missing else "perhaps not all"
            return f"partial: {len(index.instances)} instances{source}, {lacks}: {reason}", True
        case Unconfirmed(index, _):
            return f"{len(index.instances)} instances as they were sent: {outcome.reason}", True
        case NotFound():
            return "in no PACS: each was asked, and none has it", True
        case Unreachable(reason) | NotSent(reason) | Disputed(reason):
            return f"not fetched{source}: {reason}", True
        case NotStored(reason):
            return f"not stored: {reason}", True
