"""The root of what goes wrong with the journal."""

from __future__ import annotations

from gateway.runtime import GatewayError


class JournalError(GatewayError):
    """The journal cannot be used. The text is for the operator and names the likely fix."""

    transient = True
