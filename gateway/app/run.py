"""Starts and stops a gateway, in order: what is started first stops last: journal, store, cache, Storage SCP, fetches,
jobs, HTTP."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from gateway.admin.control import Control
from gateway.admin.metrics import Metrics
from gateway.app.errors import AlreadyRunning
from gateway.app.gateway import Gateway
from gateway.app.stores import budget, kept_secret, presigner, store_of
from gateway.avara.endpoint import WebhookEndpoint
from gateway.avara.signature import WebhookVerifier
from gateway.captures.grant import CaptureAccessHandler
from gateway.config import Config
from gateway.journal import Journal
from gateway.objects.embedded import EmbeddedStore
from gateway.objects.front import Cors, StoreFront
from gateway.runtime.supervise import Supervisor
from gateway.studies.access import StudyAccessHandler
from gateway.studies.cache import StudyCache
from gateway.studies.deferred import DeferredInstances, DeferredUrls

log = logging.getLogger(__name__)

DRAIN = 5.0
"""Seconds that open requests and associations have to end at shutdown."""


@contextmanager
def state_dir(path: Path) -> Iterator[Path]:
    """*path*, for this process alone. Raises AlreadyRunning, OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"a gateway is running with state_dir {path}") from None
        yield path


def journal_file(directory: Path) -> Path:
    """The journal in a ``state_dir``."""
    return directory.absolute() / "journal.db"


@asynccontextmanager
async def open_gateway(config: Config) -> AsyncIterator[Gateway]:
    """The gateway without its HTTP side: able to fetch. Raises AlreadyRunning, OSError, StoreError, JournalError."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(state_dir(config.state_dir))
        loops = await stack.enter_async_context(Supervisor())
        journal = await Journal.open(f"sqlite:///{journal_file(directory)}")
        stack.push_async_callback(journal.close)
        embedded = None
        if config.store.endpoint is None:
            embedded = EmbeddedStore(
                directory / "store", bucket=config.store.bucket, allowed_origins=config.avara.allowed_origins
            )
            await embedded.start()
            stack.push_async_callback(embedded.stop)
            loops.add("embedded store", embedded.keep_running)
            # Before it is stopped itself, or it would be started again.
            stack.push_async_callback(loops.remove, "embedded store")
        store = await stack.enter_async_context(store_of(config, embedded))
        await store.ensure_bucket()
        # A store that cannot take objects is told of now. It also makes a new embedded store allocate its first
        # volumes, which takes it seconds that the first radiologist would wait for.
        await store.check()
        if embedded is None and not await store.allow_origins(config.avara.allowed_origins):
            log.info("the store takes no CORS rules from us: allow browsers' origins in its own configuration")
        cache = StudyCache(store, journal, budget(config, directory, embedded))
        await cache.open()
        gateway = Gateway(config, journal, store, cache, loops)
        for web in gateway.web.values():
            stack.push_async_callback(web.close)
        await gateway.scp.start()
        stack.push_async_callback(gateway.scp.stop, drain_for=DRAIN)
        stack.push_async_callback(gateway.fetcher.stop)
        loops.add("cache sweep", cache.sweep, once=True)
        stack.push_async_callback(loops.remove, "cache sweep")
        yield gateway


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Gateway]:
    """The whole gateway, listening. Raises as :func:`open_gateway`."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(config))
        http = web.Application()
        cors = Cors(config.avara.allowed_origins)
        deferred = DeferredUrls(kept_secret(config.state_dir / "deferred.key"), config.gateway_url)
        handler = StudyAccessHandler(
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
        endpoint = WebhookEndpoint(
            WebhookVerifier([key.get_secret_value() for key in config.avara.webhook_keys]),
            {
                "study.access_requested": handler,
                "secondary_capture.access_requested": captures,
                "report.delivered": gateway.reports,
            },
            max_body=config.http.max_body,
            answer_within=config.avara.answer_within,
        )
        http.router.add_route("*", config.avara.path, endpoint.handle)
        http.router.add_get("/health", gateway.health().handle)
        waiting = DeferredInstances(
            deferred, fetcher=gateway.fetcher, cache=gateway.cache, store=gateway.store, cors=cors
        )
        http.router.add_routes(waiting.routes())
        if config.store.endpoint is None:
            front = StoreFront(
                lambda: gateway.store.endpoint,
                bucket=config.store.bucket,
                cors=cors,
                max_upload=config.captures.max_size,
            )
            await stack.enter_async_context(front)
            http.router.add_routes(front.routes())
        await gateway.worker.start()
        stack.push_async_callback(gateway.worker.stop)
        loops = gateway.loops
        for name, loop in (
            ("jobs", gateway.worker.run),
            ("inbox", gateway.inbox.watch),
            ("alerts of held jobs", gateway.held.watch),
            ("inbox notifications", gateway.inbox.listen),
        ):
            loops.add(name, loop)
            stack.push_async_callback(loops.remove, name)
        # No access log: it would hold every presigned URL. The endpoint tells what was asked and answered.
        runner = web.AppRunner(http, access_log=None, shutdown_timeout=DRAIN)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, config.http.host, config.http.port).start()
        if config.metrics.port is not None:
            metrics = Metrics(gateway.figures(), host=config.metrics.host, port=config.metrics.port)
            await metrics.start()
            stack.push_async_callback(metrics.stop)
        control = Control(config.state_dir / "control.sock", gateway.fetcher, gateway.subject)
        await control.start()
        stack.push_async_callback(control.stop)
        log.info(
            "serving: webhooks on http://%s:%d%s, DICOM as %s on port %d, images under %s",
            config.http.host, config.http.port, config.avara.path, config.dicom.ae_title, gateway.scp.port,
            config.public_endpoint,
        )  # fmt: skip
        yield gateway


async def serve(config: Config) -> None:
    """Serves until SIGTERM or SIGINT, then ends in good order."""
    for warning in config.warnings():
        log.warning("configuration: %s", warning)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(config):
        await stop.wait()
        log.info("stopping")
    log.info("stopped")
