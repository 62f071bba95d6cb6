"""The configuration of the page: where it listens, and who may look at it."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.config.base import Host, PeerPort, Section, is_loopback, network
from gateway.config.http import HttpTlsConfig

MOST_WORK = 2**20
"""Of scrypt's N times r, so that a hash from elsewhere cannot make a login cost the gateway its memory: 128 MB."""


def _hash(value: SecretStr) -> SecretStr:
    mistake = "not a password's hash: make one with avara-gateway password"
    parts = value.get_secret_value().split("$")
    if len(parts) != 6 or parts[0] != "scrypt" or not all(re.fullmatch(r"[1-9]\d{0,7}", n) for n in parts[1:4]):
        raise ValueError(mistake)
    n, r, p = map(int, parts[1:4])
    if n & (n - 1) or n < 2**14 or n * r > MOST_WORK or p > 4:
        raise ValueError(mistake)
    try:
        salt, key = (base64.b64decode(part, validate=True) for part in parts[4:])
    except (binascii.Error, ValueError):
        raise ValueError(mistake) from None
    if len(salt) < 16 or len(key) < 32:
        raise ValueError(mistake)
    return value


class PageUserConfig(Section):
    """Somebody who may log in to the page."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s\x00-\x1f]+$")] = Field(
        description="The name to log in with; it is noted with whatever is done."
    )
    password_hash: Annotated[SecretStr, AfterValidator(_hash)] = Field(
        description="What `avara-gateway password` makes of the password."
    )
    role: Literal["viewer", "operator"] = Field(
        "viewer", description="`viewer` looks and sees no patient; `operator` decides about jobs, and may see patients."
    )


class PageProxyConfig(Section):
    """A reverse proxy before the page that knows who everybody is (single sign-on)."""

    addresses: Annotated[list[Annotated[str, AfterValidator(network)]], Field(min_length=1)] = Field(
        description="Networks of the proxy. The header is believed from there, and everybody else is turned away."
    )
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = Field(
        "X-Remote-User", description="Header in which it names the user; the proxy must replace what a client sends."
    )
    operators: list[str] = Field([], description="Users whose role is `operator`; the others' is `viewer`.")


class PageConfig(Section):
    """The page that shows how the gateway is, on an address of its own."""

    host: Host = Field(
        "127.0.0.1",
        description="Address to listen on. Another than this machine's own needs `users` or `proxy`.",
    )
    port: PeerPort | None = Field(None, description="Its port. Left out: there is no page.")
    tls: HttpTlsConfig | None = Field(
        None, description="HTTPS without a proxy; left out: HTTP, for this machine or a proxy with HTTPS."
    )
    users: list[PageUserConfig] = Field(
        [],
        description="Who may log in. Without `users` and `proxy`, who is on this machine may look, and nobody sees "
        "patients or decides about jobs.",
    )
    proxy: PageProxyConfig | None = Field(None, description="Or: a proxy that says who somebody is.")

    @model_validator(mode="after")
    def _is_kept_to_those_it_is_for(self) -> PageConfig:
        if self.users and self.proxy is not None:
            raise ValueError("users and proxy exclude each other: one of them says who somebody is")
        if not is_loopback(self.host) and not self.users and self.proxy is None:
            raise ValueError("host can be reached from elsewhere than this machine: that needs users, or a proxy")
        names = [user.name for user in self.users]
        if len(set(names)) < len(names):
            raise ValueError("users: two of the same name")
        return self

    def warnings(self) -> list[str]:
        """What is allowed and unwise, each with what to do about it."""
        if self.port is None or is_loopback(self.host) or self.tls is not None:
            return []
        return [
            f"page.host is {self.host}: passwords go to it over HTTP; give it page.tls, or let nothing but a proxy "
            "with HTTPS reach it"
        ]
