"""What keeps an alert from reaching people."""

from __future__ import annotations

from gateway.runtime.errors import GatewayError


class AlertError(GatewayError):
    """A channel did not take an alert; the text names the likely fix, and no secret."""
