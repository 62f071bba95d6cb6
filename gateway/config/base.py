"""What the sections of the configuration are made of: their base, and the kinds of values that several have."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.config.values import AETitle


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


def _text(value: object) -> object:
    # An AE title or a name of digits only is a number to YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Port = Annotated[int, Field(ge=0, le=65535)]
PeerPort = Annotated[int, Field(ge=1, le=65535)]
Origin = Annotated[str, AfterValidator(origin)]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:\-]+$")]
Title = Annotated[AETitle, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=64)]
