"""The configuration of alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from gateway.config.base import Host, PeerPort, Section
from gateway.config.values import SecretPathUrl


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
    """Who is told at once: of a critical report, and of whatever waits for an operator. The log is in any case."""

    webhook: AlertWebhookConfig | None = Field(None, description="Alerts by HTTP; left out: none.")
    email: AlertEmailConfig | None = Field(None, description="Alerts by e-mail; left out: none.")
