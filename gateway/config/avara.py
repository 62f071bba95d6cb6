"""The configuration of Avara, the cloud service."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from gateway.config.base import Origin, Section, origin
from gateway.config.values import Duration

LEAST_KEY = 16
"""Bytes of a webhook key; Standard Webhooks have 24 to 64."""


def _allowed_origin(value: str) -> str:
    return value if value == "*" else origin(value)


def _path(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", value):
        raise ValueError("not a path: write it like /webhooks/avara")
    return value


def _webhook_key(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    try:
        encoded = secret.removeprefix("whsec_")
        # As the signature's library reads it; without validation, letters of no alphabet would be left out silently.
        key = base64.b64decode(encoded, validate=True)
        if encoded == secret or not key:
            raise ValueError
    except (binascii.Error, ValueError):
        raise ValueError("not a webhook key: it is whsec_ followed by base64, as Avara shows it") from None
    if len(key) < LEAST_KEY:
        raise ValueError("too short for a webhook key, which anybody could guess: copy all of it")
    return value


class AvaraConfig(Section):
    """Avara, the cloud service."""

    path: Annotated[str, AfterValidator(_path)] = Field("/webhooks/avara", description="Path of the webhook.")
    webhook_keys: list[Annotated[SecretStr, AfterValidator(_webhook_key)]] = Field(
        [], description="Keys that webhooks are signed with (`whsec_…`); several while they are rotated."
    )
    webhook_keys_file: Path | None = Field(None, description="File with further keys, one a line.")
    domain: Annotated[str, Field(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")] = Field(
        "avarasoftware.com", description="Avara's domain; reports are fetched from hosts below it."
    )
    api_url: Origin = Field("https://api.avarasoftware.com", description="Avara's API.")
    api_key: SecretStr | None = Field(
        None,
        description="Key of Avara's API, to ask who signed a report, of which study it is, and for a report again "
        "whose URL has expired (which needs the extra `avara`).",
    )
    api_key_file: Path | None = Field(None, description="File with that key.")
    answer_within: Annotated[Duration, Field(ge=1, le=300)] = Field(
        10.0, description="Avara's time-out: every webhook is answered inside it."
    )
    answer: Literal["listed", "complete"] = Field(
        "listed",
        description="When a study is answered: `listed` as soon as the PACS has listed all its instances, with "
        "deferred URLs for those on their way; `complete` once they are stored, or `answer_within` is nearly over.",
    )
    answer_patience: Duration = Field(
        0.25,
        description="With `listed`: how long a study has to be fetched whole before it is answered so. What plainly "
        "takes longer is not waited for.",
    )
    allowed_origins: list[Annotated[str, AfterValidator(_allowed_origin)]] = Field(
        ["*"], description="Web origins whose pages may open the URLs (CORS); `*` is any: a URL is its own permission."
    )
