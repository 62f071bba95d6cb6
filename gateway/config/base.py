"""What the sections of the configuration are made of: their base, and the kinds of values that several have."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from gateway.config.values import AETitle


class At(ValueError):
    """A mistake that a section finds in what lies below it, at *keys* from it."""

    def __init__(self, keys: tuple[str | int, ...], text: str) -> None:
        super().__init__(text)
        self.keys = keys


class Section(BaseModel):
    """Base of every section: unknown keys are mistakes, values do not change.

    A field ``x_file`` beside a field ``x`` names a file that holds the value of ``x``, such as a secret; it is read
    while the configuration is loaded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


def origin(value: str) -> str:
    """*value* as scheme and host. Raises ValueError where it is more or less."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("not an origin: write it like https://images.example.org, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def network(value: str) -> str:
    """*value* as a network. Raises ValueError where it is none."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError("not a network: write it like 10.1.2.0/24, or 10.1.2.3 for one proxy") from None


def bearer_token(value: SecretStr) -> SecretStr:
    """*value*, if it is one. Raises ValueError where it is none."""
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("not a bearer token: ASCII without spaces (RFC 6750)")
    return value


def one_or_more(value: object) -> object:
    """A list, for whoever may write one thing by itself."""
    return [value] if isinstance(value, str) else value


def is_loopback(host: str) -> bool:
    """Whether *host*, with a port or without, can be reached from this machine alone."""
    host = host.rsplit(":", 1)[0] if host.count(":") == 1 else host
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _text(value: object) -> object:
    # An AE title or a name of digits only is a number to YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        raise ValueError("only the name or address, without http:// and without a path")
    if re.fullmatch(r"[^:]*:\d+|\[.*\]:\d+", value):
        raise ValueError("only the name or address: what follows the colon belongs to the key port")
    if not re.fullmatch(_HOST, value) or len(value) > 253:
        raise ValueError("not a name or address: letters, digits, dots and hyphens, like pacs.example.org or 10.1.2.3")
    return value


_HOST = r"[A-Za-z0-9._:\-]+"

Port = Annotated[int, Field(ge=0, le=65535)]
PeerPort = Annotated[int, Field(ge=1, le=65535)]
Origin = Annotated[str, AfterValidator(origin)]
Host = Annotated[str, AfterValidator(_host), WithJsonSchema({"type": "string", "pattern": f"^{_HOST}$"})]
Title = Annotated[AETitle, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=64)]
