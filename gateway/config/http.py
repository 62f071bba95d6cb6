"""The configuration of the HTTP server, and of the metrics beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.base import Host, Origin, PeerPort, Port, Section, network
from gateway.config.values import Size


class HttpTlsConfig(Section):
    """HTTPS on a port of our own, without a proxy before it."""

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


class MetricsConfig(Section):
    """Figures for Prometheus, on an address of their own."""

    host: Host = Field("127.0.0.1", description="Address that `/metrics` listens on; it holds no patient data.")
    port: PeerPort | None = Field(None, description="Its port. Left out: there are none.")
