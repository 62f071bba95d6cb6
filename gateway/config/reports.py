"""The configuration of reports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.alerts import AlertsConfig
from gateway.config.base import At, Host, Name, PeerPort, Section
from gateway.config.values import Duration, Size


def _pattern(value: str) -> str:
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?(:\d{1,5})?", value):
        raise ValueError("not a host: write it like reports.example.com or *.example.com, without https:// and path")
    return value


def _field(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9]{2}(/[a-z]+)?-\d+(\.\d+)?", value):
        raise ValueError("not a field of HL7: write it like PID-3, PID-3.4 or OBX/pdf-3")
    return value


class ReportPacsConfig(Section):
    """Reports into the PACS, as Encapsulated PDF."""

    targets: list[str] | None = Field(
        None, description="Names of the PACS that reports are stored in. Left out: the first; `[]`: none."
    )
    structured_report: bool = Field(
        False, description="Whether the text is stored as a Basic Text SR, too; it is where there is no PDF."
    )
    storage_commitment: bool = Field(
        False, description="Whether the PACS has to commit itself to a report before it counts as stored."
    )


class ReportHl7Config(Section):
    """An HL7 v2 receiver, such as a RIS: reports as ORU^R01 over MLLP."""

    name: Name = Field(description="Your name for it.")
    host: Host = Field(description="Its address.")
    port: PeerPort = Field(description="Its MLLP port.")
    tls: bool = Field(False, description="Whether it speaks TLS.")
    ca_file: Path | None = Field(None, description="PEM file with the authority of its certificate.")
    certificate_file: Path | None = Field(None, description="PEM file with our certificate, where it asks for one.")
    key_file: Path | None = Field(None, description="PEM file with its private key.")
    connect_timeout: Duration = Field(10.0, description="For the connection.")
    answer_within: Duration = Field(60.0, description="Silence after which a message is sent again later.")
    sending_application: str = Field("AVARA-GATEWAY", description="MSH-3.")
    sending_facility: str = Field("", description="MSH-4.")
    receiving_application: str = Field("", description="MSH-5.")
    receiving_facility: str = Field("", description="MSH-6.")
    charset: str = Field("UNICODE UTF-8", description="MSH-18, and how the message is encoded: `8859/1`, …")
    text_form: Literal["lines", "formatted"] = Field(
        "lines", description="The text as one OBX of type TX a line, or as one of type FT."
    )
    addendum: Literal["combined", "separate"] = Field(
        "separate",
        description="An addendum, which is a report of its own: `combined` sends the original's text, a line "
        "`ADDENDUM` and the new text in place of the original; `separate` leaves the original and adds an OBX of its "
        "own. Either is sent as `C`, never as another final report.",
    )
    with_pdf: bool = Field(True, description="Whether the PDF goes along, as an OBX of type ED.")
    critical_flag: str = Field("AA", description="OBX-8 of a critical report.")
    fields: dict[Annotated[str, AfterValidator(_field)], str] = Field(
        {},
        description="Further fields, or others than ours: `PID-3.4: HOSP`, `OBR-4: RPT^{study_description}`, "
        "`OBX/pdf-3: …`; an empty one leaves the field out.",
    )


class ReportFolderConfig(Section):
    """A folder that a RIS watches: PDF, text and a JSON file that says what they are."""

    name: Name = Field(description="Your name for it.")
    path: Path = Field(description="The folder; it has to be there.")


class ReportsConfig(Section):
    """Signed reports: where their PDF may come from, and where they are brought to."""

    enabled: bool = Field(True, description="Whether reports are taken at all; else Avara keeps them.")
    allowed_hosts: list[Annotated[str, AfterValidator(_pattern)]] | None = Field(
        None,
        description="Hosts that a report's PDF may be fetched from: `reports.example.com`, `*.example.com`. "
        "Left out: any host below `avara.domain`.",
    )
    allow_http: bool = Field(False, description="Whether plain HTTP is allowed; for tests on one machine.")
    allow_private_addresses: bool = Field(
        False, description="Whether a host may have an address inside the hospital; for tests on one machine."
    )
    ca_file: Path | None = Field(None, description="PEM file with the authorities that Avara's hosts are checked by.")
    max_size: Annotated[Size, Field(ge=1_000_000, le=200_000_000)] = Field(
        50_000_000, description="Largest PDF that is taken."
    )
    pacs: ReportPacsConfig = ReportPacsConfig()
    hl7: list[ReportHl7Config] = Field([], description="HL7 receivers; each gets every report.")
    folders: list[ReportFolderConfig] = Field([], description="Folders; each gets every report.")
    alerts: AlertsConfig | None = Field(None, description="Where `alerts` was in earlier versions.")
    keep_texts: Duration = Field(
        90 * 86400.0,
        description="How long a report's text is kept where an HL7 receiver has addenda `combined`; one that comes "
        "later is sent as with `separate`.",
    )
    organization: str | None = Field(
        None,
        max_length=64,
        description="Whom the radiologists work for: the Verifying Organization of a structured report. Left out: the "
        "facility that Avara names.",
    )
    retry_for: Annotated[Duration, Field(ge=60)] = Field(
        72 * 3600.0, description="How long each delivery is tried before an operator has to decide."
    )
    keep_after_delivered: Duration = Field(7 * 86400.0, description="How long our copy is kept afterwards.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> ReportsConfig:
        for key, names in (("hl7", [r.name for r in self.hl7]), ("folders", [f.name for f in self.folders])):
            for number, name in enumerate(names):
                if name in names[:number]:
                    raise At((key, number, "name"), f"there are two of the same name: {name}")
        return self
