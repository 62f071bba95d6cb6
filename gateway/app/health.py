"""What ``GET /health`` tells of a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.admin import Health, Unhealthy
from gateway.studies import CacheFull

if TYPE_CHECKING:
    from gateway.app.gateway import Gateway


def health_of(gateway: Gateway) -> Health:
    """Its parts, each looked at anew."""

    async def trail() -> None:
        if gateway.trail.check():
            raise Unhealthy("the audit trail cannot be written: the log says why")

    async def access() -> None:
        if gateway.policy.trouble:
            raise Unhealthy("the access policy cannot be asked as it is meant to be: the log says why")

    async def room() -> None:
        try:
            await gateway.cache.check()
        except CacheFull as e:
            raise Unhealthy(f"cache: {e}") from e

    return Health(
        {
            "store": gateway.judgement.store.look,
            "dicom_listener": gateway.echo_self,
            "journal": lambda: gateway.journal.cached_study("0"),
            "state_dir": gateway.state_dir.check,
            "audit": trail,
            **({"access": access} if gateway.policy.needed else {}),
            "cache": room,
        },
        gateway.loops,
        lambda: {answer.name: answer.since for answer in gateway.judgement.answering.answers()},
        lambda: {
            f"{lane.kind} {lane.lane}".rstrip(): lane.since if lane.paused else None for lane in gateway.worker.lanes()
        },
        lambda: {} if gateway.audit_forwarder is None else {"audit syslog": gateway.audit_forwarder.since},
    )
