"""The configuration of our own Application Entity, and of TLS of DICOM connections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gateway.config.base import Host, Port, Section, Title
from gateway.config.values import Size


class TlsConfig(Section):
    """TLS of a DICOM connection (PS3.15 B.1)."""

    certificate_file: Path = Field(description="PEM file with our certificate and its chain.")
    key_file: Path = Field(description="PEM file with its private key.")
    ca_file: Path = Field(description="PEM file with the authorities that the other side's certificate is checked by.")


class DicomConfig(Section):
    """Our own Application Entity: what PACS send to, and under which title we ask."""

    ae_title: Title = Field("AVARAGW", description="Our AE title; the PACS must know it.")
    host: Host = Field("0.0.0.0", description="Address that the Storage SCP listens on.")  # noqa: S104
    ae_title_case: Literal["exact", "ignore"] = Field(
        "exact",
        description="Whether AE titles that others say must be spelled as here (`exact`, as PS3.5 has it), or may "
        "differ in upper and lower case.",
    )
    port: Port = Field(11112, description="Port that the Storage SCP listens on.")
    advertised_host: Host | None = Field(
        None, description="Our address as the PACS has to have it; only for messages that say what to register."
    )
    max_associations: Annotated[int, Field(ge=1, le=1000)] = Field(
        64, description="Associations that are taken at once."
    )
    max_instance_size: Annotated[Size, Field(ge=1_000_000)] = Field(
        8_000_000_000, description="Largest instance that is taken from a PACS."
    )
    spool_size: Annotated[Size, Field(ge=1_000_000)] | None = Field(
        None,
        description="Most that large instances on their way, from a PACS or to one, take together in `state_dir`; at "
        "least `max_instance_size`. Left out: twice that. Half of `cache.min_free` stays free on that disk, too.",
    )
    accept_pushes: bool = Field(False, description="Whether a PACS may send studies that were not asked for.")
    tls: TlsConfig | None = Field(None, description="TLS for the Storage SCP; left out: none.")
