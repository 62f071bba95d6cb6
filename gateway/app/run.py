"""Starts and stops a gateway: :func:`core` and :func:`service` are the list of what starts, in this order, and of what
stops, in the reverse one."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from gateway import __version__
from gateway.admin import CheckEvent, Control, InStore, Metrics, versions
from gateway.app.build import build
from gateway.app.canary import song
from gateway.app.doctor import check_alone, check_file
from gateway.app.errors import CANNOT_START, CannotListen, cannot_listen, why
from gateway.app.figures import figures_of
from gateway.app.gateway import Gateway
from gateway.app.http import http_parts
from gateway.app.page import page_parts
from gateway.app.state import state_dir
from gateway.app.stores import embedded_store, store_of
from gateway.app.telemetry import telemetry
from gateway.config import Config
from gateway.objects import ObjectStore
from gateway.runtime import Loop, LoopEnded, Part, ServiceManager, StopSignals, in_thread, loop, opened, running

log = logging.getLogger(__name__)

DRAIN = 3.0
"""Seconds that open associations have to end at shutdown."""

STOPPED_WITHIN = 38.0
"""Seconds from SIGTERM to the end of the process, whatever hangs. The parts' own bounds add up to less, and the service
manager kills later (deploy/avara-gateway.service)."""

HANGING_THREADS = 1.0
"""Seconds that threads have to end once every part has stopped: what they hang in holds nothing that must be kept."""

HANGS_AFTER = 120.0
"""Seconds without progress after which a loop counts as hanging; each of its rounds has bounds far below."""


def listening(key: str, host: str, port: int, start: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """*start*, which tells the key to correct where the address of section *key* cannot be had."""

    async def started() -> None:
        try:
            await start()
        except OSError as e:
            raise CannotListen(cannot_listen(key, host, port, e)) from e

    return started


def core(gateway: Gateway) -> list[Part]:
    """What it takes to fetch."""
    loops, embedded, dicom = gateway.loops, gateway.embedded, gateway.config.dicom
    forwarder = gateway.audit_forwarder
    parts = [
        Part("loops", loops.start, loops.stop),
        # Before the trail, so that what is noted last is sent, too.
        *([] if forwarder is None else [Part("audit messages", forwarder.start, forwarder.stop, within=2)]),
        Part("audit trail", stop=gateway.trail.stop, within=2),
        loop(loops, "audit trail", gateway.trail.run, stalls_after=HANGS_AFTER),
        Part("journal", gateway.journal.migrate, gateway.journal.close, within=2),
    ]
    if embedded is not None:
        parts += [
            Part("embedded store", embedded.start, embedded.stop, within=6),
            loop(loops, "embedded store", embedded.keep_running),
        ]
    return [
        *parts,
        opened("store client", gateway.store),
        Part("store", gateway.prepare_store),
        Part("cache", gateway.cache.open),
        Part("habits of the PACS", gateway.habits.load, gateway.habits.close),
        *(Part(f"DICOMweb of {name}", stop=web.close, within=0.5) for name, web in gateway.web.items()),
        *(Part(f"associations with {name}", stop=client.close) for name, client in gateway.clients.items()),
        Part("addresses of the PACS", gateway.senders.look_up),
        loop(loops, "addresses of the PACS", gateway.senders.keep_looking_up, stalls_after=HANGS_AFTER),
        Part(
            "DICOM listener",
            listening("dicom", dicom.host, dicom.port, gateway.scp.start),
            partial(gateway.scp.stop, drain_for=DRAIN),
            within=DRAIN + 1,
        ),
        Part("fetches", stop=gateway.fetcher.stop, within=2),
    ]


def service(gateway: Gateway) -> list[Part]:
    """What it takes to serve, besides :func:`core`. Raises OSError."""
    config, loops = gateway.config, gateway.loops
    control = Control(
        config.state_dir / "control.sock",
        gateway.fetcher,
        partial(check_file, gateway),
        InStore(gateway.store),
        gateway.studies.do,
        gateway.synthetic.sing if gateway.synthetic is not None else None,
    )
    parts = [
        *telemetry(config),
        loop(loops, "cache sweep", gateway.cache.sweep, once=True),
        Part("jobs", gateway.worker.start, gateway.worker.stop, within=2),
        loop(loops, "jobs", gateway.worker.run, stalls_after=HANGS_AFTER),
        loop(loops, "inbox", gateway.inbox.watch, stalls_after=3 * HANGS_AFTER),
        loop(loops, "inbox notifications", gateway.inbox.listen),
        loop(loops, "habits of the PACS", gateway.habits.run),
        loop(loops, "alerts of held jobs", gateway.held.watch),
        loop(loops, "alerts", gateway.standing.watch, stalls_after=HANGS_AFTER),
        loop(loops, "cache upkeep", gateway.upkeep.run, stalls_after=3 * HANGS_AFTER),
        *(
            [loop(loops, "comparison of bytes", gateway.verification.run, stalls_after=3 * HANGS_AFTER)]
            if config.cache.watch_every
            else []
        ),
        *([] if gateway.prefetch is None else gateway.prefetch.loops(loops)),
        *_canary(gateway),
        loop(loops, "tidy", gateway.tidy.watch),
        *(
            []
            if gateway.audit_forwarder is None
            else [loop(loops, "audit messages", gateway.audit_forwarder.run, stalls_after=HANGS_AFTER)]
        ),
        loop(loops, "events", gateway.events.run, stalls_after=HANGS_AFTER),
        *([] if gateway.missed is None else [loop(loops, "missed reports", gateway.missed.watch)]),
        # After the listener, when stopping: what it answers last is kept, too.
        Part("deliveries", gateway.deliveries.load, gateway.deliveries.flush, within=1),
        loop(loops, "deliveries", gateway.deliveries.run, stalls_after=HANGS_AFTER),
        *http_parts(gateway),
        *page_parts(gateway),
    ]
    if config.metrics.port is not None:
        metrics = Metrics(figures_of(gateway), host=config.metrics.host, port=config.metrics.port)
        start = listening("metrics", config.metrics.host, config.metrics.port, metrics.start)
        parts.append(Part("metrics", start, metrics.stop))
    return [*parts, Part("control socket", control.start, control.stop, within=1.5)]


def _canary(gateway: Gateway) -> list[Part]:
    """The loop that does what Avara would, where that is wanted."""
    canary, synthetic, every = gateway.canary, gateway.synthetic, gateway.config.canary.every
    if canary is None or synthetic is None or every is None:
        return []
    sing, within = song(gateway.config, canary, synthetic)
    stalls_after = every + within + HANGS_AFTER
    return [loop(gateway.loops, "canary", partial(canary.watch, sing, every), stalls_after=stalls_after)]


@asynccontextmanager
async def open_store(config: Config) -> AsyncIterator[ObjectStore]:
    """The object store alone, for what is done to a gateway that does not run. Raises as :func:`open_gateway`."""
    with state_dir(config.state_dir) as directory:
        embedded = embedded_store(config, directory.absolute())
        store = store_of(config, embedded)
        parts = [] if embedded is None else [Part("embedded store", embedded.start, embedded.stop, within=6)]
        async with running([*parts, opened("store client", store), Part("bucket", store.ensure_bucket)]):
            yield store


@asynccontextmanager
async def looking(config: Config) -> AsyncIterator[AsyncIterator[CheckEvent]]:
    """What ``check`` finds where no gateway runs. A part that does not start is told of, and the others are looked at.
    Raises as :func:`open_gateway`, and no StoreError."""
    failed: dict[str, str] = {}

    def tolerant(part: Part) -> Part:
        async def start() -> None:
            try:
                await part.start()
            except CANNOT_START as e:
                failed[part.name] = why(e)

        return replace(part, start=start)

    with state_dir(config.state_dir):
        gateway = build(config)
        # Whether the store takes what it is given is what is looked at.
        parts = [tolerant(part) for part in core(gateway) if part.name != "store"]
        async with running(parts):
            yield check_alone(gateway, failed)


@asynccontextmanager
async def open_gateway(config: Config) -> AsyncIterator[Gateway]:
    """The gateway without its HTTP side: able to fetch. Raises AlreadyRunning, Misconfigured, OSError, StoreError,
    JournalError."""
    with state_dir(config.state_dir):
        gateway = build(config)
        async with running(core(gateway)):
            yield gateway


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Gateway]:
    """The whole gateway, listening. Raises as :func:`open_gateway`."""
    with state_dir(config.state_dir):
        gateway = build(config)
        gateway.began_with = await in_thread(versions.installed)
        async with running(core(gateway) + service(gateway)):
            log.info(
                "serving: webhooks on %s://%s:%d%s, DICOM as %s on port %d, images under %s",
                "http" if config.http.tls is None else "https", config.http.host, config.http.port, config.avara.path,
                config.dicom.ae_title, gateway.scp.port, config.public_endpoint,
            )  # fmt: skip
            gateway.trail.note("started", version=__version__)
            try:
                yield gateway
            finally:
                gateway.trail.note("stopped")


async def serve(config: Config, *, log_loop: Loop | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then ends cleanly; a second signal ends the process at once. *log_loop* is
    what the log has to do meanwhile. Raises as :func:`serving`, and LoopEnded."""
    for warning in config.warnings():
        log.warning("configuration: %s", warning)
    manager = ServiceManager()
    me = asyncio.current_task()
    assert me is not None
    with StopSignals(within=STOPPED_WITHIN) as stop:
        stop.cancels(me)
        try:
            async with serving(config) as gateway:
                stop.cancels(None)
                gateway.loops.add("service manager", partial(manager.watch, gateway.alive, gateway.status), vital=True)
                if log_loop is not None:
                    gateway.loops.add("log", log_loop)
                _set_apart()
                manager.ready()
                try:
                    await _until_stopped(gateway, stop)
                finally:
                    manager.stopping()
                    log.info("stopping")
            log.info("stopped")
        except asyncio.CancelledError:
            if not stop.asked:
                raise
            log.info("stopped while it was starting")
        except LoopEnded:
            stop.end_within(HANGING_THREADS, code=1)
            raise
        if stop.asked:
            stop.end_within(HANGING_THREADS, code=0)


def _set_apart() -> None:
    """What stands by now stays until the end, and the garbage collector need not look through it: each time that it
    did, in the midst of a fetch, everybody waited for some 90 ms."""
    gc.collect()
    gc.freeze()


async def _until_stopped(gateway: Gateway, stop: StopSignals) -> None:
    waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(gateway.loops.failed())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop.ask()
        if waits[1].done():
            waits[1].result()
    finally:
        for waiting in waits:
            waiting.cancel()
