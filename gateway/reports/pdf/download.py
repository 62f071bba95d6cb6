"""Fetches a report's PDF from the presigned URL that Avara gave, or asks Avara for a fresh one
(docs/contract.md: Events).

A URL from outside makes the gateway, which stands inside the hospital, send a request. So it goes to listed hosts
only, and to public addresses only; the address that was checked is the one that is connected to, or a name that
answers differently the second time would lead inside.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.reports.errors import ReportError

MAX_URL = 16 * 1024
"""Characters; S3 URLs with a session token have some 2,000."""

MAX_REDIRECTS = 3

CONNECT_WITHIN = 10.0
"""Seconds for the name, the connection and TLS."""

AVARA_API = "https://api.avarasoftware.com"

_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A host name whose last label begins with a letter: 127.1 and 0x7f000001 are addresses in disguise."""

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("100.64.0.0/10", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
"""CGNAT (RFC 6598) and 6to4 relays (RFC 7526); in IPv6's public range special purposes, documentation and 6to4."""

_IPV6_PUBLIC = ipaddress.ip_network("2000::/3")
"""All that is assigned (RFC 4291 §2.4). IPv4-mapped, NAT64, unique local and link-local addresses lie outside."""

_GONE = frozenset({400, 401, 403, 404, 410})
"""What S3 answers to a URL that has expired (400 where its temporary credentials have), or whose object is gone."""

_TRY_AGAIN = frozenset({408, 425, 429})


class UrlExpired(ReportError):
    """The URL gives nothing any more: another one is to be asked for."""


class NotAllowed(ReportError):
    """The URL leads to where the operator does not let the gateway go."""


class TooLarge(ReportError):
    """What the URL gives is larger than a report may be."""


class DownloadFailed(ReportError):
    """The other side could not be reached, failed, or was too slow."""

    transient = True


class CannotAsk(ReportError):
    """Avara cannot be asked for a report as things are configured, or does not have it."""


@dataclass(frozen=True, slots=True)
class _AllowedHost:
    name: str
    """Without the star: a leading dot stands for any name below."""
    port: int | None

    def matches(self, host: str, port: int, default_port: int) -> bool:
        if port != (default_port if self.port is None else self.port):
            return False
        return host.endswith(self.name) if self.name.startswith(".") else host == self.name


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
    ) -> None:
        """*allowed_hosts* are exact names, or ``*.suffix`` for any name below one; ``:port`` behind it where it is
        not HTTPS's own. *max_size* is in bytes, *timeout* (the whole download) and *idle_timeout* in seconds.
        *ca_file* is a PEM file that replaces the public CAs. *allow_http* and *allow_private* are for a demo or a
        test on one machine. Raises ValueError for an entry that is no host, OSError for an unreadable *ca_file*.
        """
        self._allowed = tuple(_allowed_host(entry) for entry in allowed_hosts)
        self._max_size = max_size
        self._timeout = aiohttp.ClientTimeout(
            total=timeout, connect=CONNECT_WITHIN, sock_connect=CONNECT_WITHIN, sock_read=idle_timeout
        )
        self._ssl = ssl.create_default_context(cafile=ca_file)
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
        shown = host if _is_host(host) else "a host whose name is none"
        if url.scheme not in self._schemes:
            raise NotAllowed(f"the report's URL at {shown} is not HTTPS: Avara has to give an https:// one")
        if url.user is not None or url.password is not None:
            raise NotAllowed(f"the report's URL at {shown} has a user name in it: Avara has to give one without")
        default_port = self._schemes[url.scheme]
        if not _is_host(host) or not any(a.matches(host, port, default_port) for a in self._allowed):
            named = shown if port == default_port else f"{shown}:{port}"
            raise NotAllowed(f"the report is at {named}: add it to reports.allowed_hosts if it is Avara's")
        if (address := _address(host)) is not None and not self._allow_private and not is_public(address):
            raise _not_public(host)

    async def _get(self, url: URL) -> bytes | URL:
        try:
            # A connection of its own for each: reports are rare, and nothing is left from another host.
            connector = aiohttp.TCPConnector(
                ssl=self._ssl,
                resolver=_CheckedResolver(self._allow_private),
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
                http.get(url, allow_redirects=False) as answer,
            ):
                return await self._answered(answer, url)
        except TimeoutError:
            raise DownloadFailed(f"{url.host} does not give the report in time: is the Internet reachable?") from None
        # The causes are not told: some quote the URL.
        except aiohttp.ClientConnectorCertificateError:
            raise DownloadFailed(
                f"{url.host} shows a certificate that is not trusted: where a proxy opens TLS, put its CA into "
                "reports.ca_file"
            ) from None
        except aiohttp.ClientConnectorDNSError:
            raise DownloadFailed(f"{url.host} has no address: does this machine's DNS know it?") from None
        except aiohttp.ClientConnectorError:
            raise DownloadFailed(f"{url.host} cannot be reached: does a firewall let this machine out to it?") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise DownloadFailed(f"{url.host} fails to give the report ({type(e).__name__})") from None

    async def _answered(self, answer: aiohttp.ClientResponse, url: URL) -> bytes | URL:
        host, status = url.host, answer.status
        if status in (301, 302, 303, 307, 308):
            return url.join(_parsed(answer.headers.get("Location", "")))
        if status in _GONE or (400 <= status < 500 and status not in _TRY_AGAIN):
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

    def _too_large(self, host: str | None) -> TooLarge:
        return TooLarge(f"{host} gives more than reports.max_size allows ({self._max_size} bytes)")


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
        public = [f for f in found if (a := _address(f["host"])) is not None and is_public(a)]
        if found and not public:
            raise _not_public(host)
        return public

    async def close(self) -> None:
        await self._inner.close()


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether *address* is one of the Internet's, and no way to one inside (RFC 6890 and what came since)."""
    if isinstance(address, ipaddress.IPv6Address) and address not in _IPV6_PUBLIC:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


async def ask_avara(
    api_key: str,
    study_id: str,
    report_id: str,
    *,
    base_url: str = AVARA_API,
    timeout: float = 30.0,
    ca_file: str | None = None,
) -> str:
    """A fresh presigned URL of a report's PDF, by Avara's own SDK.

    *timeout* is in seconds; *ca_file* is a PEM file that replaces the public CAs. Raises CannotAsk, DownloadFailed,
    and OSError for an unreadable *ca_file*.
    """
    try:
        import avara
    except ImportError:
        raise CannotAsk(
            "the report's URL has expired, and Avara's SDK, which asks for another, is not installed: "
            "pip install 'avara-gateway[avara]'"
        ) from None
    trusted = await asyncio.to_thread(ssl.create_default_context, cafile=ca_file)
    http = avara.DefaultAsyncHttpxClient(verify=trusted, trust_env=False, follow_redirects=False)
    try:
        # Tries again are the job's, whose pauses grow.
        async with (
            asyncio.timeout(timeout),
            avara.AsyncAvara(
                api_key=api_key, base_url=base_url, timeout=timeout, max_retries=0, http_client=http
            ) as client,
        ):
            answer = await client.auto_scribe.reports.pdf(report_id=report_id)
    except avara.APIStatusError as e:
        raise _refused(e.status_code) from None
    except (avara.APIConnectionError, TimeoutError):
        raise DownloadFailed("Avara's API cannot be reached, or does not answer in time") from None
    except (avara.AvaraError, ValueError) as e:
        raise DownloadFailed(f"Avara's API gives an answer that is none ({type(e).__name__})") from None
    # The SDK does not check what it is given.
    for found in (answer, *_listed(answer)):
        if getattr(found, "report_id", None) == report_id and getattr(found, "study_id", None) == study_id:
            url = getattr(found, "presigned_url", None)
            if isinstance(url, str) and url:
                return url
    raise CannotAsk("Avara's API gives no URL for this report: look at the report in Avara")


def _listed(answer: Any) -> Sequence[Any]:
    reports = getattr(answer, "reports", None)
    return reports if isinstance(reports, list) else ()


def _refused(status: int) -> ReportError:
    if status in (401, 403):
        return CannotAsk(f"Avara's API refuses our key ({status}): correct avara.api_key")
    if status == 404:
        return CannotAsk("Avara's API does not know this report (404): look at the report in Avara")
    if 400 <= status < 500 and status not in (*_TRY_AGAIN, 409):
        return CannotAsk(f"Avara's API refuses to give the report's URL ({status}): look at the report in Avara")
    return DownloadFailed(f"Avara's API fails with {status}")


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
        raise NotAllowed("the report's URL is no URL: Avara has to give an https:// one") from None
    return parsed


def _allowed_host(entry: str) -> _AllowedHost:
    text = entry.strip().lower()
    bracketed = re.fullmatch(r"\[([0-9a-f:.]+)\](?::(\d{1,5}))?", text)
    name, port = (bracketed[1], bracketed[2]) if bracketed else (text, None)
    if not bracketed and text.count(":") == 1:
        name, port = text.split(":")
    if name.startswith("*."):
        name = name[1:]
    suffix = name.startswith(".")
    wrong = not _is_host(name[1:]) or "." not in name[1:] or _address(name[1:]) if suffix else not _is_host(name)
    if wrong or (port is not None and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError(f"{entry!r} is no host: write reports.example.com, or *.example.com for any host below it")
    return _AllowedHost(name, None if port is None else int(port))


def _is_host(text: str) -> bool:
    return _NAME.fullmatch(text) is not None or _address(text) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
