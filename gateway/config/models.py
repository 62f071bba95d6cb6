"""The whole configuration: its sections, and what has to fit together between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from gateway.config.access import AccessConfig
from gateway.config.alerts import AlertsConfig
from gateway.config.audit import AuditConfig
from gateway.config.avara import AvaraConfig
from gateway.config.base import At, Section, is_loopback
from gateway.config.captures import CapturesConfig
from gateway.config.dicom import DicomConfig
from gateway.config.http import HttpConfig, MetricsConfig
from gateway.config.operation import CanaryConfig, EventsConfig, LogConfig, RetentionConfig, TelemetryConfig
from gateway.config.outbound import OutboundConfig
from gateway.config.pacs import PacsConfig
from gateway.config.page import PageConfig
from gateway.config.prefetch import PrefetchConfig
from gateway.config.reports import ReportsConfig
from gateway.config.store import CacheConfig, StoreConfig


def _state_dir(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("write it from the root: it would be another folder wherever a command is started")
    if len(str(value)) > 90:
        raise ValueError("too long for the control socket that lies in it: 90 characters at most")
    return value


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
    prefetch: PrefetchConfig = PrefetchConfig()
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
    access: AccessConfig = AccessConfig()
    outbound: OutboundConfig = OutboundConfig()
    log: LogConfig = LogConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

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
        if self.access.decision is not None and self.access.decision.within > self.avara.answer_within / 2:
            raise At(
                ("access", "decision", "within"), "is more than half of avara.answer_within: answers would be late"
            )
        keys: tuple[str, ...]
        for keys, targets in (
            (("access", "pacs"), self.access.pacs),
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
        for pacs in self.pacs:
            if self.canary.remove and pacs.name in self.canary_targets and pacs.dicomweb_url is None:
                raise At(("canary", "remove"), f"needs dicomweb_url of PACS {pacs.name}, through which it is removed")
        self._no_port_is_taken_twice()
        return self

    def _no_port_is_taken_twice(self) -> None:
        taken: list[tuple[str, str, int]] = []
        for key, host, port in (
            ("http", self.http.host, self.http.port),
            ("dicom", self.dicom.host, self.dicom.port),
            ("page", self.page.host, self.page.port),
            ("metrics", self.metrics.host, self.metrics.port),
        ):
            if not port:
                continue
            for other, its_host, its_port in taken:
                if port == its_port and (host == its_host or {host, its_host} & {"0.0.0.0", "::"}):  # noqa: S104
                    raise At((key, "port"), f"is that of {other}.port, too: each listens on a port of its own")
            taken.append((key, host, port))

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
    def canary_targets(self) -> list[str]:
        """Names of the PACS that the synthetic study is stored in: those that captures and reports go to."""
        captures = self.capture_targets if self.captures.enabled else []
        reports = self.report_targets if self.reports.enabled else []
        return list(dict.fromkeys((*captures, *reports))) or [self.pacs[0].name]

    @property
    def alerting(self) -> AlertsConfig:
        """Who is told, wherever that is written."""
        return self.alerts if self.reports.alerts is None else self.reports.alerts

    def warnings(self) -> list[str]:
        """What is allowed and unwise, each with what to do about it."""
        found = []
        if self.reports.alerts is not None:
            found.append("reports.alerts is of more than reports now: write it as alerts, at the top level")
        found += self.page.warnings() + self.access.warnings()
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
