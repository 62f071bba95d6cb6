"""Fetches a report's PDF from the presigned URL that Avara gave (docs/contract.md: Events), by
:mod:`gateway.reports.pdf.hosts`.

The address that was checked is the one that is connected to, or a name that answers differently the second time would
lead inside.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.reports.errors import ReportError
from gateway.reports.pdf.hosts import address_of, allowed_host, is_host, is_public
from gateway.runtime import reason
from gateway.web import DIRECT, Outbound

MAX_URL = 16 * 1024
"""Characters; S3 URLs with a session token have some 2,000."""

MAX_REDIRECTS = 3

CONNECT_WITHIN = 10.0
"""Seconds for the name, the connection and TLS."""

_GONE = frozenset({400, 401, 403, 404, 410})
"""What S3 answers to a URL that has expired (400 where its temporary credentials have), or whose object is gone."""

TRY_AGAIN = frozenset({408, 425, 429})
"""What may be otherwise soon (RFC 9110, RFC 8470, RFC 6585)."""


class UrlExpired(ReportError):
    """The URL gives nothing any more: another one is to be asked for."""


class NotAllowed(ReportError):
    """The URL leads to where the operator does not let the gateway go."""


class PdfTooLarge(ReportError):
    """What the URL gives is larger than a report may be."""


class DownloadFailed(ReportError):
    """The other side could not be reached, failed, or was too slow."""

    transient = True


class PdfDownload:
    """GETs PDFs from hosts that are allowed."""

    def __init__(
        self,
        *,
        allowed_hosts: Sequence[str],
        max_size: int = 50_000_000,
        timeout: float = 300.0,
        idle_timeout: float = 30.0,
        ca_file: str | None = None,
        allow_http: bool = False,
        allow_private: bool = False,
        outbound: Outbound = DIRECT,
    ) -> None:
        """*allowed_hosts* are exact names, or ``*.suffix`` for any name below one; ``:port`` behind it where it is
        not HTTPS's own. *max_size* is in bytes, *timeout* (the whole download) and *idle_timeout* in seconds.
        *ca_file* is a PEM file that replaces the public CAs. *allow_http* and *allow_private* are for a demo or a
        test on one machine. *outbound* is the way there. Through a proxy the names and addresses in URLs are checked
        as without, while it is the proxy that looks up what address a name has. Raises ValueError for an entry that
        is no host, OSError for an unreadable *ca_file*.
        """
        self._allowed = tuple(allowed_host(entry) for entry in allowed_hosts)
        self._max_size = max_size
        self._timeout = aiohttp.ClientTimeout(
            total=timeout, connect=CONNECT_WITHIN, sock_connect=CONNECT_WITHIN, sock_read=idle_timeout
        )
        self._ssl = outbound.tls(ca_file)
        self._outbound = outbound
        self._schemes = {"https": 443, "http": 80} if allow_http else {"https": 443}
        self._allow_private = allow_private

    async def fetch(self, url: str) -> bytes:
        """What *url* gives. Raises UrlExpired, NotAllowed, TooLarge, DownloadFailed."""
        at = _parsed(url)
        # Redirects are followed by hand: each is a URL from outside like the first.
        for _ in range(1 + MAX_REDIRECTS):
            self._check(at)
            got = await self._get(at)
            if isinstance(got, bytes):
                return got
            if at.scheme == "https" and got.scheme != "https":
                raise NotAllowed(f"{at.host} redirects from HTTPS to {got.scheme[:10]}: it is not followed")
            at = got
        raise DownloadFailed(f"{at.host} redirects more than {MAX_REDIRECTS} times")

    def _check(self, url: URL) -> None:
        host, port = url.host or "", url.port or 0
        shown = host if is_host(host) else "a host whose name is not valid"
        if url.scheme not in self._schemes:
            raise NotAllowed(f"the report's URL at {shown} is not HTTPS: Avara has to give an https:// one")
        if url.user is not None or url.password is not None:
            raise NotAllowed(f"the report's URL at {shown} has a user name in it: Avara has to give one without")
        default_port = self._schemes[url.scheme]
        if not is_host(host) or not any(a.matches(host, port, default_port) for a in self._allowed):
            named = shown if port == default_port else f"{shown}:{port}"
            raise NotAllowed(f"the report is at {named}: add it to reports.allowed_hosts if it is Avara's")
        if (address := address_of(host)) is not None and not self._allow_private and not is_public(address):
            raise _not_public(host)

    async def _get(self, url: URL) -> bytes | URL:
        way = self._outbound.way(url)
        try:
            # A connection of its own for each: reports are rare, and nothing is left from another host.
            connector = aiohttp.TCPConnector(
                ssl=self._ssl,
                # The proxy is the operator's own, and most stand inside.
                resolver=aiohttp.ThreadedResolver() if way else _CheckedResolver(self._allow_private),
                use_dns_cache=False,
                force_close=True,
            )
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=self._timeout,
                    auto_decompress=False,
                    trust_env=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"Accept": "application/pdf", "Accept-Encoding": "identity"},
                ) as http,
                http.get(url, allow_redirects=False, **way) as answer,
            ):
                return await self._answered(answer, url)
        except TimeoutError:
            raise DownloadFailed(f"{url.host} does not give the report in time: is the Internet reachable?") from None
        # The causes are not told: some quote the URL.
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as e:
            raise DownloadFailed(f"{url.host} cannot be reached: {self._outbound.why(e, url.host or '')}") from None
        except aiohttp.ClientConnectorCertificateError:
            raise DownloadFailed(
                f"{url.host} shows a certificate that is not trusted: where a proxy opens TLS, put its CA into "
                f"{'outbound.ca_file' if way else 'reports.ca_file'}"
            ) from None
        except aiohttp.ClientConnectorDNSError:
            raise DownloadFailed(f"{url.host} has no address: does this machine's DNS know it?") from None
        except aiohttp.ClientConnectorError:
            raise DownloadFailed(f"{url.host} cannot be reached: does a firewall let this machine out to it?") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise DownloadFailed(f"{url.host} fails to give the report ({reason(e)})") from None

    async def _answered(self, answer: aiohttp.ClientResponse, url: URL) -> bytes | URL:
        host, status = url.host, answer.status
        if status in (301, 302, 303, 307, 308):
            return url.join(_parsed(answer.headers.get("Location", "")))
        if status in _GONE or (400 <= status < 500 and status not in TRY_AGAIN):
            raise UrlExpired(f"{host} answers {status}: the report's URL has expired")
        if status != 200:
            raise DownloadFailed(f"{host} answers {status}")
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        # aws-chunked is what some S3 servers keep of how an object was uploaded; the content is plain.
        if encoding not in ("", "identity", "aws-chunked"):
            raise DownloadFailed(f"{host} sends the report compressed, though it was asked not to")
        if (answer.content_length or 0) > self._max_size:
            raise self._too_large(host)
        content = bytearray()
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > self._max_size:
                raise self._too_large(host)
        return bytes(content)

    def _too_large(self, host: str | None) -> PdfTooLarge:
        return PdfTooLarge(f"{host} gives more than reports.max_size allows ({self._max_size} bytes)")


class _CheckedResolver(AbstractResolver):
    """Gives the connector only those addresses of a name that may be connected to."""

    def __init__(self, allow_private: bool) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if self._allow_private:
            return found
        public = [f for f in found if (a := address_of(f["host"])) is not None and is_public(a)]
        if found and not public:
            raise _not_public(host)
        return public

    async def close(self) -> None:
        await self._inner.close()


def _not_public(host: str) -> NotAllowed:
    return NotAllowed(
        f"{host} of reports.allowed_hosts has an address inside the hospital or on this machine: correct the entry, "
        "or the DNS that gives the address"
    )


def _parsed(url: str) -> URL:
    try:
        if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError
        parsed = URL(url, encoded=True)  # as it was signed
        _ = parsed.host, parsed.port
    except (ValueError, TypeError):
        raise NotAllowed("the report's URL is not valid: Avara has to give an https:// one") from None
    return parsed
