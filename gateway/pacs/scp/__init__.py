"""What a PACS asks of us: our Storage and Verification SCP (PS3.4 Annexes A, B)."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.pacs.scp.acceptance import Seen
    from gateway.pacs.scp.server import StorageScp
    from gateway.pacs.scp.storage import log_refused, take_in
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Seen",
    "StorageScp",
    "log_refused",
    "take_in",
]
