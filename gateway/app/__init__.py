"""The composition root: builds every part out of the configuration, starts and stops them in order.

Nothing else builds objects out of configuration.
"""

from gateway.app.canary import canary_of
from gateway.app.errors import CANNOT_START, AlreadyRunning, Misconfigured, why
from gateway.app.gateway import Gateway
from gateway.app.run import journal_file, looking, open_gateway, open_store, serve, serving, state_dir

__all__ = [
    "CANNOT_START",
    "AlreadyRunning",
    "Gateway",
    "Misconfigured",
    "canary_of",
    "journal_file",
    "looking",
    "open_gateway",
    "open_store",
    "serve",
    "serving",
    "state_dir",
    "why",
]
