"""The configuration of the object store, and of what is cached in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.config.base import Origin, Section
from gateway.config.values import Duration, Size


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?", value):
        raise ValueError("not an endpoint: write it as host:port, without https:// (store.secure says that)")
    return value


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        raise ValueError("not a bucket name: 3 to 63 of a-z, 0-9, dot and hyphen")
    return value


class StoreConfig(Section):
    """The object store. Without `endpoint` it is the embedded one, in `state_dir`."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        None, description="`host:port` of an S3 server (MinIO, SeaweedFS, AWS, …). Left out: the embedded store."
    )
    public_endpoint: Origin | None = Field(
        None,
        description="The store's URL as browsers reach it; URLs are signed for it. "
        "Left out: `endpoint`, or, for the embedded store, `http.public_url`.",
    )
    access_key: str | None = Field(None, description="Access key.")
    access_key_file: Path | None = Field(None, description="File with the access key.")
    secret_key: SecretStr | None = Field(None, description="Secret key.")
    secret_key_file: Path | None = Field(None, description="File with the secret key.")
    bucket: Annotated[str, AfterValidator(_bucket)] = Field("dicom", description="Bucket; created where it is absent.")
    region: str = Field("us-east-1", min_length=1, description="Region that requests are signed for.")
    secure: bool = Field(True, description="Whether `endpoint` speaks HTTPS.")
    ca_file: Path | None = Field(None, description="PEM file with the authority of its certificate.")
    encryption: Literal["sse-s3", "sse-kms"] | None = Field(
        None,
        description="Server-side encryption that the gateway asks an `endpoint` for with whatever it puts. Left out: "
        "what the bucket does by itself. Browsers' uploads carry no such header: set the bucket's own default, too.",
    )
    encryption_key_id: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[!-~]+$")] | None = Field(
        None, description="Key of `sse-kms`; left out: the account's own."
    )

    @model_validator(mode="after")
    def _has_keys(self) -> StoreConfig:
        if self.encryption is not None and self.endpoint is None:
            raise ValueError("encryption is asked of an endpoint: put state_dir on an encrypted volume instead")
        if self.encryption_key_id is not None and self.encryption != "sse-kms":
            raise ValueError("encryption_key_id needs encryption: sse-kms")
        if self.endpoint is not None:
            for name in ("access_key", "secret_key"):
                if getattr(self, name) is None and getattr(self, f"{name}_file") is None:
                    raise ValueError(f"an endpoint needs {name} or {name}_file")
        return self


class CacheConfig(Section):
    """How much is kept in the store, and for how long an answer stays good."""

    max_size: Annotated[Size, Field(ge=1000)] = Field(
        200_000_000_000, description="Most that is kept; the least recently used goes first."
    )
    min_free: Size = Field(5_000_000_000, description="What stays free on the embedded store's disk.")
    revalidate_after: Duration = Field(
        60.0, description="Age from which a cached study is compared with the PACS again."
    )
    compare_every: Duration = Field(
        3600.0,
        description="Age from which that is done instance by instance although the PACS says of the study, and counts, "
        "what it did before.",
    )
    watch_every: Duration = Field(
        30.0,
        description="How often a study whose URLs still work is compared with its PACS although nobody asks, so that "
        "URLs of what was withdrawn or corrected there die; `0s`: never.",
    )
    verify_sample: Annotated[int, Field(ge=0, le=100)] = Field(
        1,
        description="Instances of a study whose URLs work that are retrieved every `compare_every` and compared with "
        "what is stored, other ones each time: what was replaced under its own UID, pixels alone, is noticed by its "
        "bytes. A difference fetches the study anew. `0`: none. With `dicomweb_url` all are compared by their metadata "
        "as often. With `watch_every: 0s`, neither is done.",
    )
    max_age: Annotated[Duration, Field(ge=3600)] = Field(
        30 * 86400.0,
        description="How long a study is kept at most, since it was fetched, whatever room there is; one that was just "
        "opened, until its URLs have expired.",
    )
    make_viewable: bool = Field(
        False,
        description="Whether instances that viewers in a browser do not decode (explicit big endian, deflated) are "
        "given as explicit little endian, losing nothing; what came is kept beside.",
    )
    url_expiry: Annotated[Duration, Field(ge=60, le=7 * 86400)] = Field(
        3600.0, description="How long a URL works; 7d at most (S3's limit)."
    )
