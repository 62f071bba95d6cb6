"""The configuration of the way out."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.config.base import Origin, Section


def _direct(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*?\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", value) or re.fullmatch(r"[\d.]+", value):
        raise ValueError("not a host or network: write it like hospital.example, pacs.hospital.example or 10.0.0.0/8")
    return value


class OutboundConfig(Section):
    """The way out of the hospital."""

    proxy: Origin | None = Field(
        None,
        description="HTTP proxy for whatever leaves the hospital, like `http://proxy.hospital.example:3128`; left out: "
        "straight.",
    )
    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+$")] | None = Field(
        None, description="User of the proxy, with a password (Basic)."
    )
    password: SecretStr | None = Field(None, description="Password of `user`.")
    password_file: Path | None = Field(None, description="File with that password.")
    no_proxy: list[Annotated[str, AfterValidator(_direct)]] = Field(
        [],
        description="Hosts, with all below them, and networks that are reached straight; this machine, private "
        "addresses and names without a dot always are.",
    )
    ca_file: Path | None = Field(
        None,
        description="PEM file with an authority that is trusted besides the public ones: of a proxy that opens TLS.",
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> OutboundConfig:
        has_password = self.password is not None or self.password_file is not None
        if has_password != (self.user is not None):
            raise ValueError("user and password_file belong together")
        if self.user is not None and self.proxy is None:
            raise ValueError("user is the proxy's, and there is no proxy: name it, or leave this out")
        if self.proxy is not None and "@" in self.proxy:
            raise ValueError("a password does not belong in a URL: use user and password_file")
        return self
