"""The PACS that are asked and sent to, and TLS with them, out of the configuration."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from ipaddress import ip_network

from gateway.app.access import wanted_attributes
from gateway.app.errors import Misconfigured
from gateway.config import Config, PacsConfig, TlsConfig
from gateway.pacs import KnownSender, OnRefused, Peer, Sender, Timeouts
from gateway.pacs.dicomweb import DicomWeb, Metadata, QidoFinder, StowTarget, WadoRetriever, WebPeer, basic, bearer
from gateway.pacs.scu import CStoreTarget, GetRetriever, MoveRetriever, PacsClient, Retriever, Target
from gateway.runtime import Clock, Spools
from gateway.studies import Habits, Pacs


def pacs_of(
    config: Config,
    pacs: PacsConfig,
    web: DicomWeb | None,
    last_received: Callable[[Collection[str]], float],
    spools: Spools,
    on_refused: OnRefused,
    clock: Clock,
) -> Pacs:
    """A PACS with its ways of finding and retrieving; *web* is its DICOMweb service, *last_received* that of our
    Storage SCP; *on_refused* is told of what it sends and we do not take."""
    peer = Peer(
        name=pacs.name,
        ae_title=pacs.ae_title,
        host=pacs.host,
        port=pacs.port,
        calling_ae_title=config.dicom.ae_title,
        max_associations=pacs.max_associations,
        timeouts=_timeouts(pacs),
        tls=client_tls(pacs.tls),
        certificate_names=_certificate_names(pacs),
    )
    # Only C-GET needs the SOP classes beforehand, and a PACS lists them dearly.
    client = PacsClient(
        peer,
        advertised=config.advertised,
        lists_sop_classes="c-get" in pacs.methods,
        lists_geometry=pacs.lists_geometry,
        also=wanted_attributes(config),
    )
    titles = pacs.titles
    retrievers: list[Retriever] = []
    for method in pacs.methods:
        if method == "c-move":
            retrievers.append(
                MoveRetriever(client, destination=config.dicom.ae_title, last_received=lambda: last_received(titles))
            )
        elif method == "c-get":
            retrievers.append(
                GetRetriever(client, spools=spools, uncompressed_only=pacs.uncompressed_only, on_refused=on_refused)
            )
        else:
            assert web is not None, "its configuration has a dicomweb_url"
            sender = Sender(pacs.ae_title, config.dicom.ae_title, pacs.host)
            retrievers.append(
                WadoRetriever(
                    web, sender=sender, spools=spools, uncompressed_only=pacs.uncompressed_only, on_refused=on_refused
                )
            )
    where = f"{pacs.ae_title} at {pacs.host}:{pacs.port}" if pacs.host else f"DICOMweb at {pacs.dicomweb_url}"
    queried = web if pacs.methods[0] == "wado-rs" else None
    return Pacs(
        pacs.name,
        client,
        titles,
        finder=client
        if queried is None
        else QidoFinder(queried, lists_geometry=pacs.lists_geometry, also=wanted_attributes(config)),
        retrievers=tuple(retrievers),
        habits=Habits(pacs.settle, pacs=f"PACS {pacs.name} ({where})", clock=clock),
        where=where,
        details=Metadata(web).details if web is not None else None,
        complete=pacs.complete,
        stored_through=web.breaker if web is not None and pacs.store == "stow-rs" else client.breaker,
        has_dimse=pacs.methods != ["wado-rs"] or pacs.store == "c-store",
        stow=StowTarget(web).probe if web is not None and pacs.store == "stow-rs" else None,
        parallel_series=pacs.parallel_series or (0 if pacs.methods[0] == "c-move" else 1),
    )


def target_of(pacs: PacsConfig, client: PacsClient, web: DicomWeb | None) -> Target:
    """A PACS as captures and reports are stored in it."""
    if pacs.store == "c-store":
        return CStoreTarget(client)
    assert web is not None, "its configuration has a dicomweb_url"
    return StowTarget(web)


def sender_of(pacs: PacsConfig) -> KnownSender:
    """A PACS as it calls us."""
    return KnownSender(
        pacs.name,
        pacs.titles,
        pacs.host,
        tuple(ip_network(network) for network in pacs.sending_addresses),
        _certificate_names(pacs),
    )


def _certificate_names(pacs: PacsConfig) -> frozenset[str]:
    names = (*pacs.titles, pacs.host, *pacs.certificate_names)
    return frozenset(name.lower() for name in names if name)


def dicomweb_of(pacs: PacsConfig) -> DicomWeb:
    """The DICOMweb service of a PACS that has one."""
    assert pacs.dicomweb_url is not None
    authorization = ""
    if pacs.dicomweb_user is not None and pacs.dicomweb_password is not None:
        authorization = basic(pacs.dicomweb_user, pacs.dicomweb_password.get_secret_value())
    elif pacs.dicomweb_token is not None:
        authorization = bearer(pacs.dicomweb_token.get_secret_value())
    return DicomWeb(
        WebPeer(
            name=pacs.name,
            url=pacs.dicomweb_url,
            authorization=authorization,
            max_connections=pacs.max_associations,
            timeouts=_timeouts(pacs),
            tls=ssl.create_default_context(cafile=str(pacs.dicomweb_ca_file)) if pacs.dicomweb_ca_file else None,
        ),
        stores=pacs.store == "stow-rs",
    )


def _timeouts(pacs: PacsConfig) -> Timeouts:
    return Timeouts(connect=pacs.connect_timeout, respond=pacs.respond_timeout, idle=pacs.idle_timeout)


def client_tls(tls: TlsConfig | None) -> ssl.SSLContext | None:
    """TLS of an association that we request; None where there is none. Raises OSError."""
    context = tls_context(tls, ssl.Purpose.SERVER_AUTH)
    if context is not None:
        # A PACS's certificate may name its AE title instead: the association compares it with what is configured.
        context.check_hostname = False
    return context


def tls_context(tls: TlsConfig | None, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    """TLS of DICOM connections, where each side shows its certificate (PS3.15 B.9). Raises Misconfigured, OSError."""
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(purpose, cafile=str(tls.ca_file))
    except ssl.SSLError as e:
        raise Misconfigured(f"tls.ca_file: {tls.ca_file} holds no certificate in PEM") from e
    context.verify_mode = ssl.CERT_REQUIRED  # both sides show theirs (PS3.15 B.9)
    try:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    except ssl.SSLError as e:
        raise Misconfigured(
            f"tls.certificate_file and tls.key_file: {tls.certificate_file} is no certificate in PEM, or "
            f"{tls.key_file} is not its key"
        ) from e
    return context


def ae_title_spelling(config: Config) -> Callable[[str], str]:
    """Gives an AE title as the configuration spells it, where ``dicom.ae_title_case`` lets others spell it so or so."""
    if config.dicom.ae_title_case == "exact":
        return str
    titles = [config.dicom.ae_title]
    for pacs in config.pacs:
        titles += pacs.titles
    spelled = {title.upper(): title for title in titles}
    return lambda title: spelled.get(title.upper(), title)
