"""The audit trail: who was given what, from where, and with what outcome.

Apart from the log and from the events of ``trace``, which are for people and may lose something: this one is for those
who ask a year later whether it is whole.
"""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.audit.chain import Entry, Head
    from gateway.audit.file import AuditFile, NotWritten
    from gateway.audit.forward import Forwarder
    from gateway.audit.syslog import NotSent, Syslog
    from gateway.audit.trail import AuditTrail
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "AuditFile",
    "AuditTrail",
    "Entry",
    "Forwarder",
    "Head",
    "NotSent",
    "NotWritten",
    "Syslog",
]
