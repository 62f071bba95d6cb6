"""What is noted of what happens, in words: the time line that ``trace`` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from gateway.admin import STUDY_ID, Own
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


SLOW_AFTER = 10.0
"""Seconds that a fetch may take before it is looked at whether it was slow."""

SLOW_BELOW = 5.0
"""Megabytes a second below which a fetch is slow, unless it brought many small instances."""

SLOW_BELOW_INSTANCES = 20.0
"""Instances a second below which it is."""

MOST_PARTS = 15
"""Series, and instances, of a study by which it can be found."""

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


def of_patients(own: Own, told: Callable[[Flight, Outcome, float], None]) -> Callable[[Flight, Outcome, float], None]:
    """Leaves the synthetic study out, which is no patient's."""

    def tell(flight: Flight, outcome: Outcome, seconds: float) -> None:
        if flight.study_instance_uid != own.study_instance_uid:
            told(flight, outcome, seconds)

    return tell


def dropped(events: EventLog) -> Callable[[str, str], None]:
    """Notes that a study left the cache, and why."""

    def note(study_instance_uid: str, why: str) -> None:
        events.note(EventKind.CACHE, why, [f"study:{study_instance_uid}"])

    return note


def replaced(events: EventLog) -> Callable[[str, str], None]:
    """Notes that a study is not what its PACS sends, and why it is thought so."""

    def note(study_instance_uid: str, why: str) -> None:
        events.note(EventKind.CACHE, why, [f"study:{study_instance_uid}"], trouble=True)

    return note


def fetches(events: EventLog) -> Callable[[Flight, Outcome, float], None]:
    """Notes how fetches ended. One that only found that nothing has changed is no news."""

    def note(flight: Flight, outcome: Outcome, seconds: float) -> None:
        if flight.gone:
            gone = "in no PACS any more: what was here of it is removed"
            events.note(EventKind.CACHE, gone, [f"study:{flight.study_instance_uid}"], trouble=True)
        if changed := _changed(flight):
            events.note(EventKind.CACHE, changed, [f"study:{flight.study_instance_uid}"], trouble=True)
        if (isinstance(outcome, Complete) and outcome.index == flight.held) or flight.gave_way:
            return
        text, trouble = _told(flight, outcome)
        slow = slowness(flight, seconds) if isinstance(outcome, Complete | Partial) else ""
        record = flight.record
        events.note(
            EventKind.FETCH,
            f"{text}; {seconds:.1f} s{slow}",
            [f"study:{flight.study_instance_uid}", *_parts(flight)],
            patient_keys=[record.accession_number, record.patient_id] if record is not None else [],
            trouble=trouble or bool(slow),
        )

    return note


def _parts(flight: Flight) -> list[str]:
    """Keys by which a study is found that name a part of it: its series, and instances that did not come."""
    series = dict.fromkeys(i.series_instance_uid for i in flight.stored.values() if i.series_instance_uid)
    return [
        *(f"series:{uid}" for uid in list(series)[:MOST_PARTS]),
        *(f"instance:{uid}" for uid in flight.missing[:MOST_PARTS]),
    ]


def slowness(flight: Flight, seconds: float) -> str:
    """Whether a fetch of so many *seconds* was slow, what kept it, and what to do; empty where it was not."""
    came = [flight.stored[uid].size for uid in flight.came if uid in flight.stored]
    if seconds < SLOW_AFTER or not came or flight.first_arrival is None:
        return ""
    size, number = sum(came) / 1e6 / seconds, len(came) / seconds
    if size >= SLOW_BELOW or number >= SLOW_BELOW_INSTANCES:
        return ""
    waited, first = min(flight.waited_for_store, seconds), max(flight.first_arrival - flight.began, 0.0)
    pace = f": slow, {size:.1f} MB and {number:.1f} instances a second, the first after {first:.1f} s"
    if waited > seconds / 2:
        return f"{pace}; {waited:.1f} s of it were waited for the store: look at the store's disk and load"
    return (
        f"{pace}; the store kept it for {waited:.1f} s only, so it is PACS {flight.pacs} or the network to it: look at "
        "its load and at its limit of associations; another method in pacs[].retrieve, or pacs[].parallel_series, may "
        "be faster"
    )


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
            mend = f"; look why in the log of PACS {flight.pacs}; a second method in pacs[].retrieve may bring it"
            mend = "" if outcome.refused or flight.refusal or flight.store_failure else mend
            return f"partial: {len(index.instances)} instances{source}, {lacks}: {reason}{mend}", True
        case Unconfirmed(index, _):
            return f"{len(index.instances)} instances as they were sent: {outcome.reason}", True
        case NotFound():
            asked = ", ".join(sorted(flight.denied)) or "each"
            return (
                f"in no PACS: {asked} was asked, and none has it for our AE title: look for its Study Instance UID "
                "there; where it is there, let it be shown to our title; where it is in another PACS, add that to pacs"
            ), True
        case Unreachable(reason) | NotSent(reason) | Disputed(reason):
            return f"not fetched{source}: {reason}", True
        case NotStored(reason):
            return f"not stored: {reason}", True
