"""What people were told of, with its end: when it came up, how often they were reminded, how long it lasted.

Each is noted in the event store by the transaction that raises, repeats or ends it, so that the search for a study
finds its alerts, too. What stands is known for as long as it does; what is over, for as long as events are.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from gateway.alerts.alert import Alert
from gateway.journal import EventKind, JournalEvent, Transaction, events
from gateway.journal import alerts as table

EVENTS_OF_ONE = 6
"""Events that are read for each alert that is shown; one that stands for long has more, and its record counts them."""

_FACTS = {
    "studyInstanceUid": "study", "studyId": "avara", "reportId": "report", "sopInstanceUid": "instance", "job": "job",
}  # fmt: skip
"""Facts of an alert, and what a key names that has their value."""


@dataclass(frozen=True, slots=True)
class AlertStory:
    """One alert, from its beginning to its end. Times are unix seconds."""

    kind: str
    text: str
    """What was said, with what to do."""
    raised: float
    lasts: bool
    """Whether it stood, or stands, until it was over; else it was told once."""
    ended: float | None = None
    reminders: int = 0

    @property
    def stands(self) -> bool:
        """Whether it is not over."""
        return self.lasts and self.ended is None

    def to_dict(self, now: float) -> dict[str, Any]:
        """For machines; with how many seconds it lasted, until *now* where it stands."""
        lasted = (now if self.stands else self.ended or self.raised) - self.raised
        return dataclasses.asdict(self) | {"stands": self.stands, "lasted": lasted if self.lasts else None}


def note(c: Transaction, alert: Alert) -> None:
    """Keeps that people are told of *alert*, of which it says itself whether it begins, goes on, or is over."""
    state = "ended" if alert.ended else "still" if alert.reminder else "raised" if alert.lasts else "told"
    keys = [f"alert:{_occasion(alert)}", f"kind:{alert.kind}", f"state:{state}"]
    keys += [f"{_FACTS[name]}:{value}" for name, value in alert.facts.items() if name in _FACTS and value]
    text = alert.headline if alert.ended else _said(alert)
    at = alert.at if state in ("raised", "told") else c.now
    kept = tuple(key[: events.MAX_KEY] for key in dict.fromkeys(keys))
    events.write(c, [JournalEvent(at, EventKind.ALERT, text[: events.MAX_TEXT], kept, trouble=not alert.ended)])


def history(c: Transaction, limit: int) -> list[AlertStory]:
    """The alerts that stand, the latest first, and behind them those that are over; *limit* of them."""
    stories: dict[str, AlertStory] = {}
    for event in events.latest(c, EventKind.ALERT, limit * EVENTS_OF_ONE):
        named = dict(key.split(":", 1) for key in event.keys)
        mine, state = named.get("alert", ""), named.get("state", "")
        if state in ("raised", "told"):
            stories[mine] = AlertStory(named.get("kind", ""), event.text, event.at, state == "raised")
        elif mine in stories and state == "ended":
            stories[mine] = dataclasses.replace(stories[mine], ended=event.at)
        elif mine in stories:
            stories[mine] = dataclasses.replace(stories[mine], reminders=stories[mine].reminders + 1)
    for record in table.latest(c, limit):  # what began before events are kept, or an older version raised
        if record.alert is not None:
            alert = Alert.from_json(json.loads(record.alert))
            stories[_occasion(alert)] = AlertStory(
                record.kind, _said(alert), record.raised, alert.lasts, record.ended, record.reminders
            )
    return sorted(stories.values(), key=lambda s: (not s.stands, -(s.ended or s.raised)))[:limit]


def _occasion(alert: Alert) -> str:
    """The same for all that is told of this one."""
    return dataclasses.replace(alert, ended=False, reminder=0).key


def _said(alert: Alert) -> str:
    return f"{alert.headline}. {alert.what_to_do}"
