"""Alerts, out of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from gateway.admin import CertificateEnd, certificates
from gateway.alerts import SEND, Alert, AlertChannel, AlertDelivery, EmailAlert, Security, WebhookAlert
from gateway.app.errors import Misconfigured
from gateway.app.kinds import about
from gateway.config import AlertsConfig, Config, Section
from gateway.journal import Job, Kind
from gateway.web import DIRECT, Outbound

RETRY_FOR = 72 * 3600.0
"""Seconds for which an alert is tried."""


def alert_channels(config: AlertsConfig, way: Outbound = DIRECT) -> dict[str, AlertChannel]:
    """Who is told of what cannot wait, by name; *way* is that of webhooks, mail goes straight. Raises Misconfigured,
    OSError."""
    channels: dict[str, AlertChannel] = {}
    try:
        if (hook := config.webhook) is not None:
            channels["webhook"] = WebhookAlert(
                hook.url,
                bearer_token=_plain(hook.token),
                signing_key=_plain(hook.signing_key),
                ca_file=str(hook.ca_file) if hook.ca_file else None,
                outbound=way,
            )
        if (mail := config.email) is not None:
            channels["email"] = EmailAlert(
                mail.server,
                mail.port,
                sender=mail.sender,
                recipients=mail.recipients,
                security=Security(mail.security),
                username=mail.user,
                password=_plain(mail.password),
                ca_file=str(mail.ca_file) if mail.ca_file else None,
            )
    except ValueError as e:
        raise Misconfigured(f"alerts: {e}") from e
    return channels


def alert_kinds(channels: dict[str, AlertChannel]) -> dict[str, Kind]:
    """The kind of jobs that send them."""
    return {SEND: Kind(AlertDelivery(channels), 4, RETRY_FOR)}


def held_job(job: Job) -> Alert:
    """What is told of a job that waits for an operator."""
    named = about(job)
    identifiers = {name: named[key] for name, key in _IDENTIFIERS.items() if key in named}
    what = _WHAT.get(job.kind.partition(".")[0], "work of the gateway")
    return Alert(
        job.kind,
        "",
        f"{what[0].upper()}{what[1:]} waits for an operator",
        f"It is kept, and could not be brought on. avara-gateway jobs show {job.id} says why: put that right, and "
        "retry the job, or discard it.",
        job.ended or job.created,
        identifiers | {"job": str(job.id)},
    )


async def certificate_ends(config: Config) -> list[CertificateEnd]:
    """Until when every certificate holds that is ours or that our servers show: for ``check``, the page and alerts."""
    before = config.alerting.certificate_before
    return await certificates.ends(certificate_files(config), certificate_servers(config), before)


def certificate_files(config: Config) -> dict[str, Path]:
    """Files with certificates of ours, by the settings that name them."""
    return dict(_certificate_files(config, ""))


def _certificate_files(section: Section, prefix: str) -> Iterator[tuple[str, Path]]:
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{prefix}{name}"
        if name == "certificate_file" and value is not None:
            yield key, value
        of_sections = value if isinstance(value, list) else [value]
        for number, one in enumerate(of_sections):
            if isinstance(one, Section):
                yield from _certificate_files(one, f"{key}[{number}]." if isinstance(value, list) else f"{key}.")


def certificate_servers(config: Config) -> dict[str, str]:
    """Servers whose certificate somebody of the hospital renews: their URLs, by what they are."""
    store = config.store
    named = {
        "http.public_url": config.http.public_url,
        "store.public_endpoint": store.public_endpoint,
        "store.endpoint": f"https://{store.endpoint}" if store.endpoint and store.secure else None,
    } | {f"dicomweb_url of {pacs.name}": pacs.dicomweb_url for pacs in config.pacs}
    return {what: url for what, url in named.items() if url is not None and url.startswith("https://")}


_WHAT = {"report": "a report", "capture": "a capture"}
_IDENTIFIERS = {
    "reportId": "report", "studyId": "study_id", "studyInstanceUid": "study", "sopInstanceUid": "sop_instance",
}  # fmt: skip


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
