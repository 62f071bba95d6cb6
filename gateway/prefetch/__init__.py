"""Studies that are here before anybody asks: what is new, what was pushed, what will be compared with."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.prefetch.place import Place
    from gateway.prefetch.polling import Poller, Steps
    from gateway.prefetch.prefetcher import Prefetcher
    from gateway.prefetch.rules import Rule
    from gateway.prefetch.search import Chooser, Priors, WallClock
    from gateway.prefetch.work import Budget
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Budget",
    "Chooser",
    "Place",
    "Poller",
    "Prefetcher",
    "Priors",
    "Rule",
    "Steps",
    "WallClock",
]
