"""The way out: through the hospital's proxy where there is one, straight where there is none.

Many hospitals let nothing out but through a proxy (HTTP CONNECT, RFC 9110 §9.3.6). TLS is with the server behind
it, and is verified as without: a proxy carries bytes. One that opens TLS is told by its own authority
(``outbound.ca_file``).
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import quote

import aiohttp
from yarl import URL

from gateway.runtime import GatewayError, reason

CONNECT_WITHIN = 10.0
"""Seconds for a connection, through a proxy or not, TLS included."""


class Way(TypedDict, total=False):
    """What aiohttp's requests are given to go by a way; empty where they go straight.

    A session must have no ``Authorization`` of its own then: aiohttp gives a session's headers to the proxy, too. It
    belongs into the request.
    """

    proxy: URL
    proxy_headers: dict[str, str]


class NoWay(GatewayError):
    """A connection did not come about; the text is for the operator, and names the likely mend."""

    transient = True


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy for what leaves the hospital."""

    url: URL
    """``http://`` or ``https://``, without a user."""
    user: str = ""
    password: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What it wants to know of us (RFC 7617)."""
        if not self.user:
            return {}
        known = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {known}"}

    def __repr__(self) -> str:
        return f"Proxy({self.url.host}:{self.url.port})"  # and no password


class Outbound:
    """Which way a request goes."""

    def __init__(self, proxy: Proxy | None = None, *, no_proxy: Sequence[str] = (), ca_file: str | None = None) -> None:
        """*no_proxy* are names (and what is below them), addresses, and networks that are reached straight, besides
        this machine, addresses of private networks, and names without a dot. *ca_file* is a PEM file with authorities
        that are trusted besides the others. Raises OSError where it cannot be read."""
        self.proxy = proxy
        self._ca_file = ca_file
        self._networks = [network for entry in no_proxy if (network := _network(entry)) is not None]
        self._names = [e.lower().removeprefix("*").strip(".") for e in no_proxy if _network(e) is None]
        if ca_file is not None:
            self.tls(None)  # now, while somebody looks

    def through_proxy(self, host: str) -> bool:
        """Whether *host*, a name or an address, is reached through the proxy."""
        if self.proxy is None:
            return False
        host = host.lower().strip("[]").rstrip(".")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            inside = "." not in host or host.endswith(".localhost")
            return not inside and not any(host == name or host.endswith(f".{name}") for name in self._names)
        listed = any(address.version == network.version and address in network for network in self._networks)
        return address.is_global and not listed

    def way(self, url: URL | str) -> Way:
        """What a request for *url* has to be given."""
        if self.proxy is None or not self.through_proxy(URL(url).host or ""):
            return {}
        return Way(proxy=self.proxy.url, proxy_headers=self.proxy.headers)

    def url_for(self, host: str) -> str | None:
        """The proxy for *host*, with its user, for clients that take nothing else; a secret. None: it goes straight."""
        if self.proxy is None or not self.through_proxy(host):
            return None
        known = {"user": quote(self.proxy.user, safe=""), "password": quote(self.proxy.password, safe="")}
        return str(self.proxy.url if not self.proxy.user else self.proxy.url.with_user(None)).replace(
            "://", "://{user}:{password}@".format(**known) if self.proxy.user else "://", 1
        )

    def tls(self, ca_file: str | None) -> ssl.SSLContext:
        """TLS of a server outside: *ca_file*, a PEM file, replaces the public authorities; ours come besides. Raises
        OSError."""
        context = ssl.create_default_context(cafile=ca_file)
        if self._ca_file is not None:
            context.load_verify_locations(self._ca_file)
        return context

    async def connect(self, url: URL, tls: ssl.SSLContext) -> None:
        """Makes a connection as far as TLS, and sends nothing. Raises NoWay."""
        host, port = url.host or "", url.port or 443
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                if self.through_proxy(host):
                    # Of any way to ask a proxy for a connection, the one that is used later is what has to be proven.
                    await self._head(url, tls)
                    return
                _, writer = await asyncio.open_connection(host, port, ssl=tls if url.scheme == "https" else None)
                writer.close()
        except (TimeoutError, OSError, aiohttp.ClientError) as e:
            raise NoWay(self.why(e, host)) from None

    async def _head(self, url: URL, tls: ssl.SSLContext) -> None:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, force_close=True), trust_env=False) as http,
            http.head(url.origin(), allow_redirects=False, **self.way(url)),
        ):
            pass

    def why(self, e: BaseException, host: str) -> str:
        """Why *host* was not reached, for the operator: nothing of a URL or a password."""
        by_proxy = self.through_proxy(host)
        if by_proxy and isinstance(e, aiohttp.ClientHttpProxyError):
            return f"the proxy {self._place} {_refused(e.status)}"
        if by_proxy and isinstance(e, aiohttp.ClientProxyConnectionError):
            return f"the proxy {self._place} cannot be reached: {reason(e)}"
        text = reason(e)
        if "certificate cannot be trusted" in text and by_proxy:
            return f"{text}: where the proxy opens TLS, put the proxy's own CA into outbound.ca_file"
        return f"{text}, through the proxy {self._place}" if by_proxy else text

    @property
    def _place(self) -> str:
        assert self.proxy is not None
        return f"{self.proxy.url.host}:{self.proxy.url.port}"


DIRECT = Outbound()
"""Straight, as where no proxy is configured."""


def _refused(status: int) -> str:
    if status == 407:
        return "wants a user and a password that it knows (407): correct outbound.user and outbound.password_file"
    if status == 403:
        return "does not let us go there (403): have that host allowed on it"
    if status in (502, 503, 504):
        return f"does not reach it ({status}): does the proxy know that name?"
    return f"refuses the connection ({status}): have that host and port allowed on it"


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None
