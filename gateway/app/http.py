"""The gateway's HTTP side: Avara's webhooks, deferred instances, ``/health`` and the embedded store's public face."""

from __future__ import annotations

from aiohttp import web

from gateway.app.gateway import Gateway
from gateway.app.stores import kept_secret, presigner
from gateway.avara.endpoint import WebhookEndpoint
from gateway.avara.signature import WebhookVerifier
from gateway.captures.grant import CaptureAccessHandler
from gateway.objects.front import Cors, StoreFront
from gateway.runtime.lifecycle import Part, opened
from gateway.studies.access import StudyAccessHandler
from gateway.studies.deferred import DeferredInstances, DeferredUrls

DRAIN = 3.0
"""Seconds that open requests have to end at shutdown."""


def http_parts(gateway: Gateway) -> list[Part]:
    """The server, and what it stands on. Raises OSError."""
    config = gateway.config
    cors = Cors(config.avara.allowed_origins)
    deferred = DeferredUrls(kept_secret(config.state_dir / "deferred.key"), config.gateway_url)
    waiting = DeferredInstances(deferred, fetcher=gateway.fetcher, cache=gateway.cache, store=gateway.store, cors=cors)
    application = web.Application()
    application.router.add_route("*", config.avara.path, _webhooks(gateway, deferred).handle)
    application.router.add_get("/health", gateway.health().handle)
    application.router.add_routes(waiting.routes())
    parts = []
    if gateway.embedded is not None:
        front = StoreFront(
            lambda: gateway.store.endpoint, bucket=config.store.bucket, cors=cors, max_upload=config.captures.max_size
        )
        application.router.add_routes(front.routes())
        parts.append(opened("store front", front))
    # No access log: it would hold every presigned URL. The endpoint tells what was asked and answered.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=DRAIN)

    async def listen() -> None:
        await runner.setup()
        await web.TCPSite(runner, config.http.host, config.http.port).start()

    parts.append(Part("HTTP server", listen, runner.cleanup, within=DRAIN + 1))
    return parts


def _webhooks(gateway: Gateway, deferred: DeferredUrls) -> WebhookEndpoint:
    config = gateway.config
    studies = StudyAccessHandler(
        fetcher=gateway.fetcher,
        cache=gateway.cache,
        journal=gateway.journal,
        presigner=presigner(config, gateway.store),
        deferred=deferred,
        revalidate_after=config.cache.revalidate_after,
        url_expiry=int(config.cache.url_expiry),
    )
    captures = CaptureAccessHandler(
        journal=gateway.journal,
        presigner=presigner(config, gateway.store),
        pacs=list(gateway.finders.values()),
        is_cached=gateway.is_cached,
        opened=gateway.inbox.slot_opened,
        enabled=config.captures.enabled,
        upload_expiry=int(config.captures.upload_expiry),
    )
    return WebhookEndpoint(
        WebhookVerifier([key.get_secret_value() for key in config.avara.webhook_keys]),
        {
            "study.access_requested": studies,
            "secondary_capture.access_requested": captures,
            "report.delivered": gateway.reports,
        },
        max_body=config.http.max_body,
        answer_within=config.avara.answer_within,
    )
