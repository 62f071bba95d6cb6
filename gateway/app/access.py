"""The access policy, out of the configuration."""

from __future__ import annotations

from datetime import timedelta

from gateway.access import AccessPolicy, DecisionPoint, DenyList, Place, Rules, folded
from gateway.app.errors import Misconfigured
from gateway.app.outbound import outbound
from gateway.config import Config
from gateway.dicom import tags
from gateway.runtime import Clock

_RELEASED = {
    "sop_instance_status": (tags.SOP_INSTANCE_STATUS, ("AO", "AC")),  # PS3.3 C.12.1.1.7
    "study_status": (tags.STUDY_STATUS_ID, ("VERIFIED", "READ")),  # PS3.3-1998 C.4.2; retired, and still answered
    "verification_flag": (tags.VERIFICATION_FLAG, ("VERIFIED",)),  # PS3.3 C.17.2
}


def access_policy(config: Config, clock: Clock) -> AccessPolicy:
    """As configured. Raises Misconfigured, OSError."""
    access, decision = config.access, None
    if (asked := access.decision) is not None:
        place = Place(
            asked.url,
            asked.token.get_secret_value() if asked.token is not None else "",
            str(asked.ca_file) if asked.ca_file else None,
            asked.within,
            asked.on_failure == "allow",
        )
        try:
            decision = DecisionPoint(place, outbound(config))
        except ValueError as e:
            raise Misconfigured(str(e)) from e
    released = _RELEASED[access.released_by][1] if access.released_only else ()
    return AccessPolicy(
        Rules(
            pacs=frozenset(access.pacs),
            modalities=frozenset(access.modalities),
            deny_modalities=frozenset(access.deny_modalities),
            max_age=timedelta(seconds=access.max_age) if access.max_age is not None else None,
            institutions=frozenset(map(folded, access.institutions)),
            deny_institutions=frozenset(map(folded, access.deny_institutions)),
            released=frozenset(map(folded, released)),
        ),
        patients=DenyList(access.deny_patients, access.deny_patients_file, clock),
        accessions=DenyList(access.deny_accessions, access.deny_accessions_file, clock),
        decision=decision,
        keep_for=asked.keep if asked is not None else 0.0,
        within=asked.within if asked is not None else 0.0,
        clock=clock,
    )


def wants(config: Config) -> list[str]:
    """Which of :func:`wanted_attributes` a rule goes by: without them nothing can be said."""
    access = config.access
    found = ["institution"] if access.institutions or access.deny_institutions else []
    return found + (["status"] if access.released_only else [])


def wanted_attributes(config: Config) -> dict[str, int]:
    """What the PACS are asked for with a study because the policy wants to know it: tags, by what they are."""
    access = config.access
    wanted = {"institution": tags.INSTITUTION_NAME} if access.wants_institution else {}
    return wanted | ({"status": _RELEASED[access.released_by][0]} if access.released_only else {})
