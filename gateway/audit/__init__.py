"""The audit trail: who was given what, from where, and with what outcome.

Apart from the log and from the events of ``trace``, which are for people and may lose something: this one is for those
who ask a year later whether it is whole.
"""

from gateway.audit.file import AuditFile, NotWritten
from gateway.audit.trail import AuditTrail

__all__ = ["AuditFile", "AuditTrail", "NotWritten"]
