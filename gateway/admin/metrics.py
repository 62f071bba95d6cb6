"""Figures for Prometheus, by name in docs/metrics.md: what is asked for when they are fetched, and what was measured
(gateway/admin/measures.py); no patient, no UID."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.admin.measures import Measures
from gateway.journal import Jobs, JobState, JournalError
from gateway.runtime import Clock, LoopState

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
    measures: Measures
    clock: Clock
    alerts: Callable[[], Awaitable[Mapping[str, int]]]
    """That stand, by kind. Raises JournalError."""
    loops: Callable[[], Sequence[LoopState]]
    pacs: Callable[[], Mapping[str, bool]]
    """Whether each answers."""
    evictions: Callable[[], int]
    """Since the start."""
    deferred_waiting: Callable[[], int]
    """Deferred URLs that wait for their instance."""
    associations: Callable[[], int]
    """That PACS have open to us."""
    last_webhook: Callable[[], float]
    """Unix seconds; 0 where none came since the start."""
    prefetches: Callable[[], Awaitable[Mapping[str, int]]]
    """Studies of the last 14 days by where their prefetch stands; ``opened`` are those that were warm. Raises
    JournalError."""
    prefetch_spent: Callable[[], Mapping[str, tuple[int, int, int]]]
    """By PACS, since the start: queries, studies asked for, and bytes that came of them."""
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
            kept = Kept(
                await self._figures.jobs.counts(),
                await self._figures.jobs.unfinished(),
                await self._figures.alerts(),
                await self._figures.prefetches(),
                await self._figures.jobs.size(),
            )
        except JournalError as e:
            log.warning("no metrics: %s", e)
            return web.Response(status=503, text="the journal cannot be read\n")
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(families(self._figures, kept)))
        body = generate_latest(registry) + generate_latest(self._figures.measures.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


@dataclass(frozen=True, slots=True)
class Kept:
    """What the journal knows."""

    jobs: Mapping[tuple[str, JobState], int]
    unfinished: Sequence[tuple[str, float, int]]
    """Kind, when the oldest was added, and attempts that failed."""
    alerts: Mapping[str, int]
    prefetches: Mapping[str, int]
    journal_bytes: int


class _Collected:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def families(figures: Figures, kept: Kept) -> Iterable[Metric]:
    """What is asked for at the moment, besides what was measured."""
    counts = kept.jobs
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
    yield GaugeMetricFamily("avara_gateway_journal_bytes", "Bytes of the journal's file.", value=kept.journal_bytes)
    yield from _prefetch(figures, kept)
    yield from _queues(kept, figures.clock.now())
    yield from _states(figures)


def _prefetch(figures: Figures, kept: Kept) -> Iterable[Metric]:
    studies = GaugeMetricFamily(
        "avara_gateway_prefetch_studies",
        "Studies of the last 14 days by where their prefetch stands; of those done, opened are those that were warm.",
        labels=["state"],
    )
    for state, number in kept.prefetches.items():
        studies.add_metric([state], number)
    yield studies
    counters = {
        "queries": "C-FIND or QIDO-RS for prefetch",
        "retrieves": "Studies that prefetch asked for",
        "bytes": "Bytes that came for prefetch",
    }
    for place, (name, text) in enumerate(counters.items()):
        family = CounterMetricFamily(f"avara_gateway_prefetch_{name}", f"{text}, since the start.", labels=["pacs"])
        for pacs, spent in figures.prefetch_spent().items():
            family.add_metric([pacs], spent[place])
        yield family


def _queues(kept: Kept, now: float) -> Iterable[Metric]:
    ages = GaugeMetricFamily(
        "avara_gateway_jobs_oldest_seconds", "Age of the oldest job that waits or runs.", labels=["kind"]
    )
    failed = GaugeMetricFamily(
        "avara_gateway_jobs_failed_attempts", "Attempts in vain of the jobs that wait or run.", labels=["kind"]
    )
    for kind, oldest, attempts in kept.unfinished:
        ages.add_metric([kind], max(now - oldest, 0.0))
        failed.add_metric([kind], attempts)
    yield ages
    yield failed
    alerts = GaugeMetricFamily("avara_gateway_alerts", "Alerts that stand.", labels=["kind"])
    for kind, number in sorted(kept.alerts.items()):
        alerts.add_metric([kind], number)
    yield alerts


def _states(figures: Figures) -> Iterable[Metric]:
    running = GaugeMetricFamily("avara_gateway_loop_running", "Whether a loop runs: 1, or 0.", labels=["loop"])
    restarts = CounterMetricFamily(
        "avara_gateway_loop_restarts", "Times that a loop was started again, since the start.", labels=["loop"]
    )
    for state in figures.loops():
        running.add_metric([state.name], state.running)
        restarts.add_metric([state.name], state.restarts)
    yield running
    yield restarts
    answers = GaugeMetricFamily("avara_gateway_pacs_answers", "Whether a PACS answers: 1, or 0.", labels=["pacs"])
    for name, well in sorted(figures.pacs().items()):
        answers.add_metric([name], well)
    yield answers
    yield CounterMetricFamily(
        "avara_gateway_cache_evictions", "Studies that had to make room in the cache, since the start.",
        value=figures.evictions(),
    )  # fmt: skip
    yield GaugeMetricFamily(
        "avara_gateway_deferred_waiting", "Requests for deferred URLs that wait for their instance.",
        value=figures.deferred_waiting(),
    )  # fmt: skip
    yield GaugeMetricFamily(
        "avara_gateway_associations", "Associations that PACS have open to us.", value=figures.associations()
    )
    yield GaugeMetricFamily(
        "avara_gateway_last_webhook_timestamp_seconds", "When the last good webhook came; 0 where none did.",
        value=figures.last_webhook(),
    )  # fmt: skip
