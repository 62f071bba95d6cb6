"""What keeps an alert from reaching people."""

from __future__ import annotations

from gateway.runtime import GatewayError


class AlertError(GatewayError):
    """A channel did not take an alert; the text names the likely fix, and no secret."""


class AlertRefused(AlertError):
    """The receiver will not have the alert as things are configured."""


class AlertFailed(AlertError):
    """The receiver was not reached, failed, or was too slow."""

    transient = True
