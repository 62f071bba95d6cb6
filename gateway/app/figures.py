"""What ``GET /metrics`` tells of a gateway."""

from __future__ import annotations

from gateway.admin import Figures
from gateway.app.gateway import Gateway
from gateway.journal import Jobs
from gateway.journal import alerts as standing_alerts


def figures_of(gateway: Gateway) -> Figures:
    """Its figures, each read anew whenever it is told."""

    async def prefetches() -> dict[str, int]:
        return {} if gateway.prefetch is None else await gateway.prefetch.prefetcher.counts()

    def reports_by_place() -> dict[str, int]:
        found = gateway.missed.last if gateway.missed is not None else None
        return {} if found is None else {"signed": found.signed, "pacs": found.in_pacs, "ris": found.in_ris}

    return Figures(
        Jobs(gateway.journal),
        critical_reports=lambda: gateway.reports.critical,
        reports=reports_by_place,
        cache_bytes=lambda: gateway.cache.size,
        fetches=lambda: gateway.fetcher.under_way,
        rejected_associations=lambda: gateway.senders.rejections,
        prefetches=prefetches,
        prefetch_spent=lambda: {} if gateway.prefetch is None else gateway.prefetch.spent,
        unlisted_instances=lambda: gateway.fetcher.unlisted,
        measures=gateway.measures,
        clock=gateway.clock,
        alerts=lambda: gateway.journal.run(standing_alerts.counts),
        loops=gateway.loops.states,
        pacs=lambda: {answer.name: not answer.failure for answer in gateway.judgement.answering.answers()},
        evictions=lambda: gateway.cache.evicted,
        deferred_waiting=gateway.deferred_waiting,
        associations=lambda: gateway.scp.associations,
        last_webhook=lambda: gateway.arrivals.last,
    )
