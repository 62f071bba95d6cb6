"""The configuration of alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from gateway.config.base import Host, PeerPort, Section
from gateway.config.values import Duration, SecretPathUrl, Size


class AlertWebhookConfig(Section):
    """An alert by HTTP POST."""

    url: Annotated[str, AfterValidator(SecretPathUrl)] = Field(description="Where it goes; its path is kept secret.")
    token: SecretStr | None = Field(None, description="Sent as `Authorization: Bearer`.")
    token_file: Path | None = Field(None, description="File with the token.")
    signing_key: SecretStr | None = Field(None, description="`whsec_…`: signs it as Standard Webhooks have it.")
    signing_key_file: Path | None = Field(None, description="File with that key.")
    ca_file: Path | None = Field(None, description="PEM file with the authority of its certificate.")


class AlertEmailConfig(Section):
    """An alert by e-mail."""

    server: Host = Field(description="The mail server.")
    port: PeerPort = Field(587, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="How it is encrypted.")
    sender: str = Field(description="Its sender.")
    recipients: Annotated[list[str], Field(min_length=1)] = Field(description="Who gets it.")
    user: str | None = Field(None, description="To log in, where the server asks for it.")
    password: SecretStr | None = Field(None, description="To log in.")
    password_file: Path | None = Field(None, description="File with the password.")
    ca_file: Path | None = Field(None, description="PEM file with the authority of its certificate.")


class AlertsConfig(Section):
    """Who is told, and of what: of a critical report, of whatever waits for an operator, and of what is wrong and stays
    so: once when it begins, once when it is over, every day in between. The log is in any case."""

    webhook: AlertWebhookConfig | None = Field(None, description="Alerts by HTTP; left out: none.")
    email: AlertEmailConfig | None = Field(None, description="Alerts by e-mail; left out: none.")
    pacs_away_for: Duration = Field(300.0, description="How long a PACS does not answer before people are told.")
    store_away_for: Duration = Field(120.0, description="How long the store fails before people are told.")
    disk_free: Size = Field(2_000_000_000, description="Free space in `state_dir` below which people are told.")
    certificate_before: Duration = Field(
        21 * 86400.0, description="How long before its end people are told of a certificate."
    )
    clock_off: Annotated[Duration, Field(ge=5, le=290)] = Field(
        60.0, description="By how much the clock differs from Avara's before people are told."
    )
    signature_failures: Annotated[int, Field(ge=1)] = Field(
        5, description="Webhooks in a row whose signature is not right, from which on people are told."
    )
    no_webhook_for: Annotated[Duration, Field(ge=600, le=86400)] | None = Field(
        4 * 3600.0,
        description="How long no webhook comes before people are told, where at this time of this day of the week "
        "there always were some; null: never.",
    )
    commitment_overdue: Annotated[Duration, Field(ge=600)] = Field(
        12 * 3600.0, description="How long a PACS owes a storage commitment before people are told."
    )
