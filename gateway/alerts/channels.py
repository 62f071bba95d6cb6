"""Tells somebody of a critical report, or of one that waits for an operator: by webhook or by e-mail.

An alert leaves the hospital's clinical systems, so it holds identifiers and what to do, and nothing of the patient. It
is sent at least once: its key is the same for every try, as ``Idempotency-Key`` and ``webhook-id`` of a webhook and as
``Message-ID`` of an e-mail, so that a receiver can drop what it has.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from enum import Enum

import aiohttp
import aiosmtplib
from yarl import URL

from gateway.alerts.errors import AlertError
from gateway.avara.signature import sign

log = logging.getLogger(__name__)

CONNECT_WITHIN = 10.0
"""Seconds."""

_TRY_AGAIN = frozenset({408, 425, 429})

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
"""RFC 5321 §4.1.2 without quoted names: nothing that could end a header or a command."""


class AlertRefused(AlertError):
    """The receiver will not have the alert as things are configured."""


class AlertFailed(AlertError):
    """The receiver was not reached, failed, or was too slow."""

    transient = True


class AlertKind(Enum):
    """What an alert is about."""

    CRITICAL = "report.critical"
    UNKNOWN_STUDY = "report.unknown_study"
    WAITING = "report.waiting"


_SUBJECTS = {
    AlertKind.CRITICAL: "Critical report",
    AlertKind.UNKNOWN_STUDY: "A report waits: its study is not known",
    AlertKind.WAITING: "A report waits for an operator",
}
_TO_DO = {
    AlertKind.CRITICAL: (
        "A radiologist has marked this report as critical. Open the study in the PACS, read the report, and tell the "
        "referring physician."
    ),
    AlertKind.UNKNOWN_STUDY: (
        "This report is kept, and Avara does not say which study of the PACS it is of. Find that out, and say it: "
        "avara-gateway jobs list shows the job, avara-gateway jobs assign takes the Study Instance UID."
    ),
    AlertKind.WAITING: (
        "This report is kept, and could not be brought to one of the places where it belongs. "
        "avara-gateway jobs list says why: put that right, and retry the job."
    ),
}


@dataclass(frozen=True, slots=True)
class Alert:
    """What is told of a report."""

    kind: AlertKind
    report_id: str
    study_id: str
    """Avara's."""
    study_instance_uid: str
    """Empty where it is not known."""
    at: float
    """Unix seconds at which the report was acknowledged."""
    digest: str = ""
    """Of what the report says, so that the next version is an alert of its own."""

    @property
    def key(self) -> str:
        """The same for every try, and for nothing else."""
        identity = "\0".join((self.kind.value, self.report_id, self.study_id, self.digest))
        return "alert_" + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def facts(self) -> dict[str, str]:
        """What is told, as a webhook's JSON has it. Avara's ids are opaque, and shown as printable ASCII."""
        study = {"studyInstanceUid": _plain(self.study_instance_uid)} if self.study_instance_uid else {}
        return {
            "kind": self.kind.value,
            "reportId": _plain(self.report_id),
            "studyId": _plain(self.study_id),
            **study,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds"),
            "whatToDo": _TO_DO[self.kind],
        }


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
            raise ValueError("the alert's URL is none: write https://host/path, without a user name")
        if bearer_token is not None and not re.fullmatch(r"[\x21-\x7e]+", bearer_token):
            raise ValueError("the alert's bearer token is empty, or has a space or a character that is not ASCII")
        if signing_key is not None:
            sign(signing_key, "probe", b"")
        self._bearer_token = bearer_token
        self._signing_key = signing_key
        self._ssl = ssl.create_default_context(cafile=ca_file)
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=CONNECT_WITHIN)

    async def send(self, alert: Alert) -> None:
        """Returns once the receiver has answered 2xx. Raises AlertRefused, AlertFailed."""
        body = json.dumps(alert.facts()).encode()
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
                http.post(self._url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except TimeoutError:
            raise AlertFailed(f"the alert's receiver {self._url.host} does not answer in time") from None
        except aiohttp.ClientConnectorCertificateError:
            raise AlertFailed(
                f"the alert's receiver {self._url.host} shows a certificate that is not trusted: put its CA into "
                "ca_file"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise AlertFailed(
                f"the alert's receiver {self._url.host} cannot be reached ({type(e).__name__}): is it up?"
            ) from None
        if status >= 500 or status in _TRY_AGAIN:
            raise AlertFailed(f"the alert's receiver {self._url.host} fails with {status}")
        if 300 <= status < 400:
            raise AlertRefused(f"the alert's receiver {self._url.host} redirects ({status}): configure its new URL")
        if not 200 <= status < 300:
            raise AlertRefused(
                f"the alert's receiver {self._url.host} refuses it with {status}: correct its URL, token or key"
            )


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

    async def send(self, alert: Alert) -> None:
        """Returns once the server has taken the mail for one recipient at least. Raises AlertRefused, AlertFailed."""
        server = f"mail server {self._host}:{self._port}"
        try:
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
                f"{server} cannot be reached, or does not answer in time ({type(e).__name__}): is it up, and is its "
                f"port one for {self._security.value}?"
            ) from None
        except (aiosmtplib.SMTPException, ValueError):
            raise AlertRefused(
                f"{server} does not offer {self._security.value} or the login: set security, or leave username out"
            ) from None
        if refused:
            log.warning("%s: an alert was not taken for %d of its recipients", server, len(refused))

    def _message(self, alert: Alert) -> EmailMessage:
        facts = alert.facts()
        message = EmailMessage(policy=SMTP)
        message["From"] = self._sender
        message["To"] = ", ".join(self._recipients)
        message["Subject"] = f"{_SUBJECTS[alert.kind]}: {facts['reportId']}"
        message["Date"] = datetime.fromtimestamp(alert.at, UTC)
        message["Message-ID"] = f"<{alert.key}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in reply
        if alert.kind is AlertKind.CRITICAL:
            message["Importance"] = "high"
        lines = [str(facts.pop("whatToDo")), "", *(f"{name}: {value}" for name, value in facts.items()), ""]
        message.set_content("\n".join(lines))
        return message


def _by_code(code: int, what: str, fix: str) -> AlertError:
    """RFC 5321 §4.2.1: 5yz is permanent."""
    if 500 <= code < 600:
        return AlertRefused(f"{what} ({code}): {fix}")
    return AlertFailed(f"{what} for now ({code})")


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:128])
