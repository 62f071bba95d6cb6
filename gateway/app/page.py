"""The page, out of the configuration."""

from __future__ import annotations

import ipaddress

from gateway.app import audit
from gateway.app.gateway import Gateway
from gateway.app.kinds import about, object_of
from gateway.journal import Jobs
from gateway.pacs.scu import Records
from gateway.page import Account, Desk, Logins, PageServer, Parts, Previews, Proxy, Role, Views, Visitors, Watch
from gateway.runtime import Part, loop
from gateway.web import Clients, ServerCertificate

HANGS_AFTER = 240.0
"""Seconds without progress after which its loop counts as hanging; each of its waits has bounds far below."""


def page_parts(gateway: Gateway) -> list[Part]:
    """What serves the page; nothing where none is wanted."""
    config = gateway.config
    if config.page.port is None:
        return []
    health = gateway.health
    parts = Parts(
        journal=gateway.journal,
        store=gateway.store,
        jobs=Jobs(gateway.journal),
        events=gateway.events,
        health=health,
        probes=health.probes,
        loops=gateway.loops,
        judgement=gateway.judgement,
        flights=gateway.fetcher.flights,
        cached=lambda: gateway.cache.size,
        prefetch=None if gateway.prefetch is None else gateway.prefetch.seen,
    )
    watch = Watch(parts)
    # The proxy's own address is what is looked at where it says who somebody is; else it speaks for browsers.
    trusted = [] if config.page.proxy is not None else map(ipaddress.ip_network, config.http.trusted_proxies)
    certificate = None
    if (tls := config.page.tls) is not None:
        certificate = ServerCertificate(tls.certificate_file, tls.key_file, clock=gateway.clock)
    server = PageServer(
        _visitors(gateway),
        host=config.page.host,
        port=config.page.port,
        clients=Clients([*trusted]),
        on_login=audit.logins(gateway.trail),
        tls=certificate.context if certificate is not None else None,
    )
    acts = audit.acts(gateway.trail)
    views = Views(parts, watch, about, acts)
    desk = Desk(
        parts,
        views,
        Previews(gateway.store, gateway.spools),
        object_of=object_of,
        record_of=Records(list(gateway.finders.values())).find,
        wake=gateway.worker.wake,
        on_act=acts,
    )
    server.add(views.routes() + desk.routes())
    return [
        *([loop(gateway.loops, "page's certificate", certificate.watch)] if certificate is not None else []),
        loop(gateway.loops, "page", watch.run, stalls_after=HANGS_AFTER),
        Part("page server", server.start, server.stop, within=1.5),
    ]


def _visitors(gateway: Gateway) -> Visitors:
    page = gateway.config.page
    if page.proxy is not None:
        networks = [ipaddress.ip_network(network) for network in page.proxy.addresses]
        return Visitors(None, Proxy(networks, page.proxy.header, frozenset(page.proxy.operators)))
    if not page.users:
        return Visitors(None, None)
    accounts = [Account(user.name, user.password_hash.get_secret_value(), Role(user.role)) for user in page.users]
    return Visitors(Logins(accounts, gateway.clock), None)
