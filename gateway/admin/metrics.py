"""Figures for Prometheus: jobs by kind and state, critical reports, what lies in the cache; no patient, no UID."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.journal import Jobs, JobState, JournalError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """Where the figures come from."""

    jobs: Jobs
    critical_reports: Callable[[], int]
    """Since the start."""
    reports: Callable[[], Mapping[str, int]]
    """Of those that Avara has signed lately, by where they are; empty while that is not known."""
    cache_bytes: Callable[[], int]
    fetches: Callable[[], int]
    """Under way."""
    rejected_associations: Callable[[], int]
    """Since the start: of hosts that are no PACS of ours."""
    unlisted_instances: Callable[[], int]
    """Since the start: sent to us as part of a study that the PACS does not list them in."""


class Metrics:
    """Serves ``GET /metrics`` on an address of its own, for a Prometheus that may reach it."""

    def __init__(self, figures: Figures, *, host: str, port: int) -> None:
        self._figures = figures
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens. Raises OSError where the address cannot be had."""
        application = web.Application()
        application.router.add_get("/metrics", self._handle)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Listens no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            counts = await self._figures.jobs.counts()
        except JournalError as e:
            log.warning("no metrics: %s", e)
            return web.Response(status=503, text="the journal cannot be read\n")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(_families(self._figures, counts)))
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Collected:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(figures: Figures, counts: dict[tuple[str, JobState], int]) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "avara_gateway_jobs",
        "Captures, reports and what they bring about, by where they stand.",
        labels=["kind", "state"],
    )
    for (kind, state), number in sorted(counts.items(), key=lambda item: (item[0][0], item[0][1].value)):
        jobs.add_metric([kind, state.value], number)
    yield jobs
    yield GaugeMetricFamily(
        "avara_gateway_jobs_quarantined", "Jobs that wait for an operator.",
        value=sum(n for (_, state), n in counts.items() if state is JobState.QUARANTINED),
    )  # fmt: skip
    yield CounterMetricFamily(
        "avara_gateway_critical_reports", "Critical reports acknowledged since the start.",
        value=figures.critical_reports(),
    )  # fmt: skip
    reports = GaugeMetricFamily(
        "avara_gateway_reports",
        "Reports that Avara has signed for studies of the last days, and how many of them are where they belong.",
        labels=["where"],
    )
    for where, number in figures.reports().items():
        reports.add_metric([where], number)
    yield reports
    yield GaugeMetricFamily("avara_gateway_cache_bytes", "Bytes of studies in the store.", value=figures.cache_bytes())
    yield CounterMetricFamily(
        "avara_gateway_rejected_associations", "Associations of hosts that are no PACS of ours, since the start.",
        value=figures.rejected_associations(),
    )  # fmt: skip
    yield CounterMetricFamily(
        "avara_gateway_unlisted_instances",
        "Instances that came as part of a study in which the PACS does not list them, since the start: an alarm.",
        value=figures.unlisted_instances(),
    )
    yield GaugeMetricFamily("avara_gateway_fetches", "Studies that are being fetched.", value=figures.fetches())
