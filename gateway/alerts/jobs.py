"""Raises alerts and ends them: each as one durable job ``alert.send`` for every channel.

An alert is raised in the transaction that gives reason for it, once for the same kind and subject, and ended once; of
one that lasts people are reminded every day in between. One that does not last and is never ended, such as that of a
critical report, is forgotten after :data:`KEPT_FOR`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

from gateway.alerts.alert import Alert
from gateway.alerts.stories import note
from gateway.journal import Payload, Transaction, jobs
from gateway.journal import alerts as table

log = logging.getLogger(__name__)

SEND = "alert.send"

REMIND_AFTER = 86400.0
"""Seconds after which people are told again of what still stands."""

KEPT_FOR = 90 * 86400.0
"""Seconds for which an alert is remembered; one that is raised again later is told of again."""


@dataclasses.dataclass(frozen=True, slots=True)
class SendAlert(Payload):
    """What ``alert.send`` works with. Form 0 had the same fields."""

    channel: str
    """By the name that the configuration calls it."""
    alert: Mapping[str, Any]
    """As :meth:`Alert.to_json` gives it."""

    @property
    def lane(self) -> str:
        """As :class:`Payload` has it."""
        return self.channel


def raise_alert(c: Transaction, channels: Collection[str], alert: Alert) -> bool:
    """Lets *alert* be told on every channel, by name; False where it was raised before and has not ended."""
    table.forget(c, before=alert.at - KEPT_FOR)
    known = table.get(c, alert.kind, alert.subject)
    if known is not None and known.ended is None:
        return False
    occasion = 1 if known is None else known.occasion + 1
    alert = dataclasses.replace(alert, occasion=occasion, ended=False, reminder=0)
    kept = json.dumps(alert.to_json())
    table.put(c, table.AlertRecord(alert.kind, alert.subject, occasion, alert.at, None, kept, alert.lasts, c.now))
    log.warning("alert %s: %s. %s", alert.kind, alert.headline, alert.what_to_do)
    _tell(c, channels, alert)
    return True


def end_alert(c: Transaction, channels: Collection[str], alert: Alert) -> bool:
    """Lets it be told that *alert* is over, where it was raised and had not ended; its ``at`` is now."""
    known = table.get(c, alert.kind, alert.subject)
    if known is None or known.ended is not None:
        return False
    table.put(c, dataclasses.replace(known, ended=alert.at))
    alert = dataclasses.replace(alert, occasion=known.occasion, ended=True)
    log.info("alert %s is over: %s", alert.kind, alert.headline)
    _tell(c, channels, alert)
    return True


def remind(c: Transaction, channels: Collection[str]) -> int:
    """Tells again of what lasts, and of which nobody was told for a day; of how many."""
    due = table.lasting(c, told_before=c.now - REMIND_AFTER)
    for record in due:
        again = record.reminders + 1
        table.put(c, dataclasses.replace(record, told=c.now, reminders=again))
        assert record.alert is not None, "what lasts was raised by a version that keeps what it says"
        alert = dataclasses.replace(Alert.from_json(json.loads(record.alert)), reminder=again)
        log.warning("alert %s still stands: %s. %s", alert.kind, alert.headline, alert.what_to_do)
        _tell(c, channels, alert)
    return len(due)


def _tell(c: Transaction, channels: Collection[str], alert: Alert) -> None:
    note(c, alert)
    for channel in channels:
        jobs.add(c, SEND, f"{alert.key} {channel}", SendAlert(channel, alert.to_json()))
