"""What can go wrong with the object store. The text of an error is for the operator and names the likely fix."""

from __future__ import annotations

from gateway.runtime import GatewayError


class StoreError(GatewayError):
    """Base of everything that the object store did to us.

    ``transient`` says whether the same request may succeed later without anybody changing anything.
    """

    transient = False


class StoreUnavailable(StoreError):
    """It cannot be reached, does not answer in time, or answers with a fault of its own."""

    transient = True


class StoreFull(StoreError):
    """It has no room left."""

    transient = True


class StoreDenied(StoreError):
    """It refuses our credentials, our clock or our bucket: everything, for a reason that lies in no object. What waited
    meanwhile goes on by itself once that is mended, and is not left to an operator one by one."""

    transient = True


class ObjectNotFound(StoreError):
    """There is no object under this key."""
