"""Alerts by HTTP POST."""

from __future__ import annotations

import json
import re

import aiohttp
from yarl import URL

from gateway.alerts.alert import Alert
from gateway.alerts.errors import AlertFailed, AlertRefused
from gateway.avara import sign
from gateway.web import DIRECT, NoWay, Outbound

CONNECT_WITHIN = 10.0
"""Seconds."""

_TRY_AGAIN = frozenset({408, 425, 429})


class WebhookAlert:
    """POSTs alerts as JSON to one URL, which may well lie inside the hospital: the operator has chosen it."""

    def __init__(
        self,
        url: str,
        *,
        bearer_token: str | None = None,
        signing_key: str | None = None,
        ca_file: str | None = None,
        timeout: float = 30.0,
        outbound: Outbound = DIRECT,
    ) -> None:
        """*signing_key*, ``whsec_<base64>``, signs each as Standard Webhooks have it; *timeout* is in seconds.
        *ca_file* is a PEM file that replaces the public CAs.

        Raises ValueError for a URL, token or key that is none, OSError for an unreadable *ca_file*.
        """
        try:
            self._url = URL(url)
            usable = self._url.scheme in ("http", "https") and self._url.host and self._url.user is None
        except (ValueError, TypeError):
            usable = False
        if not usable:  # not quoted: a path such as a chat's is a secret
            raise ValueError("the alert's URL is not valid: write https://host/path, without a user name")
        if bearer_token is not None and not re.fullmatch(r"[\x21-\x7e]+", bearer_token):
            raise ValueError("the alert's bearer token is empty, or has a space or a character that is not ASCII")
        if signing_key is not None:
            sign(signing_key, "probe", b"")
        self._bearer_token = bearer_token
        self._signing_key = signing_key
        self._ssl = outbound.tls(ca_file)
        self._outbound = outbound
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=CONNECT_WITHIN)

    async def check(self) -> None:
        """Whether the receiver takes connections; nothing is sent. Raises AlertFailed."""
        try:
            await self._outbound.connect(self._url, self._ssl)
        except NoWay as e:
            at = f"{self._url.host}:{self._url.port}"
            raise AlertFailed(f"the alert's receiver {at} cannot be reached: {e}") from None

    async def send(self, alert: Alert) -> None:
        """Returns once the receiver has answered 2xx. Raises AlertRefused, AlertFailed."""
        body = json.dumps(alert.told()).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": alert.key}
        if self._bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._bearer_token}"
        if self._signing_key is not None:
            headers |= sign(self._signing_key, alert.key, body)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._ssl, force_close=True),
                    timeout=self._timeout,
                    auto_decompress=False,
                    trust_env=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as http,
                http.post(
                    self._url, data=body, headers=headers, allow_redirects=False, **self._outbound.way(self._url)
                ) as answer,
            ):
                status = answer.status
        except TimeoutError:
            raise AlertFailed(f"the alert's receiver {self._url.host} does not answer in time") from None
        except aiohttp.ClientConnectorCertificateError:
            raise AlertFailed(
                f"the alert's receiver {self._url.host} shows a certificate that is not trusted: put its CA into "
                f"{'outbound.ca_file' if self._outbound.through_proxy(self._url.host or '') else 'ca_file'}"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise AlertFailed(
                f"the alert's receiver {self._url.host} cannot be reached: "
                f"{self._outbound.why(e, self._url.host or '')}"
            ) from None
        if status >= 500 or status in _TRY_AGAIN:
            raise AlertFailed(f"the alert's receiver {self._url.host} fails with {status}")
        if 300 <= status < 400:
            raise AlertRefused(f"the alert's receiver {self._url.host} redirects ({status}): configure its new URL")
        if not 200 <= status < 300:
            raise AlertRefused(
                f"the alert's receiver {self._url.host} refuses it with {status}: correct its URL, token or key"
            )
