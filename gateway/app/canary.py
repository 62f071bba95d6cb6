"""The canary, out of the configuration."""

from __future__ import annotations

from gateway.admin import Canary
from gateway.config import Config
from gateway.runtime import SYSTEM_CLOCK, Clock


def canary_of(config: Config, clock: Clock = SYSTEM_CLOCK) -> Canary | None:
    """What opens a study as Avara would; None where there is no key to sign with. Raises OSError."""
    if not config.avara.webhook_keys:
        return None
    origin = config.avara.allowed_origins[0]
    ca_file = config.canary.ca_file
    return Canary(
        config.gateway_url + config.avara.path,
        config.avara.webhook_keys[0].get_secret_value(),
        origin=f"https://{config.avara.domain}" if origin == "*" else origin,
        answer_within=config.avara.answer_within,
        ca_file=str(ca_file) if ca_file else None,
        clock=clock,
    )
