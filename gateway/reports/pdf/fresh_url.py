"""Asks Avara, by its own SDK, for a fresh presigned URL of a report's PDF (docs/contract.md: Events)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from yarl import URL

from gateway.reports.errors import ReportError
from gateway.reports.pdf.download import TRY_AGAIN, DownloadFailed
from gateway.runtime import in_thread
from gateway.web import DIRECT, Outbound

AVARA_API = "https://api.avarasoftware.com"


class CannotAsk(ReportError):
    """Avara cannot be asked for a report as things are configured, or does not have it."""


async def ask_avara(
    api_key: str,
    study_id: str,
    report_id: str,
    *,
    base_url: str = AVARA_API,
    timeout: float = 30.0,
    ca_file: str | None = None,
    outbound: Outbound = DIRECT,
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
    trusted = await in_thread(outbound.tls, ca_file)
    proxy = outbound.url_for(URL(base_url).host or "")
    http = avara.DefaultAsyncHttpxClient(verify=trusted, trust_env=False, follow_redirects=False, proxy=proxy)
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
    except (avara.AvaraError, ValueError):
        raise DownloadFailed("Avara's API gives an answer that cannot be read") from None
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
    if 400 <= status < 500 and status not in (*TRY_AGAIN, 409):
        return CannotAsk(f"Avara's API refuses to give the report's URL ({status}): look at the report in Avara")
    return DownloadFailed(f"Avara's API fails with {status}")
