"""The composition root: builds every part out of the configuration, starts and stops them in order.

Nothing else builds objects out of configuration. What is started first stops last: journal, store, cache,
Storage SCP, fetches, HTTP.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web
from pydantic import SecretStr

from gateway.admin.checks import RetrieveProbe, Subject
from gateway.admin.control import Control
from gateway.admin.health import Health
from gateway.admin.metrics import Figures, Metrics
from gateway.avara.endpoint import WebhookEndpoint
from gateway.avara.signature import WebhookVerifier
from gateway.captures.check import Policy, UploadChecker
from gateway.captures.grant import CaptureAccessHandler
from gateway.captures.inbox import Inbox
from gateway.captures.jobs import CHECK
from gateway.config import Config, PacsConfig
from gateway.config.models import TlsConfig
from gateway.config.reports import ReportAlertsConfig, ReportHl7Config
from gateway.journal import Jobs, Journal, JournalError, StudyState
from gateway.journal.jobs import CLEAN
from gateway.journal.worker import Kind, Worker
from gateway.objects import Credentials, ObjectStore, Presigner, StoreError
from gateway.objects.embedded import EmbeddedStore
from gateway.objects.front import Cors, StoreFront
from gateway.outbox import Outbox, StoredObject
from gateway.outbox.clean import Cleaner
from gateway.outbox.outbox import keep_commitment
from gateway.pacs.client import PacsClient
from gateway.pacs.commitment import CommitmentResult
from gateway.pacs.dicomweb import DicomWeb, WebPeer, basic, bearer
from gateway.pacs.get import GetRetriever
from gateway.pacs.move import MoveRetriever
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.receiver import IncomingInstance, Sender
from gateway.pacs.retrieve import Retriever
from gateway.pacs.scp import StorageScp
from gateway.pacs.wado import WadoRetriever
from gateway.reports.alert import EmailAlert, Security, WebhookAlert
from gateway.reports.deliver import (
    AlertChannel,
    AlertDelivery,
    Delivery,
    FolderDelivery,
    Hl7Delivery,
    Hl7Receiver,
    PacsDelivery,
)
from gateway.reports.download import PdfDownload, ask_avara
from gateway.reports.fetch import ReportFetcher
from gateway.reports.hl7 import FieldMap, Profile, TextForm
from gateway.reports.hl7 import Timeouts as Hl7Timeouts
from gateway.reports.jobs import ALERT, FETCH, FOLDER, HL7, PACS, alert_of_held
from gateway.reports.receive import ReportHandler
from gateway.studies.access import StudyAccessHandler
from gateway.studies.bring import Pacs
from gateway.studies.cache import Budget, StudyCache
from gateway.studies.deferred import DeferredInstances, DeferredUrls
from gateway.studies.fetch import Fetcher
from gateway.studies.flight import Flight
from gateway.studies.intake import Intake

log = logging.getLogger(__name__)

DRAIN = 5.0
"""Seconds that open requests and associations have to end at shutdown."""


KEEP_CLEANING_FOR = 30 * 86400.0
"""Seconds for which the removal of an object that nobody needs is tried."""


class AlreadyRunning(Exception):
    """Another process uses this ``state_dir``."""


class Misconfigured(Exception):
    """A setting that only its user can judge is wrong; the text names it and says how."""


CANNOT_START = (AlreadyRunning, Misconfigured, JournalError, StoreError, OSError)
"""What keeps a gateway from starting; :func:`why` tells it."""


def why(e: Exception) -> str:
    """Why the gateway did not start, for the operator."""
    if isinstance(e, OSError) and e.strerror:
        about = f"{e.filename}: " if e.filename else ""
        return f"{about}{e.strerror}"
    return str(e)


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


class Gateway:
    """A running gateway: its parts, for those who look at them."""

    def __init__(self, config: Config, journal: Journal, store: ObjectStore, cache: StudyCache) -> None:
        self.config = config
        self.journal = journal
        self.store = store
        self.cache = cache
        self.web = {pacs.name: _web(pacs) for pacs in config.pacs if pacs.dicomweb_url is not None}
        self.pacs = [_pacs(config, pacs, self.web.get(pacs.name)) for pacs in config.pacs]
        self.probe = RetrieveProbe()
        self.intake = Intake(store, cache, open_for_push=self._pushed)
        self.fetcher = Fetcher(self.pacs, cache, self.intake)
        self.scp = StorageScp(
            ae_title=config.dicom.ae_title,
            host=config.dicom.host,
            port=config.dicom.port,
            handler=self.probe.before(self.intake),
            allows=self._allows,
            spool_dir=config.state_dir / "spool",
            max_associations=config.dicom.max_associations,
            uncompressed_only_from=frozenset(
                title
                for pacs in config.pacs
                if pacs.uncompressed_only
                for title in (pacs.ae_title, *pacs.sending_ae_titles)
            ),
            tls=_tls(config.dicom.tls, ssl.Purpose.CLIENT_AUTH),
            on_commitment=self._committed
            if config.captures.storage_commitment or config.reports.pacs.storage_commitment
            else None,
        )
        self.clients = {pacs.name: pacs.client for pacs in self.pacs}
        self._alerts = _alert_channels(config.reports.alerts)
        self.worker = Worker(journal, owner="gateway", on_held=lambda c, job: alert_of_held(c, list(self._alerts), job))
        self.inbox = Inbox(store, journal, added=self.worker.wake)
        self.worker.take_on(CLEAN, Kind(Cleaner(store, journal), 1, KEEP_CLEANING_FOR))
        self._captures()
        self.reports = self._reports()
        self.subject = Subject(
            pacs=self.pacs,
            store=store,
            probe=self.probe,
            echo_self=self._echo_self,
        )

    def _captures(self) -> None:
        config = self.config.captures
        spool_dir = self.config.state_dir / "spool"
        targets = config.targets or [self.pacs[0].name]
        policy = Policy(
            targets=targets,
            max_size=config.max_size,
            allowed_sop_classes=config.allowed_sop_classes,
            coerce_patient=config.on_patient_mismatch == "coerce",
        )
        outbox = Outbox(
            "capture",
            objects=self.store,
            journal=self.journal,
            targets=self.clients,
            storage_commitment=config.storage_commitment,
            keep_for=config.keep_after_stored,
            retry_for=config.retry_for,
            spool_dir=spool_dir,
            on_stored=self._adopt,
        )
        checker = UploadChecker(
            store=self.store,
            journal=self.journal,
            pacs=[self.clients[name] for name in dict.fromkeys((*targets, *self.clients))],
            targets=self.clients,
            outbox=outbox,
            policy=policy,
            spool_dir=spool_dir,
            added=self.worker.wake,
        )
        self.worker.take_on(CHECK, Kind(checker, 2, config.retry_for))
        for name, kind in outbox.kinds().items():
            self.worker.take_on(name, kind)

    def _reports(self) -> ReportHandler:
        config, retry_for = self.config.reports, self.config.reports.retry_for
        targets = [self.pacs[0].name] if config.pacs.targets is None else config.pacs.targets
        receivers = {r.name: _hl7_receiver(r) for r in config.hl7}
        folders = {f.name: f.path for f in config.folders}
        try:
            download = PdfDownload(
                allowed_hosts=self.config.report_hosts,
                max_size=config.max_size,
                ca_file=str(config.ca_file) if config.ca_file else None,
                allow_http=config.allow_http,
                allow_private=config.allow_private_addresses,
            )
        except ValueError as e:
            raise Misconfigured(f"reports.allowed_hosts: {e}") from e
        fetcher = ReportFetcher(
            journal=self.journal,
            objects=self.store,
            download=download.fetch,
            ask_again=self._ask_avara if self.config.avara.api_key else None,
            destinations={PACS: targets, HL7: list(receivers), FOLDER: list(folders)},
            channels=list(self._alerts),
            keep_for=config.keep_after_delivered,
            added=self.worker.wake,
        )
        outbox = Outbox(
            "report",
            objects=self.store,
            journal=self.journal,
            targets=self.clients,
            storage_commitment=config.pacs.storage_commitment,
            keep_for=config.keep_after_delivered,
            retry_for=retry_for,
            spool_dir=self.config.state_dir / "spool",
            on_stored=self._adopt,
        )
        delivery = Delivery(
            journal=self.journal,
            objects=self.store,
            pacs=list(self.clients.values()),
            keep_for=config.keep_after_delivered,
        )
        into_pacs = PacsDelivery(
            delivery, journal=self.journal, objects=self.store, outbox=outbox, text=config.pacs.structured_report
        )
        kinds = {
            FETCH: Kind(fetcher, 4, retry_for),
            PACS: Kind(into_pacs, 2, retry_for),
            HL7: Kind(Hl7Delivery(delivery, journal=self.journal, receivers=receivers), 4, retry_for),
            FOLDER: Kind(FolderDelivery(delivery, journal=self.journal, folders=folders), 2, retry_for),
            ALERT: Kind(AlertDelivery(self._alerts), 4, retry_for),
        }
        for name, kind in (kinds | outbox.kinds()).items():
            self.worker.take_on(name, kind)
        return ReportHandler(
            journal=self.journal, channels=list(self._alerts), added=self.worker.wake, enabled=config.enabled
        )

    async def _ask_avara(self, study_id: str, report_id: str) -> str:
        avara = self.config.avara
        assert avara.api_key is not None
        return await ask_avara(avara.api_key.get_secret_value(), study_id, report_id, base_url=avara.api_url)

    async def _committed(self, result: CommitmentResult) -> None:
        await keep_commitment(self.journal, result)
        self.worker.wake()

    async def _adopt(self, stored: StoredObject) -> None:
        """Lets the cache know of an object that a PACS has now."""
        incoming = IncomingInstance(
            sop_class_uid=stored.sop_class_uid,
            sop_instance_uid=stored.sop_instance_uid,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            calling_ae_title=self.config.dicom.ae_title,
            called_ae_title=self.config.dicom.ae_title,
            peer_host="",
            body=stored.body,
        )
        await self.fetcher.adopt(stored.study_instance_uid, incoming)

    async def is_cached(self, study_instance_uid: str) -> bool:
        """Whether the store has the study whole, as far as the ledger says."""
        study = await self.journal.cached_study(study_instance_uid)
        return study is not None and study.state is StudyState.READY

    def _allows(self, calling_ae_title: str, host: str) -> bool:
        return any(calling_ae_title in pacs.sending_ae_titles for pacs in self.pacs)

    def _pushed(self, study_instance_uid: str, calling_ae_title: str) -> Flight | None:
        return self.fetcher.pushed(study_instance_uid, calling_ae_title) if self.config.dicom.accept_pushes else None

    async def _echo_self(self) -> None:
        dicom = self.config.dicom
        host = "127.0.0.1" if dicom.host in ("0.0.0.0", "::") else dicom.host  # noqa: S104  (compared)
        us = Peer("the gateway itself", dicom.ae_title, host, self.scp.port, dicom.ae_title, tls=_client_tls(dicom.tls))
        await PacsClient(us, advertised=self.config.advertised).echo()

    def figures(self) -> Figures:
        """What ``GET /metrics`` tells."""
        return Figures(
            Jobs(self.journal),
            critical_reports=lambda: self.reports.critical,
            cache_bytes=lambda: self.cache.size,
            fetches=lambda: self.fetcher.under_way,
        )

    def health(self) -> Health:
        """What ``GET /health`` tells."""
        return Health(
            {
                "store": lambda: self.store.head("probe/health"),
                "dicom_listener": self._echo_self,
                "journal": lambda: self.journal.cached_study("0"),
            }
        )


@asynccontextmanager
async def open_gateway(config: Config) -> AsyncIterator[Gateway]:
    """The gateway without its HTTP side: able to fetch. Raises AlreadyRunning, OSError, StoreError, JournalError."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(state_dir(config.state_dir))
        journal = await Journal.open(f"sqlite:///{journal_file(directory)}")
        stack.push_async_callback(journal.close)
        embedded = None
        if config.store.endpoint is None:
            embedded = EmbeddedStore(
                directory / "store", bucket=config.store.bucket, allowed_origins=config.avara.allowed_origins
            )
            await embedded.start()
            stack.push_async_callback(embedded.stop)
        store = await stack.enter_async_context(_store(config, embedded))
        await store.ensure_bucket()
        # A store that cannot take objects is told of now. It also makes a new embedded store allocate its first
        # volumes, which takes it seconds that the first radiologist would wait for.
        await store.check()
        if embedded is None and not await store.allow_origins(config.avara.allowed_origins):
            log.info("the store takes no CORS rules from us: allow browsers' origins in its own configuration")
        cache = StudyCache(store, journal, _budget(config, directory, embedded))
        await cache.open()
        gateway = Gateway(config, journal, store, cache)
        for web in gateway.web.values():
            stack.push_async_callback(web.close)
        await gateway.scp.start()
        stack.push_async_callback(gateway.scp.stop, drain_for=DRAIN)
        stack.push_async_callback(gateway.fetcher.stop)
        sweep = asyncio.create_task(_sweep(cache))
        stack.callback(sweep.cancel)
        yield gateway


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Gateway]:
    """The whole gateway, listening. Raises as :func:`open_gateway`."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(config))
        http = web.Application()
        cors = Cors(config.avara.allowed_origins)
        deferred = DeferredUrls(_kept_secret(config.state_dir / "deferred.key"), config.gateway_url)
        handler = StudyAccessHandler(
            fetcher=gateway.fetcher,
            cache=gateway.cache,
            journal=gateway.journal,
            presigner=_presigner(config, gateway.store),
            deferred=deferred,
            revalidate_after=config.cache.revalidate_after,
            url_expiry=int(config.cache.url_expiry),
        )
        captures = CaptureAccessHandler(
            journal=gateway.journal,
            presigner=_presigner(config, gateway.store),
            pacs=list(gateway.clients.values()),
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
        gateway.inbox.start()
        stack.push_async_callback(gateway.inbox.stop)
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


async def _sweep(cache: StudyCache) -> None:
    try:
        await cache.sweep()
    except StoreError as e:
        log.warning("the cache could not be compared with the store: %s", e)


def _store(config: Config, embedded: EmbeddedStore | None) -> ObjectStore:
    store = config.store
    if embedded is not None:
        return ObjectStore(
            endpoint=lambda: embedded.endpoint,
            secure=False,
            region=embedded.region,
            bucket=store.bucket,
            credentials=embedded.credentials,
        )
    assert store.endpoint is not None
    assert store.access_key is not None
    assert store.secret_key is not None
    endpoint = store.endpoint
    return ObjectStore(
        endpoint=lambda: endpoint,
        secure=store.secure,
        region=store.region,
        bucket=store.bucket,
        credentials=Credentials(store.access_key, store.secret_key.get_secret_value()),
        ca_file=str(store.ca_file) if store.ca_file else None,
    )


def _kept_secret(path: Path) -> bytes:
    """A random secret that stays the same over restarts, in a file for its owner only."""
    if not path.exists():
        new = path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    return path.read_bytes()


def _presigner(config: Config, store: ObjectStore) -> Presigner:
    return Presigner(
        endpoint_url=config.public_endpoint, region=store.region, bucket=store.bucket, credentials=store.credentials
    )


def _budget(config: Config, directory: Path, embedded: EmbeddedStore | None) -> Budget:
    if embedded is None:
        return Budget(config.cache.max_size)
    return Budget(config.cache.max_size, config.cache.min_free, lambda: shutil.disk_usage(directory).free)


def _pacs(config: Config, pacs: PacsConfig, web: DicomWeb | None) -> Pacs:
    peer = Peer(
        name=pacs.name,
        ae_title=pacs.ae_title,
        host=pacs.host,
        port=pacs.port,
        calling_ae_title=config.dicom.ae_title,
        max_associations=pacs.max_associations,
        timeouts=_timeouts(pacs),
        tls=_client_tls(pacs.tls),
    )
    # Only C-GET needs the SOP classes beforehand, and a PACS lists them dearly.
    client = PacsClient(peer, advertised=config.advertised, lists_sop_classes="c-get" in pacs.methods)
    spool_dir = config.state_dir / "spool"
    retrievers: list[Retriever] = []
    for method in pacs.methods:
        if method == "c-move":
            retrievers.append(MoveRetriever(client, destination=config.dicom.ae_title))
        elif method == "c-get":
            get = GetRetriever(client, spool_dir=spool_dir, uncompressed_only=pacs.uncompressed_only)
            retrievers.append(get)
        else:
            assert web is not None, "its configuration has a dicomweb_url"
            sender = Sender(pacs.ae_title, config.dicom.ae_title, pacs.host)
            retrievers.append(
                WadoRetriever(web, sender=sender, spool_dir=spool_dir, uncompressed_only=pacs.uncompressed_only)
            )
    return Pacs(
        pacs.name,
        client,
        frozenset((pacs.ae_title, *pacs.sending_ae_titles)),
        finder=web if web is not None and pacs.methods[0] == "wado-rs" else client,
        retrievers=tuple(retrievers),
        parallel_series=pacs.parallel_series or (0 if pacs.methods[0] == "c-move" else 1),
    )


def _web(pacs: PacsConfig) -> DicomWeb:
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
        )
    )


def _timeouts(pacs: PacsConfig) -> Timeouts:
    return Timeouts(connect=pacs.connect_timeout, respond=pacs.respond_timeout, idle=pacs.idle_timeout)


def _hl7_receiver(config: ReportHl7Config) -> Hl7Receiver:
    try:
        profile = Profile(
            sending_application=config.sending_application,
            sending_facility=config.sending_facility,
            receiving_application=config.receiving_application,
            receiving_facility=config.receiving_facility,
            charset=config.charset,
            text_form=TextForm(config.text_form),
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
    timeouts = Hl7Timeouts(connect=config.connect_timeout, answer=config.answer_within)
    return Hl7Receiver(config.host, config.port, tls, profile, timeouts)


def _alert_channels(config: ReportAlertsConfig) -> dict[str, AlertChannel]:
    channels: dict[str, AlertChannel] = {}
    try:
        if (hook := config.webhook) is not None:
            channels["webhook"] = WebhookAlert(
                hook.url,
                bearer_token=_plain(hook.token),
                signing_key=_plain(hook.signing_key),
                ca_file=str(hook.ca_file) if hook.ca_file else None,
            )
        if (mail := config.email) is not None:
            channels["email"] = EmailAlert(
                mail.server,
                mail.port,
                sender=mail.sender,
                recipients=mail.recipients,
                security=Security(mail.security),
                username=mail.user,
                password=_plain(mail.password),
                ca_file=str(mail.ca_file) if mail.ca_file else None,
            )
    except ValueError as e:
        raise Misconfigured(f"reports.alerts: {e}") from e
    return channels


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _client_tls(tls: TlsConfig | None) -> ssl.SSLContext | None:
    context = _tls(tls, ssl.Purpose.SERVER_AUTH)
    if context is not None:
        context.check_hostname = False  # a PACS's certificate names its AE or nothing; its authority is what counts
    return context


def _tls(tls: TlsConfig | None, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = ssl.create_default_context(purpose, cafile=str(tls.ca_file))
    context.verify_mode = ssl.CERT_REQUIRED  # both sides show theirs (PS3.15 B.9)
    context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context
