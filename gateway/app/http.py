"""The gateway's HTTP side: Avara's webhooks, deferred instances, ``/health`` and the embedded store's public face."""

from __future__ import annotations

import ipaddress
import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

from aiohttp import web

from gateway.access import Purpose
from gateway.app import account, audit
from gateway.app.gateway import Gateway
from gateway.app.state import kept_secret
from gateway.app.stores import free_for_uploads, presigner
from gateway.avara import WebhookEndpoint, WebhookVerifier
from gateway.captures import CaptureAccessHandler
from gateway.config import Config
from gateway.objects import StoreFront, UploadQuota
from gateway.page import CONNECTIONS
from gateway.runtime import Part, Seldom, loop, opened, raise_limit
from gateway.runtime import printable as runtime_printable
from gateway.studies import DeferredInstances, DeferredUrls, StudyAccessHandler
from gateway.web import Bounds, Clients, Cors, ServerCertificate, WebServer, expects_later

log = logging.getLogger(__name__)

DRAIN = 3.0
"""Seconds that open requests have to end at shutdown."""

OUR_FILES = 264
"""Descriptors for journal, store, log, threads and spool files; measured: some 60, and as many again under load."""

FOR_AN_ASSOCIATION = 2
"""Descriptors: its socket, and a spool file."""


def http_parts(gateway: Gateway) -> list[Part]:
    """The server, and what it stands on. Raises OSError."""
    config = gateway.config
    cors = Cors(config.avara.allowed_origins)
    clients = Clients([ipaddress.ip_network(network) for network in config.http.trusted_proxies])
    server = WebServer(_bounds(config), clients, cors)
    gateway.deferred_waiting = lambda: len(server.waiting)
    browsers = gateway.store.with_connections(server.bounds.downloads)
    deferred = DeferredUrls(kept_secret(config.state_dir / "deferred.key"), config.gateway_url, clock=gateway.clock)
    waiting = DeferredInstances(
        deferred,
        fetcher=gateway.fetcher,
        cache=gateway.cache,
        store=browsers,
        cors=cors,
        server=server,
        opened=audit.opened(gateway.trail),
        permission=gateway.permission,
    )
    router = server.application.router
    webhooks = _webhooks(gateway, deferred, server)
    router.add_route("*", config.avara.path, webhooks.handle, expect_handler=expects_later)
    router.add_get("/health", gateway.health.handle)
    router.add_get("/healthz", gateway.health.live)
    router.add_get("/readyz", gateway.health.ready)
    router.add_routes(waiting.routes())
    parts = [opened("store client for browsers", browsers)]
    if gateway.embedded is not None:
        quota = UploadQuota(keep_for=config.captures.upload_expiry, free=free_for_uploads(config))
        front = StoreFront(
            browsers,
            server,
            cors=cors,
            max_upload=config.captures.max_size,
            quota=quota,
            uploaded=gateway.inbox.uploaded,
            opened=audit.opened(gateway.trail),
            signed_for=_host_of(config.public_endpoint),
        )
        router.add_routes(front.routes())
        parts.append(opened("store front", front))
    router.add_route("*", "/{path:.*}", _nothing_here(config.avara.path))
    certificate = None
    if (tls := config.http.tls) is not None:
        certificate = ServerCertificate(tls.certificate_file, tls.key_file, clock=gateway.clock)
        parts.append(loop(gateway.loops, "HTTPS certificate", certificate.watch))
    context = certificate.context if certificate is not None else None
    listen = partial(server.start, config.http.host, config.http.port, drain_for=DRAIN, tls=context)
    return [*parts, Part("HTTP server", listen, server.stop, within=DRAIN + 1)]


def _host_of(endpoint: str) -> str:
    """The Host header of what is asked for there, as a browser sends it."""
    parts = urlsplit(endpoint)
    return parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80")


def _nothing_here(webhook: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answers for paths that nobody serves; a webhook that was registered under one would else be lost in silence."""
    told = Seldom(log)

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            told.warning(
                "POST %s from %s: there is no such path; Avara's webhook is %s",
                runtime_printable.printable(request.path[:100]), request.remote, webhook,
            )  # fmt: skip
        raise web.HTTPNotFound

    return handle


def _webhooks(gateway: Gateway, deferred: DeferredUrls, server: WebServer) -> WebhookEndpoint:
    config = gateway.config
    studies = StudyAccessHandler(
        fetcher=gateway.fetcher,
        cache=gateway.cache,
        journal=gateway.journal,
        presigner=presigner(config, gateway.store, gateway.clock),
        deferred=deferred,
        revalidate_after=config.cache.revalidate_after,
        url_expiry=int(config.cache.url_expiry),
        patience=config.avara.answer_patience if config.avara.answer == "listed" else math.inf,
        permission=gateway.permission,
    )
    captures = CaptureAccessHandler(
        journal=gateway.journal,
        presigner=presigner(config, gateway.store, gateway.clock),
        pacs=list(gateway.finders.values()),
        is_cached=gateway.is_cached,
        opened=gateway.inbox.slot_opened,
        enabled=config.captures.enabled,
        upload_expiry=int(config.captures.upload_expiry),
        permit=partial(_permit_upload, gateway),
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
        bodies=server.bodies,
        deliveries=gateway.deliveries.answered,
        account=account.each(
            # The canary is no word of Avara's: what is usual, and what is told of it, is counted without.
            account.of_avara(
                account.each(account.webhooks(gateway.events), gateway.arrivals.note, gateway.measures.webhook)
            ),
            audit.webhooks(gateway.trail),
        ),
    )


async def _permit_upload(gateway: Gateway, study_instance_uid: str, event: str, deadline: float) -> None:
    await gateway.permission.ask(study_instance_uid, Purpose.UPLOAD, event=event, deadline=deadline)


def _bounds(config: Config) -> Bounds:
    descriptors = raise_limit()
    kept = OUR_FILES + FOR_AN_ASSOCIATION * config.dicom.max_associations
    if config.page.port is not None:
        kept += CONNECTIONS
    bounds = Bounds.of(connections=config.http.max_connections, descriptors=descriptors, kept=kept)
    if bounds.connections < config.http.max_connections:
        log.warning(
            "this process may open %d files, which is enough for %d HTTP connections and not for the %d of "
            "http.max_connections: raise LimitNOFILE in the unit (or ulimit -n) to %d",
            descriptors, bounds.connections, config.http.max_connections,
            kept + config.http.max_connections * 3 // 2 + 1,
        )  # fmt: skip
    return bounds
