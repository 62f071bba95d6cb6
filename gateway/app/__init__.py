"""The composition root: builds every part out of the configuration, starts and stops them in order.

Nothing else builds objects out of configuration.
"""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.app.canary import canary_of
    from gateway.app.errors import CANNOT_START, AlreadyRunning, Misconfigured, why
    from gateway.app.gateway import Gateway
    from gateway.app.kinds import about
    from gateway.app.run import looking, open_gateway, open_store, serve, serving
    from gateway.app.state import audit_file, journal_file, kept_secret, state_dir
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "CANNOT_START",
    "AlreadyRunning",
    "Gateway",
    "Misconfigured",
    "about",
    "audit_file",
    "canary_of",
    "journal_file",
    "kept_secret",
    "looking",
    "open_gateway",
    "open_store",
    "serve",
    "serving",
    "state_dir",
    "why",
]
