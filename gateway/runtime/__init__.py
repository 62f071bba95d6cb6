"""What every room stands on: the root of all errors, the clock, supervised tasks. Knows nothing of DICOM or Avara."""

from typing import TYPE_CHECKING

from gateway.runtime.exports import on_demand

if TYPE_CHECKING:
    from gateway.runtime import log_ids, printable
    from gateway.runtime.absent import leave_out
    from gateway.runtime.accept import AcceptLoop
    from gateway.runtime.clock import SYSTEM_CLOCK, Clock, wait_for
    from gateway.runtime.confined import Ended, Limits, run_confined
    from gateway.runtime.descriptors import raise_limit
    from gateway.runtime.errors import GatewayError, remark_of
    from gateway.runtime.lifecycle import Part, loop, opened, running
    from gateway.runtime.log_ids import PARENT, begun_by, bind, bound, current, next_association, step
    from gateway.runtime.network import reason
    from gateway.runtime.patience import Patience
    from gateway.runtime.seldom import Seldom
    from gateway.runtime.signals import StopSignals
    from gateway.runtime.spans import span, trace_by
    from gateway.runtime.spools import NoRoom, SpoolFile, Spools
    from gateway.runtime.supervise import Loop, LoopEnded, LoopState, Supervisor, progress
    from gateway.runtime.systemd import ServiceManager
    from gateway.runtime.threads import DaemonThreads, in_thread
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "PARENT",
    "SYSTEM_CLOCK",
    "AcceptLoop",
    "Clock",
    "DaemonThreads",
    "Ended",
    "GatewayError",
    "Limits",
    "Loop",
    "LoopEnded",
    "LoopState",
    "NoRoom",
    "Part",
    "Patience",
    "Seldom",
    "ServiceManager",
    "SpoolFile",
    "Spools",
    "StopSignals",
    "Supervisor",
    "begun_by",
    "bind",
    "bound",
    "current",
    "in_thread",
    "leave_out",
    "log_ids",
    "loop",
    "next_association",
    "on_demand",
    "opened",
    "printable",
    "progress",
    "raise_limit",
    "reason",
    "remark_of",
    "run_confined",
    "running",
    "span",
    "step",
    "trace_by",
    "wait_for",
]
