"""Alerts by e-mail (SMTP, RFC 5321)."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from enum import Enum

import aiosmtplib

from gateway.alerts.alert import Alert
from gateway.alerts.errors import AlertError, AlertFailed, AlertRefused
from gateway.runtime import reason

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
"""RFC 5321 §4.1.2 without quoted names: nothing that could end a header or a command."""


class Security(Enum):
    """How the connection to a mail server is protected. None of them falls back to less."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class EmailAlert:
    """Sends alerts by SMTP (RFC 5321)."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        recipients: Sequence[str],
        security: Security = Security.STARTTLS,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """*timeout*, in seconds, is for the whole delivery; *ca_file* is a PEM file that replaces the public CAs.

        Raises ValueError for what cannot be sent, OSError for an unreadable *ca_file*.
        """
        if not recipients:
            raise ValueError("an alert by e-mail needs a recipient")
        for address in (sender, *recipients):
            if not _ADDRESS.fullmatch(address):
                raise ValueError(f"{address!r} is no e-mail address: write name@example.org")
        if (username is None) != (password is None):
            raise ValueError("a mail server's username and password go together")
        if password is not None and security is Security.NONE:
            raise ValueError("a mail server's password is not sent without TLS: set security to starttls or tls")
        self._host = host
        self._port = port
        self._sender = sender
        self._recipients = tuple(recipients)
        self._security = security
        self._username = username
        self._password = password
        self._tls = None if security is Security.NONE else ssl.create_default_context(cafile=ca_file)
        self._timeout = timeout

    async def check(self) -> None:
        """Connects, logs in and leaves; nothing is sent. Raises AlertRefused, AlertFailed."""
        with self._told():
            async with asyncio.timeout(self._timeout):
                client = aiosmtplib.SMTP(
                    hostname=self._host,
                    port=self._port,
                    username=self._username,
                    password=self._password,
                    local_hostname=self._sender.rpartition("@")[2],
                    timeout=self._timeout,
                    use_tls=self._security is Security.TLS,
                    start_tls=self._security is Security.STARTTLS,
                    tls_context=self._tls,
                )
                async with client:
                    await client.noop()

    async def send(self, alert: Alert) -> None:
        """Returns once the server has taken the mail for one recipient at least. Raises AlertRefused, AlertFailed."""
        with self._told():
            async with asyncio.timeout(self._timeout):
                refused, _ = await aiosmtplib.send(
                    self._message(alert),
                    sender=self._sender,
                    recipients=self._recipients,
                    hostname=self._host,
                    port=self._port,
                    username=self._username,
                    password=self._password,
                    local_hostname=self._sender.rpartition("@")[2],  # as a name that DNS has
                    timeout=self._timeout,
                    use_tls=self._security is Security.TLS,
                    start_tls=self._security is Security.STARTTLS,
                    tls_context=self._tls,
                )
        if refused:
            server = f"mail server {self._host}:{self._port}"
            log.warning("%s: an alert was not taken for %d of its recipients", server, len(refused))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong, in words. Raises AlertRefused, AlertFailed."""
        server = f"mail server {self._host}:{self._port}"
        try:
            yield
        except aiosmtplib.SMTPRecipientsRefused as e:
            codes = [r.code for r in e.recipients]
            raise _by_code(
                min(codes, default=0), f"{server} takes mail for no recipient", "correct the recipients"
            ) from None
        except aiosmtplib.SMTPAuthenticationError as e:
            raise _by_code(e.code, f"{server} refuses the login", "correct its username and password") from None
        except aiosmtplib.SMTPSenderRefused as e:
            raise _by_code(e.code, f"{server} refuses the sender", "correct the sender, or let it send there") from None
        except aiosmtplib.SMTPResponseException as e:
            raise _by_code(e.code, f"{server} refuses the mail", "let this machine send there") from None
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPConnectError, TimeoutError, OSError) as e:
            if isinstance(e, ssl.SSLCertVerificationError) or isinstance(e.__cause__, ssl.SSLCertVerificationError):
                raise AlertFailed(
                    f"{server} shows a certificate that is not trusted: put its CA into ca_file"
                ) from None
            raise AlertFailed(
                f"{server} cannot be reached ({reason(e)}): is it up, and is its port one for {self._security.value}?"
            ) from None
        except (aiosmtplib.SMTPException, ValueError):
            raise AlertRefused(
                f"{server} does not offer {self._security.value} or the login: set security, or leave username out"
            ) from None

    def _message(self, alert: Alert) -> EmailMessage:
        told = alert.told()
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = alert.headline
        message["Date"] = datetime.fromtimestamp(alert.at, UTC)
        message["Message-ID"] = f"<{alert.key}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in reply
        if alert.urgent and not alert.ended:
            message["Importance"] = "high"
        lines = [told.pop("whatToDo"), "", *(f"{name}: {value}" for name, value in told.items()), ""]
        message.set_content("\n".join(lines))
        return message


def _by_code(code: int, what: str, fix: str) -> AlertError:
    """RFC 5321 §4.2.1: 5yz is permanent."""
    if 500 <= code < 600:
        return AlertRefused(f"{what} ({code}): {fix}")
    return AlertFailed(f"{what} for now ({code})")
