"""The configuration of the audit trail."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.config.base import Section
from gateway.config.values import Duration, Size


class AuditConfig(Section):
    """The audit trail in `state_dir`: who was given what, from where, with what outcome. Append-only, hash-chained."""

    enabled: bool = Field(True, description="Whether it is kept.")
    keep: Annotated[Duration, Field(ge=86400)] = Field(
        6 * 365 * 86400.0, description="How long it is kept; 6 years as HIPAA has it (45 CFR 164.316)."
    )
    max_size: Annotated[Size, Field(ge=10_000_000)] = Field(
        20_000_000_000, description="Most that its files take, compressed but for the latest; the oldest go first."
    )
