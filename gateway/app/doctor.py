"""What ``check`` looks at: the file that was named, with the parts of a gateway that runs, or is started for it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from gateway.admin import (
    ORIGIN,
    CheckEvent,
    Checks,
    Expected,
    Outside,
    PacsChecks,
    Proof,
    Result,
    clocks,
    room,
    versions,
)
from gateway.app import audit
from gateway.app.access import access_policy
from gateway.app.alerts import alert_channels, certificate_ends
from gateway.app.errors import CANNOT_START, cannot_listen, why
from gateway.app.gateway import Gateway
from gateway.app.outbound import outbound, proofs_of_hosts
from gateway.app.pacs import dicomweb_of, pacs_of
from gateway.app.reports import avara_api, report_places
from gateway.app.stores import presigner, store_of
from gateway.config import Config, PacsConfig, differences, is_loopback
from gateway.journal import Jobs
from gateway.objects import ObjectStore, StoreError
from gateway.pacs.scp import log_refused
from gateway.runtime import SYSTEM_CLOCK, in_thread
from gateway.studies import Pacs

SHOWN = 20
"""Settings that differ and are told one by one."""


async def check_file(gateway: Gateway, document: dict[str, Any]) -> AsyncIterator[CheckEvent]:
    """Checks the configuration that was read from a file beside a *gateway* that runs, perhaps with an older one."""
    try:
        config = Config.model_validate(document)
    except ValidationError:
        yield Result("configuration", False, "the running gateway is of another version: restart it first")
        return
    if not config.avara.webhook_keys:  # whoever asks does not see the service's variables
        keys = gateway.config.avara.webhook_keys
        config = config.model_copy(update={"avara": config.avara.model_copy(update={"webhook_keys": keys})})
    changed = differences(gateway.config, config)
    if changed:
        yield Result(
            "configuration", None, f"this checks the file; the running gateway has {len(changed)} settings otherwise: "
            "restart it (systemctl restart avara-gateway)",
        )  # fmt: skip
    for key, ours, theirs in changed[:SHOWN]:
        yield Result("configuration", None, f"{key}: {ours} runs, {theirs} is in the file")
    async with AsyncExitStack() as stack:
        try:
            checks = await _checks(gateway, config, stack, identity=gateway.health.identity)
        except CANNOT_START as e:
            yield Result("configuration", False, why(e))
            return
        async for told in checks.run():
            yield told


async def check_alone(gateway: Gateway, failed: Mapping[str, str]) -> AsyncIterator[CheckEvent]:
    """Checks with a *gateway* that was started for it and does not serve; parts of it may have *failed* to start."""
    for result in _ports(gateway.config):
        yield result
    async with AsyncExitStack() as stack:
        checks = await _checks(gateway, gateway.config, stack, identity=None, failed=failed)
        async for told in checks.run():
            yield told


async def _checks(
    gateway: Gateway,
    config: Config,
    stack: AsyncExitStack,
    *,
    identity: str | None,
    failed: Mapping[str, str] | None = None,
) -> Checks:
    """What to check of *config*; what it has like the running one is that one's. Raises what :data:`CANNOT_START`
    names."""
    failed = failed or {}
    store = await _store(gateway, config, stack)
    not_listening = failed.get("DICOM listener", "")
    if config.dicom != gateway.config.dicom:
        not_listening = "the running gateway listens by other settings (dicom): restart it first"
    pacs = [
        PacsChecks(
            await _pacs(gateway, config, one, stack),
            Expected(
                f"pacs.{number}",
                one.titles,
                config.dicom.ae_title,
                f"{config.dicom.host}:{gateway.scp.port}",
                config.advertised,
                config.dicom.tls is not None,
            ),
            gateway.probe,
            gateway.scp.seen,
            not_listening,
        )
        for number, one in enumerate(config.pacs)
    ]
    images_by_us = config.store.endpoint is None and config.store.public_endpoint is None
    at_the_viewer = is_loopback(urlsplit(config.public_endpoint).hostname or "")
    origins = config.avara.allowed_origins
    outside = Outside(
        config.http.public_url,
        config.avara.path,
        config.public_endpoint,
        ORIGIN if "*" in origins or not origins else origins[0],
        identity,
        store,
        presigner(config, store, gateway.clock),
        images_by_us,
        at_the_viewer and config.store.endpoint is not None and not is_loopback(config.store.endpoint),
    )
    return Checks(
        pacs=pacs,
        store=store,
        cache=gateway.cache.check,
        echo_self=gateway.echo_self,
        senders=gateway.senders,
        refusals=gateway.refusals,
        jobs=Jobs(gateway.journal),
        destinations=_destinations(config, store),
        outside=outside,
        certificates=lambda: certificate_ends(config),
        state_dir=gateway.state_dir,
        loops=gateway.loops,
        week=partial(_week, gateway),
        versions=lambda: versions.told(gateway.began_with, versions.installed()),
        clocks=lambda: clocks.compared(_others(config), outbound(config)),
        arrivals=gateway.arrivals if identity is not None else None,
        failed=failed,
    )


async def _store(gateway: Gateway, config: Config, stack: AsyncExitStack) -> ObjectStore:
    if config.store.endpoint is None or config.store == gateway.config.store:
        return gateway.store
    return await stack.enter_async_context(store_of(config, None))


async def _pacs(gateway: Gateway, config: Config, one: PacsConfig, stack: AsyncExitStack) -> Pacs:
    if config.dicom == gateway.config.dicom:
        for known, running in zip(gateway.config.pacs, gateway.pacs, strict=True):
            if known == one:
                return running
    web = dicomweb_of(one) if one.dicomweb_url is not None else None
    if web is not None:
        stack.push_async_callback(web.close)
    return pacs_of(config, one, web, gateway.scp.last_received, gateway.spools, log_refused, gateway.clock)


async def _week(gateway: Gateway) -> tuple[bool | None, str]:
    """Raises JournalError."""
    week, cache = await gateway.journal.run(room.busiest_week), gateway.cache
    return room.told(week, cached=cache.size, cached_studies=cache.number, capacity=await in_thread(cache.capacity))


def _others(config: Config) -> dict[str, str]:
    """Whose clocks are compared with ours: their URLs, by what they are."""
    store, api = config.store, config.avara.api_url if config.avara.api_key is not None else None
    named = {
        "the store": f"http{'s' if store.secure else ''}://{store.endpoint}" if store.endpoint else None,
        "Avara's API": api,
    } | {f"PACS {pacs.name}": pacs.dicomweb_url for pacs in config.pacs}
    return {name: url for name, url in named.items() if url is not None}


async def _encrypts(store: ObjectStore) -> None:
    """Whether browsers' uploads are encrypted, too. Raises StoreError."""
    if not await store.encrypts_by_default():
        raise StoreError(
            f"{store} does not say that it encrypts by itself: set the bucket's default encryption, since browsers' "
            "uploads do not ask for it (and allow us s3:GetEncryptionConfiguration)"
        )


def _destinations(config: Config, store: ObjectStore) -> dict[str, Proof]:
    proofs: dict[str, Proof] = dict(report_places(config.reports).proofs())
    for name, channel in alert_channels(config.alerting, outbound(config)).items():
        proofs[f"alerts by {name}"] = channel.check
    proofs |= proofs_of_hosts(config)
    if (kept := config.audit.syslog) is not None:
        proofs["audit syslog"] = audit.repository(kept).check
    if config.store.encryption is not None:
        proofs["store encryption of uploads"] = partial(_encrypts, store)
    if (ask := access_policy(config, SYSTEM_CLOCK).check) is not None:
        proofs["access decision point"] = ask
    api = avara_api(config)
    if api is not None:
        proofs["Avara's API"] = lambda: api.studies(None)
    return proofs


def _ports(config: Config) -> list[Result]:
    """Whether what is to be listened on can be had, where no gateway runs that has it."""
    wanted = [("http", config.http.host, config.http.port)]
    if config.metrics.port is not None:
        wanted.append(("metrics", config.metrics.host, config.metrics.port))
    if config.page.port is not None:
        wanted.append(("page", config.page.host, config.page.port))
    found = []
    for key, host, port in wanted:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            found.append(Result(f"{key}.port", True, f"{host}:{port} is free"))
        except OSError as e:
            found.append(Result(f"{key}.port", False, cannot_listen(key, host, port, e)))
    return found
