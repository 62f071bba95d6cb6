"""Reports, out of the configuration."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from gateway.app.errors import Misconfigured
from gateway.app.outbound import outbound
from gateway.avara import AvaraApi
from gateway.config import Config, ReportHl7Config, ReportsConfig
from gateway.journal import Journal, Kind
from gateway.objects import AtHand, ObjectStore
from gateway.outbox import Outbox
from gateway.pacs.scu import Finder
from gateway.reports import (
    FETCH,
    FOLDER,
    HL7,
    PACS,
    Addendum,
    AskAgain,
    FieldMap,
    Folder,
    Hl7Receiver,
    Inquiry,
    PacsDelivery,
    PdfDownload,
    PlaceDelivery,
    Profile,
    ReportDelivery,
    ReportFetcher,
    TextForm,
    ask_avara,
    mllp,
)


@dataclass(frozen=True, slots=True)
class ReportPlaces:
    """Where reports go besides the PACS, by the operator's names."""

    receivers: Mapping[str, Hl7Receiver]
    folders: Mapping[str, Folder]

    def proofs(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What shows that each can be reached, for ``check``."""
        proofs: dict[str, Callable[[], Awaitable[None]]] = {}
        for name, receiver in self.receivers.items():
            proofs[f"HL7 receiver {name}"] = receiver.check
        for name, folder in self.folders.items():
            proofs[f"report folder {name}"] = folder.check
        return proofs


def report_places(config: ReportsConfig) -> ReportPlaces:
    """As configured. Raises Misconfigured, OSError."""
    return ReportPlaces(
        {r.name: _hl7_receiver(r) for r in config.hl7}, {f.name: Folder(f.name, f.path) for f in config.folders}
    )


def report_kinds(
    config: Config,
    outbox: Callable[..., Outbox],
    places: ReportPlaces,
    channels: Collection[str],
    *,
    journal: Journal,
    store: ObjectStore,
    finders: Collection[Finder],
    added: Callable[[], None],
) -> dict[str, Kind]:
    """The kinds of jobs that bring reports to where the hospital looks. *outbox* makes one of a name and its settings;
    *added* is called when a job was added. Raises Misconfigured, OSError."""
    reports = config.reports
    retry_for, keep_for = reports.retry_for, reports.keep_after_delivered
    at_hand = AtHand(store)
    fetcher = ReportFetcher(
        journal=journal,
        objects=at_hand,
        download=_download(config).fetch,
        ask_again=_asks_avara(config),
        inquiry=_inquiry(config),
        pacs=list(finders),
        destinations={PACS: config.report_targets, HL7: list(places.receivers), FOLDER: list(places.folders)},
        channels=channels,
        keep_for=keep_for,
        keep_texts_for=reports.keep_texts if any(r.addendum == "combined" for r in reports.hl7) else 0.0,
        added=added,
    )
    ours = outbox("report", storage_commitment=reports.pacs.storage_commitment, keep_for=keep_for, retry_for=retry_for)
    delivery = ReportDelivery(journal=journal, objects=at_hand, pacs=list(finders), keep_for=keep_for)
    into_pacs = PacsDelivery(delivery, journal=journal, outbox=ours, text=reports.pacs.structured_report)
    return {
        FETCH: Kind(fetcher, 4, retry_for),
        PACS: Kind(into_pacs, 2, retry_for),
        HL7: Kind(PlaceDelivery(delivery, kind="HL7 receiver", places=places.receivers), 4, retry_for),
        FOLDER: Kind(PlaceDelivery(delivery, kind="folder", places=places.folders), 2, retry_for),
    } | ours.kinds()


def _download(config: Config) -> PdfDownload:
    reports = config.reports
    try:
        return PdfDownload(
            allowed_hosts=config.report_hosts,
            max_size=reports.max_size,
            ca_file=str(reports.ca_file) if reports.ca_file else None,
            allow_http=reports.allow_http,
            allow_private=reports.allow_private_addresses,
            outbound=outbound(config),
        )
    except ValueError as e:
        raise Misconfigured(f"reports.allowed_hosts: {e}") from e


def _asks_avara(config: Config) -> AskAgain | None:
    avara, way = config.avara, outbound(config)
    key = avara.api_key
    if key is None:
        return None

    async def ask(study_id: str, report_id: str) -> str:
        return await ask_avara(key.get_secret_value(), study_id, report_id, base_url=avara.api_url, outbound=way)

    return ask


def avara_api(config: Config) -> AvaraApi | None:
    """Avara's API; None where there is no key of it."""
    key = config.avara.api_key
    if key is None:
        return None
    return AvaraApi(key.get_secret_value(), base_url=config.avara.api_url, outbound=outbound(config))


def _inquiry(config: Config) -> Inquiry | None:
    api = avara_api(config)
    return None if api is None else Inquiry(api, organization=config.reports.organization)


def _hl7_receiver(config: ReportHl7Config) -> Hl7Receiver:
    try:
        profile = Profile(
            sending_application=config.sending_application,
            sending_facility=config.sending_facility,
            receiving_application=config.receiving_application,
            receiving_facility=config.receiving_facility,
            charset=config.charset,
            text_form=TextForm(config.text_form),
            addendum=Addendum(config.addendum),
            with_pdf=config.with_pdf,
            critical_flag=config.critical_flag,
            fields=FieldMap.parse(config.fields),
        )
    except ValueError as e:
        raise Misconfigured(f"reports.hl7 of {config.name}: {e}") from e
    tls = None
    if config.tls:
        tls = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
        if config.certificate_file is not None:
            tls.load_cert_chain(config.certificate_file, config.key_file)
    timeouts = mllp.Timeouts(connect=config.connect_timeout, answer=config.answer_within)
    return Hl7Receiver(config.host, config.port, tls, profile, timeouts)
