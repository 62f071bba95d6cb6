"""The way out, out of the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from yarl import URL

from gateway.app.errors import Misconfigured
from gateway.config import Config
from gateway.web import Outbound, Proxy


def proofs_of_hosts(config: Config) -> dict[str, Callable[[], Awaitable[None]]]:
    """What shows that each host outside is reached, where a proxy stands between; nothing is asked of them."""
    way = outbound(config)
    if way.proxy is None:
        return {}
    reports = [host for host in config.report_hosts if not host.startswith("*")] if config.reports.enabled else []
    urls = [URL(config.avara.api_url), *(URL(f"https://{host}") for host in reports)]
    ca_files = [None, *(str(config.reports.ca_file) if config.reports.ca_file else None for _ in reports)]
    return {
        f"through the proxy to {url.host}": partial(way.connect, url, way.tls(ca_file))
        for url, ca_file in zip(urls, ca_files, strict=True)
    }


def outbound(config: Config) -> Outbound:
    """As configured. Raises Misconfigured, OSError."""
    way = config.outbound
    proxy = None
    if way.proxy is not None:
        password = way.password.get_secret_value() if way.password is not None else ""
        proxy = Proxy(URL(way.proxy), way.user or "", password)
    try:
        return Outbound(proxy, no_proxy=way.no_proxy, ca_file=str(way.ca_file) if way.ca_file else None)
    except ValueError as e:
        raise Misconfigured(f"outbound: {e}") from e
