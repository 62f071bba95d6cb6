"""The configuration of the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateway.config.base import Host, Name, PeerPort, Section
from gateway.config.values import Duration, Size


class SyslogConfig(Section):
    """An audit repository that the trail is sent to, as DICOM audit messages by syslog (PS3.15 A.5 to A.7)."""

    host: Host = Field(description="Host name or address of the audit repository.")
    port: PeerPort = Field(6514, description="Its port; 6514 is that of syslog over TLS, 514 that over UDP.")
    protocol: Literal["tls", "tcp", "udp"] = Field(
        "tls",
        description="`tls` (RFC 5425), `tcp` (RFC 6587, octet counting) or `udp` (RFC 5426: what is lost on its way is "
        "lost, and nothing is encrypted).",
    )
    ca_file: Path | None = Field(
        None, description="PEM file with the authority of its certificate; left out: those that this machine trusts."
    )
    certificate_name: Name | None = Field(None, description="Name that its certificate has, where that is not `host`.")
    certificate_file: Path | None = Field(
        None, description="PEM file with our certificate and its chain, where it wants to know who we are."
    )
    key_file: Path | None = Field(None, description="PEM file with its private key.")
    source_id: Name | None = Field(None, description="Audit Source ID of the messages; left out: this machine's name.")
    site_id: Name | None = Field(None, description="Audit Enterprise Site ID of the messages, such as the hospital.")

    @model_validator(mode="after")
    def _belong_together(self) -> SyslogConfig:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        if self.protocol != "tls" and (self.ca_file or self.certificate_file or self.certificate_name):
            raise ValueError("ca_file, certificate_name and certificate_file are for protocol: tls")
        return self


class AuditConfig(Section):
    """The audit trail in `state_dir`: who was given what, from where, with what outcome. Append-only, hash-chained."""

    enabled: bool = Field(True, description="Whether it is kept.")
    keep: Annotated[Duration, Field(ge=86400)] = Field(
        6 * 365 * 86400.0, description="How long it is kept; 6 years as HIPAA has it (45 CFR 164.316)."
    )
    max_size: Annotated[Size, Field(ge=10_000_000)] = Field(
        20_000_000_000, description="Most that its files take, compressed but for the latest; the oldest go first."
    )
    syslog: SyslogConfig | None = Field(
        None, description="An audit repository that the trail is sent to; left out: it is kept here only."
    )

    @model_validator(mode="after")
    def _has_a_trail(self) -> AuditConfig:
        if self.syslog is not None and not self.enabled:
            raise ValueError("syslog needs enabled: true: what is sent is the trail")
        return self
