"""The configuration of a PACS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from gateway.config.base import Host, Name, PeerPort, Section, Title, bearer_token, one_or_more
from gateway.config.dicom import TlsConfig
from gateway.config.prefetch import PacsPrefetchConfig
from gateway.config.values import Duration


def _service_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not the root of a DICOMweb service: write it like https://pacs.example.org/dicom-web")
    if parts.username is not None:
        raise ValueError("a password does not belong in a URL: use dicomweb_user and dicomweb_password_file")
    return value.rstrip("/")


def _web_user(value: str) -> str:
    if not value or ":" in value or not value.isprintable():
        raise ValueError("not a user that HTTP can name: it has no colon (RFC 7617)")
    return value


def _sending_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("not an address or network: write it like 10.1.2.3 or 10.1.2.0/24") from None


Method = Literal["c-move", "c-get", "wado-rs"]


_ABSENT: Mapping[str, object] = MappingProxyType({"ae_title": object(), "host": object(), "port": object()})
"""What stands for what a PACS without a DICOM port has not; no file can have it."""


def _or_absent(value: object, validated: ValidatorFunctionWrapHandler) -> Any:
    if value is _ABSENT["port"]:
        return 0
    return "" if value in _ABSENT.values() else validated(value)


def _may_lack_a_dicom_port(schema: dict[str, Any]) -> None:
    schema["required"] = [key for key in schema["required"] if key not in _ABSENT]


class PacsConfig(Section):
    """A PACS."""

    model_config = ConfigDict(json_schema_extra=_may_lack_a_dicom_port)

    name: Name = Field(description="Your name for it.")
    ae_title: Annotated[Title, WrapValidator(_or_absent)] = Field(
        description="Its AE title. Of a PACS that is reached by HTTPS alone (`retrieve: wado-rs`, `store: stow-rs`), "
        "this, `host` and `port` may be left out."
    )
    host: Annotated[Host, WrapValidator(_or_absent)] = Field(description="Its address.")
    port: Annotated[PeerPort, WrapValidator(_or_absent)] = Field(description="Its DICOM port.")
    max_associations: Annotated[int, Field(ge=1, le=64)] = Field(
        4,
        description="Associations we open to it at once, and requests to its DICOMweb service. One each is kept for "
        "queries, for retrieves and for what is stored in it, so the least that serves all three at once is 3; with 2 "
        "the third waits for one of the others, with 1 everything waits for everything.",
    )
    sending_ae_titles: list[Title] = Field([], description="Further AE titles under which it sends to us.")
    sending_addresses: list[Annotated[str, AfterValidator(_sending_network)]] = Field(
        [],
        description="Addresses or networks that it sends from, like `10.1.2.3` or `10.1.2.0/24`. Left out: those that "
        "`host` resolves to. An association from elsewhere is rejected, and `check` says so.",
    )
    certificate_names: list[Annotated[str, Field(min_length=1, max_length=253)]] = Field(
        [],
        description="With TLS, in either direction: further names that its certificate may have (common name, DNS name "
        "or address), besides its AE titles and `host`; `*`: any that `ca_file` has signed.",
    )
    retrieve: Annotated[list[Method], BeforeValidator(one_or_more), Field(min_length=1)] = Field(
        ["c-move"],
        description="How studies are retrieved: `c-move`, `c-get` or `wado-rs`. Of a list, the others bring what the "
        "first left missing; with `dicomweb_url`, `wado-rs` does that without being named.",
    )
    parallel_series: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None,
        description="Series of one study that are asked for at once, each by its own request, as far as "
        "`max_associations` has 3 more than that. Left out: one, and with `c-move` the whole study by one request.",
    )
    lists_geometry: bool = Field(
        False,
        description="Whether Rows, Columns and what else describes an image's pixels are asked for with each list, so "
        "that the manifest has an image before it has come. For a PACS that answers these out of its database; one "
        "that opens every file for them, as Orthanc does, lists several times slower.",
    )
    store: Literal["c-store", "stow-rs"] = Field(
        "c-store",
        description="How captures and reports are stored in it: `c-store`, or `stow-rs`, by its DICOMweb service and "
        "without storage commitment.",
    )
    dicomweb_url: Annotated[str, AfterValidator(_service_url)] | None = Field(
        None, description="Root of its DICOMweb service, like `https://pacs.example.org/dicom-web`."
    )
    dicomweb_user: Annotated[str, AfterValidator(_web_user)] | None = Field(
        None, description="User of the DICOMweb service, with a password."
    )
    dicomweb_password: SecretStr | None = Field(None, description="Password of `dicomweb_user`.")
    dicomweb_password_file: Path | None = Field(None, description="File with that password.")
    dicomweb_token: Annotated[SecretStr, AfterValidator(bearer_token)] | None = Field(
        None, description="Bearer token for the DICOMweb service, instead."
    )
    dicomweb_token_file: Path | None = Field(None, description="File with that token.")
    dicomweb_ca_file: Path | None = Field(
        None, description="PEM file with the authority of its certificate. Left out: those that this machine trusts."
    )
    complete: bool = Field(
        True,
        description="Whether it has every study whole that it has. `false` for any: all PACS are asked for each study, "
        "and what they have of it is merged; of an instance that several have, the first one's counts.",
    )
    correct_uids: bool = Field(
        False,
        description="Whether an instance whose file has another Study, Series or SOP Instance UID than the PACS lists "
        "gets the PACS's, with the former ones kept in it as Original Attributes Sequence. `false`: bytes stay as they "
        "came.",
    )
    uncompressed_only: bool = Field(
        False, description="Whether it is made to send uncompressed images, by refusing every compressed syntax."
    )
    connect_timeout: Duration = Field(5.0, description="For the TCP connection.")
    respond_timeout: Duration = Field(
        30.0, description="Silence after which a query, or the storing of an object, is given up."
    )
    idle_timeout: Duration = Field(
        60.0, description="A retrieve is given up when neither a response nor an instance came for so long."
    )
    settle: Duration = Field(
        5.0,
        description="Silence that is waited for after a C-MOVE whose instances have not all come: some PACS answer "
        "before they send. Longer by itself for one that was seen to need it.",
    )
    tls: TlsConfig | None = Field(None, description="TLS of its DICOM port; left out: none.")
    prefetch: PacsPrefetchConfig = PacsPrefetchConfig()

    @model_validator(mode="before")
    @classmethod
    def _may_have_no_dicom_port(cls, read: Any) -> Any:
        by_web_alone = (
            isinstance(read, dict)
            and read.get("retrieve") in ("wado-rs", ["wado-rs"])
            and read.get("store") == "stow-rs"
            and read.get("dicomweb_url")
        )
        # As it is written when it was read: empty, or 0.
        return (
            {**read, **{key: absent for key, absent in _ABSENT.items() if not read.get(key)}} if by_web_alone else read
        )

    @model_validator(mode="after")
    def _can_be_reached(self) -> PacsConfig:
        if "wado-rs" in self.retrieve and self.dicomweb_url is None:
            raise ValueError("wado-rs needs dicomweb_url")
        if self.store == "stow-rs" and self.dicomweb_url is None:
            raise ValueError("store: stow-rs needs dicomweb_url")
        password = self.dicomweb_password is not None or self.dicomweb_password_file is not None
        token = self.dicomweb_token is not None or self.dicomweb_token_file is not None
        if password != (self.dicomweb_user is not None):
            raise ValueError("dicomweb_user and dicomweb_password (or dicomweb_password_file) go together")
        if password and token:
            raise ValueError("dicomweb_user and dicomweb_token exclude each other")
        return self

    @property
    def titles(self) -> frozenset[str]:
        """The AE titles that it sends under; none where it has no DICOM port."""
        return frozenset(title for title in (self.ae_title, *self.sending_ae_titles) if title)

    @property
    def methods(self) -> list[Method]:
        """How it is retrieved from, in order."""
        last: list[Method] = ["wado-rs"] if self.dicomweb_url else []
        return list(dict.fromkeys(self.retrieve + last))
