"""What can be configured. The reference and the JSON schema are made from these models."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from gateway.config.alerts import AlertsConfig
from gateway.config.audit import AuditConfig
from gateway.config.base import (
    At,
    Host,
    Name,
    Origin,
    PeerPort,
    Port,
    Section,
    Title,
    is_loopback,
    network,
    origin,
)
from gateway.config.page import PageConfig
from gateway.config.reports import ReportsConfig
from gateway.config.values import Duration, Size
from gateway.dicom import is_uid

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


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?", value):
        raise ValueError("not an endpoint: write it as host:port, without https:// (store.secure says that)")
    return value


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        raise ValueError("not a bucket name: 3 to 63 of a-z, 0-9, dot and hyphen")
    return value


def _sop_class(value: str) -> str:
    if not is_uid(value):
        raise ValueError("not a SOP Class UID: write it like 1.2.840.10008.5.1.4.1.1.7")
    return value


def _study(value: str) -> str:
    if not is_uid(value):
        raise ValueError("not a Study Instance UID: write it like 1.2.840.113619.2.55.3")
    return value


def _state_dir(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("write it from the root: it would be another folder wherever a command is started")
    if len(str(value)) > 90:
        raise ValueError("too long for the control socket that lies in it: 90 characters at most")
    return value


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


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("not a bearer token: ASCII without spaces (RFC 6750)")
    return value


def _sending_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("not an address or network: write it like 10.1.2.3 or 10.1.2.0/24") from None


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Method = Literal["c-move", "c-get", "wado-rs"]


class HttpTlsConfig(Section):
    """HTTPS on the HTTP server's own port."""

    certificate_file: Path = Field(
        description="PEM file with the certificate and its chain; it and the key are read again when they change."
    )
    key_file: Path = Field(description="PEM file with its private key.")


class HttpConfig(Section):
    """The HTTP server that Avara's webhooks reach, through a reverse proxy that speaks HTTPS."""

    host: Host = Field("127.0.0.1", description="Address to listen on; a reverse proxy with HTTPS stands before it.")
    port: Port = Field(8080, description="Port to listen on.")
    public_url: Origin | None = Field(
        None,
        description="Under which URL Avara and browsers reach this server; deferred URLs begin with it, and with the "
        "embedded store every URL does.",
    )
    tls: HttpTlsConfig | None = Field(
        None, description="HTTPS without a proxy; left out: HTTP, for a proxy on the same machine."
    )
    max_body: Size = Field(1_000_000, description="Largest webhook that is read.")
    max_connections: Annotated[int, Field(ge=16, le=20_000)] = Field(
        1024,
        description="Connections that are taken at once; fewer where the process may not open as many files. A client "
        "gets half of each kind of turn at most.",
    )
    trusted_proxies: list[Annotated[str, AfterValidator(network)]] = Field(
        ["127.0.0.0/8", "::1/128"],
        description="Networks of the reverse proxies whose `X-Forwarded-For` is believed, so that browsers and "
        "strangers behind them are told apart.",
    )


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
        0.25, description="With `listed`: how long a study has to be fetched whole before it is answered so."
    )
    allowed_origins: list[Annotated[str, AfterValidator(_allowed_origin)]] = Field(
        ["*"], description="Web origins whose pages may open the URLs (CORS); `*` is any: a URL is its own permission."
    )


class DicomConfig(Section):
    """Our own Application Entity: what PACS send to, and under which title we ask."""

    ae_title: Title = Field("AVARAGW", description="Our AE title; the PACS must know it.")
    host: Host = Field("0.0.0.0", description="Address that the Storage SCP listens on.")  # noqa: S104
    ae_title_case: Literal["exact", "ignore"] = Field(
        "exact",
        description="Whether AE titles that others say must be spelled as here (`exact`, as PS3.5 has it), or may "
        "differ in upper and lower case.",
    )
    port: Port = Field(11112, description="Port that the Storage SCP listens on.")
    advertised_host: Host | None = Field(
        None, description="Our address as the PACS has to have it; only for messages that say what to register."
    )
    max_associations: Annotated[int, Field(ge=1, le=1000)] = Field(
        64, description="Associations that are taken at once."
    )
    max_instance_size: Annotated[Size, Field(ge=1_000_000)] = Field(
        8_000_000_000, description="Largest instance that is taken from a PACS."
    )
    spool_size: Annotated[Size, Field(ge=1_000_000)] | None = Field(
        None,
        description="Most that large instances on their way, from a PACS or to one, take together in `state_dir`; at "
        "least `max_instance_size`. Left out: twice that. Half of `cache.min_free` stays free on that disk, too.",
    )
    accept_pushes: bool = Field(False, description="Whether a PACS may send studies that were not asked for.")
    tls: TlsConfig | None = Field(None, description="TLS for the Storage SCP; left out: none.")


class TlsConfig(Section):
    """TLS of a DICOM connection (PS3.15 B.1)."""

    certificate_file: Path = Field(description="PEM file with our certificate and its chain.")
    key_file: Path = Field(description="PEM file with its private key.")
    ca_file: Path = Field(description="PEM file with the authorities that the other side's certificate is checked by.")


class PacsConfig(Section):
    """A PACS."""

    name: Name = Field(description="Your name for it.")
    ae_title: Title = Field(description="Its AE title.")
    host: Host = Field(description="Its address.")
    port: PeerPort = Field(description="Its DICOM port.")
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
    retrieve: Annotated[list[Method], BeforeValidator(_one_or_more), Field(min_length=1)] = Field(
        ["c-move"],
        description="How studies are retrieved: `c-move`, `c-get` or `wado-rs`. Of a list, the others bring what the "
        "first left missing; with `dicomweb_url`, `wado-rs` does that without being named.",
    )
    parallel_series: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None,
        description="Series of one study that are asked for at once, each by its own request, as far as "
        "`max_associations` has 3 more than that. Left out: one, and with `c-move` the whole study by one request.",
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
    dicomweb_token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
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
    def methods(self) -> list[Method]:
        """How it is retrieved from, in order."""
        last: list[Method] = ["wado-rs"] if self.dicomweb_url else []
        return list(dict.fromkeys(self.retrieve + last))


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

    @model_validator(mode="after")
    def _has_keys(self) -> StoreConfig:
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


_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CAPTURE_CLASSES = (
    _SECONDARY_CAPTURE, *(f"{_SECONDARY_CAPTURE}.{n}" for n in range(1, 5)),  # single and multi-frame
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
    "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection Document
    *(f"1.2.840.10008.5.1.4.1.1.11.{n}" for n in range(1, 13)),  # Presentation States
)  # fmt: skip
"""What a viewer makes of its own accord. Structured Reports are a clinical statement: they are to be allowed."""


class CapturesConfig(Section):
    """Secondary captures: what the viewer uploads, and how it gets into the PACS."""

    enabled: bool = Field(True, description="Whether upload URLs are given out at all.")
    targets: list[str] = Field([], description="Names of the PACS that captures are stored in. Left out: the first.")
    upload_expiry: Annotated[Duration, Field(ge=60, le=86400)] = Field(
        900.0, description="How long an upload URL works."
    )
    max_size: Annotated[Size, Field(ge=1_000_000)] = Field(512_000_000, description="Largest upload that is taken.")
    allowed_sop_classes: list[Annotated[str, AfterValidator(_sop_class)]] = Field(
        list(CAPTURE_CLASSES), description="SOP Class UIDs that are taken; SR has to be added."
    )
    on_patient_mismatch: Literal["quarantine", "coerce"] = Field(
        "quarantine",
        description="What becomes of a capture whose patient is not the study's: it waits for an operator, or takes "
        "the PACS's patient attributes, which is recorded in it.",
    )
    storage_commitment: bool = Field(
        False, description="Whether the PACS has to commit itself to a capture before it counts as stored."
    )
    keep_after_stored: Duration = Field(86400.0, description="How long our copy is kept once the PACS has it.")
    retry_for: Annotated[Duration, Field(ge=60)] = Field(
        72 * 3600.0, description="How long storing is tried before an operator has to decide."
    )


class MetricsConfig(Section):
    """Figures for Prometheus, on an address of their own."""

    host: Host = Field("127.0.0.1", description="Address that `/metrics` listens on; it holds no patient data.")
    port: PeerPort | None = Field(None, description="Its port. Left out: there are none.")


class CanaryConfig(Section):
    """A study that is opened again and again as Avara would, through `http.public_url`: people are told when it fails.
    Choose one that stays in the PACS, of a patient who does not exist."""

    study_uid: Annotated[str, AfterValidator(_study)] | None = Field(None, description="Its Study Instance UID.")
    every: Annotated[Duration, Field(ge=60)] | None = Field(
        None, description="How often it is opened; left out: only by `avara-gateway test`."
    )
    ca_file: Path | None = Field(
        None, description="PEM file with the authority of the public URL's certificate, where that is the hospital's."
    )

    @model_validator(mode="after")
    def _has_a_study(self) -> CanaryConfig:
        if self.every is not None and self.study_uid is None:
            raise ValueError("every needs study_uid: the study that is opened")
        return self


class RetentionConfig(Section):
    """For how long what is over is remembered; objects have settings of their own, where they are used."""

    finished: Annotated[Duration, Field(ge=14 * 86400)] = Field(
        90 * 86400.0,
        description="How long jobs that are done or discarded, and alerts that are over, are remembered. What is "
        "forgotten counts as new where it comes again.",
    )


class EventsConfig(Section):
    """What is remembered of what happened, for `avara-gateway trace`."""

    keep: Annotated[Duration, Field(ge=3600)] = Field(30 * 86400.0, description="How long events are kept.")


class LogConfig(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level that is told.")
    format: Literal["json", "text"] = Field("text", description="`json` for machines, `text` for people.")


class Config(Section):
    """The whole configuration."""

    http: HttpConfig = HttpConfig()
    avara: AvaraConfig = AvaraConfig()
    dicom: DicomConfig = DicomConfig()
    pacs: Annotated[list[PacsConfig], Field(min_length=1)] = Field(
        description="The PACS, asked in this order; the first that has a study serves it."
    )
    store: StoreConfig = StoreConfig()
    cache: CacheConfig = CacheConfig()
    captures: CapturesConfig = CapturesConfig()
    reports: ReportsConfig = ReportsConfig()
    alerts: AlertsConfig = AlertsConfig()
    state_dir: Annotated[Path, AfterValidator(_state_dir)] = Field(
        Path("/var/lib/avara-gateway"), description="Directory for the journal, the embedded store and spool files."
    )
    metrics: MetricsConfig = MetricsConfig()
    page: PageConfig = PageConfig()
    canary: CanaryConfig = CanaryConfig()
    events: EventsConfig = EventsConfig()
    retention: RetentionConfig = RetentionConfig()
    audit: AuditConfig = AuditConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.reports.alerts is not None and self.alerts != AlertsConfig():
            raise At(("reports", "alerts"), "is the same setting as alerts: leave it out here")
        names: list[str] = []
        for number, pacs in enumerate(self.pacs):
            if pacs.name in names:
                raise At(("pacs", number, "name"), f"there are two of the same name: {pacs.name}")
            if pacs.ae_title == self.dicom.ae_title:
                raise At(("pacs", number, "ae_title"), "is our own (dicom.ae_title): write the PACS's here")
            names.append(pacs.name)
        keys: tuple[str, ...]
        for keys, targets in (
            (("captures", "targets"), self.captures.targets),
            (("reports", "pacs", "targets"), self.reports.pacs.targets or []),
        ):
            for number, name in enumerate(targets):
                if name not in names:
                    raise At((*keys, number), f"no PACS is named {name}; there are {', '.join(names)}")
        for keys, asked, into in (
            (("captures", "storage_commitment"), self.captures.storage_commitment, self.capture_targets),
            (("reports", "pacs", "storage_commitment"), self.reports.pacs.storage_commitment, self.report_targets),
        ):
            for pacs in self.pacs:
                if asked and pacs.name in into and pacs.store == "stow-rs":
                    raise At(
                        keys,
                        f"PACS {pacs.name} is stored in by stow-rs, which has no storage commitment: leave this out, "
                        "or set that PACS's store to c-store",
                    )
        return self

    @property
    def capture_targets(self) -> list[str]:
        """Names of the PACS that captures are stored in."""
        return self.captures.targets or [self.pacs[0].name]

    @property
    def report_targets(self) -> list[str]:
        """Names of the PACS that reports are stored in."""
        targets = self.reports.pacs.targets
        return [self.pacs[0].name] if targets is None else targets

    @property
    def alerting(self) -> AlertsConfig:
        """Who is told, wherever that is written."""
        return self.alerts if self.reports.alerts is None else self.reports.alerts

    def warnings(self) -> list[str]:
        """What is allowed and unwise, each with what to do about it."""
        found = []
        if self.reports.alerts is not None:
            found.append("reports.alerts is of more than reports now: write it as alerts, at the top level")
        found += self.page.warnings()
        public = self.public_endpoint
        for key, url in (("http.public_url", self.http.public_url), ("the images' URL", public)):
            if url and url.startswith("http://") and not is_loopback(urlsplit(url).hostname or ""):
                found.append(f"{key} is {url}: a page served over HTTPS may not open it: give it HTTPS")
        if self.http.public_url and is_loopback(urlsplit(self.http.public_url).hostname or ""):
            found.append(
                f"http.public_url is {self.http.public_url}: Avara and other machines' browsers cannot reach that; "
                "write the URL that they use"
            )
        if self.http.public_url is None:
            found.append("http.public_url is not set: URLs that the gateway serves itself work on this machine only")
        if self.store.endpoint is not None and not self.store.secure and not is_loopback(self.store.endpoint):
            found.append("store.secure is false: patient images go to the store unencrypted: keep that network apart")
        for pacs in self.pacs:
            service = urlsplit(pacs.dicomweb_url or "")
            if service.scheme == "http" and not is_loopback(service.hostname or ""):
                found.append(f"pacs {pacs.name}: dicomweb_url is http: patient images and passwords go unencrypted")
        if not is_loopback(self.http.host) and self.http.tls is None:
            found.append(
                f"http.host is {self.http.host}: this server speaks HTTP only; let nothing but a proxy reach it, or "
                "give it http.tls"
            )
        return found

    @property
    def report_hosts(self) -> Sequence[str]:
        """Hosts that a report's PDF may be fetched from."""
        hosts = self.reports.allowed_hosts
        return [f"*.{self.avara.domain}"] if hosts is None else hosts

    @property
    def public_endpoint(self) -> str:
        """The origin that presigned URLs are made for."""
        if self.store.public_endpoint is not None:
            return self.store.public_endpoint
        if self.store.endpoint is not None:
            return f"{'https' if self.store.secure else 'http'}://{self.store.endpoint}"
        return self.gateway_url

    @property
    def gateway_url(self) -> str:
        """The origin under which browsers reach the gateway itself."""
        scheme = "http" if self.http.tls is None else "https"
        return self.http.public_url or f"{scheme}://{_for_url(self.http.host)}:{self.http.port}"

    @property
    def advertised(self) -> str:
        """How a PACS has to have us registered: ``AVARAGW at 10.1.2.3:11112``."""
        host = self.dicom.advertised_host or "this host's address (set dicom.advertised_host)"
        return f"{self.dicom.ae_title} at {host}:{self.dicom.port}"


def _for_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not listened on)
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


DicomConfig.model_rebuild()
