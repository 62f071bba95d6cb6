"""Does ``alert.send`` jobs: sends one alert on one channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.alerts.alert import Alert
from gateway.alerts.jobs import SendAlert
from gateway.journal import CannotBeDone, Job, JobDone


class AlertChannel(Protocol):
    """A way in which an alert reaches people."""

    async def send(self, alert: Alert) -> None:
        """Sends one alert. Raises AlertError."""

    async def check(self) -> None:
        """Whether one could be sent; none is. Raises AlertError."""


class AlertDelivery:
    """The handler of ``alert.send``."""

    def __init__(self, channels: Mapping[str, AlertChannel]) -> None:
        """*channels* by the names that jobs call them."""
        self._channels = channels

    async def __call__(self, job: Job) -> JobDone:
        """Sends one alert on one channel. Raises CannotBeDone, AlertError, UnreadablePayload."""
        payload = job.read(SendAlert)
        name = payload.channel
        channel = self._channels.get(name)
        if channel is None:
            raise CannotBeDone(f"alerts are not sent by {name} any more: discard this job")
        await channel.send(Alert.from_json(payload.alert))
        return JobDone(f"sent by {name}")
