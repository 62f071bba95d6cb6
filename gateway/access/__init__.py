"""The hospital's own policy: which of the studies that its PACS give the gateway Avara may have.

A room of its own, below the use cases, since each of them asks it the same.
"""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.access.decision import DecisionFailed, DecisionPoint, Place
    from gateway.access.lists import DenyList
    from gateway.access.policy import AccessPolicy
    from gateway.access.rules import Facts, Purpose, Refused, Rules, Verdict, folded
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "AccessPolicy",
    "DecisionFailed",
    "DecisionPoint",
    "DenyList",
    "Facts",
    "Place",
    "Purpose",
    "Refused",
    "Rules",
    "Verdict",
    "folded",
]
