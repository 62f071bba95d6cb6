"""A gateway's parts, built out of the configuration and joined."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Collection, Mapping
from functools import cached_property

from gateway.access import Purpose, Refused
from gateway.admin import (
    Answering,
    Arrivals,
    Health,
    Judgement,
    Measures,
    RetrieveProbe,
    StateDir,
    StoreProof,
    Studies,
    Tidy,
    Watched,
)
from gateway.admin import watches as admin_watches
from gateway.alerts import HeldJobs, StandingAlerts
from gateway.app import account, audit
from gateway.app.access import access_policy, wants
from gateway.app.alerts import alert_channels, certificate_ends, held_job
from gateway.app.canary import canary_of, own_study, synthetic_of
from gateway.app.deliveries import KeptDeliveries
from gateway.app.health import health_of
from gateway.app.jobs import adoption, job_kinds
from gateway.app.outbound import outbound
from gateway.app.pacs import ae_title_spelling, client_tls, dicomweb_of, pacs_of, sender_of, target_of, tls_context
from gateway.app.prefetch import Prefetch
from gateway.app.reports import avara_api
from gateway.app.state import audit_file, kept_secret
from gateway.app.stores import spools_of
from gateway.audit import AuditTrail
from gateway.captures import Inbox
from gateway.config import Config
from gateway.journal import EventLog, Journal, StudyState, Worker
from gateway.objects import EmbeddedStore, ObjectStore
from gateway.outbox import Commitments
from gateway.pacs import ANY, Peer, Sender, Senders
from gateway.pacs.scp import StorageScp
from gateway.pacs.scu import CommitmentResult, PacsClient
from gateway.reports import MissedReports, ReportHandler
from gateway.runtime import GatewayError, Supervisor
from gateway.studies import (
    Fetcher,
    Flight,
    Intake,
    KeptHabits,
    Outcome,
    Refusals,
    Samples,
    StudyCache,
    StudyPermission,
    Upkeep,
    Verification,
    Watch,
)

log = logging.getLogger(__name__)


class Gateway:
    """A running gateway: its parts, for those who look at them."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        store: ObjectStore,
        cache: StudyCache,
        loops: Supervisor,
        embedded: EmbeddedStore | None,
    ) -> None:
        self.config = config
        self.loops = loops
        self.embedded = embedded
        self.journal = journal
        self.clock = journal.clock
        self.store = store
        self.cache = cache
        self.web = {pacs.name: dicomweb_of(pacs) for pacs in config.pacs if pacs.dicomweb_url is not None}
        self.spools = spools_of(config)
        self.pacs = [
            pacs_of(config, p, self.web.get(p.name), self._last_received, self.spools, self._refused, self.clock)
            for p in config.pacs
        ]
        self.habits = KeptHabits(journal, {pacs.name: pacs.habits for pacs in self.pacs})
        self.probe = RetrieveProbe(lambda study: self.fetcher.flight(study) is not None)
        self.senders = Senders(
            [sender_of(pacs) for pacs in config.pacs if pacs.titles and (pacs.host or pacs.sending_addresses)]
        )
        self.refusals = Refusals(self.clock)
        self.intake = Intake(
            store,
            cache,
            self.refusals,
            open_for_push=self._pushed,
            pacs_at=self.senders.names,
            make_viewable=config.cache.make_viewable,
            correct_uids=[pacs.name for pacs in config.pacs if pacs.correct_uids],
        )
        self.events = EventLog(
            journal, secret=kept_secret(config.state_dir / "events.key"), keep_for=config.events.keep
        )
        self.measures = Measures()
        store.told = self.measures.store_request
        self.deferred_waiting: Callable[[], int] = lambda: 0
        """Requests for deferred URLs that wait; where there is an HTTP server, it says."""
        self.own = own_study(config)
        self.trail = AuditTrail(audit_file(config, self.clock), clock=self.clock, is_canary=self.own.has)
        self.audit_forwarder = audit.forwarder(config, self.clock)
        self.deliveries = KeptDeliveries(journal, self.clock)
        self.fetcher = Fetcher(
            self.pacs,
            cache,
            self.intake,
            accept_pushes=config.dicom.accept_pushes,
            compare_every=config.cache.compare_every,
            clock=journal.clock,
            on_ended=account.each(
                account.of_patients(self.own, account.each(account.fetches(self.events), self.measures.fetch)),
                audit.fetches(self.trail),
                self._fetch_ended,
            ),
        )
        self.policy = access_policy(config, self.clock)
        self.permission = StudyPermission(
            self.policy,
            fetcher=self.fetcher,
            cache=cache,
            pacs=self.pacs,
            wants=wants(config),
            on_refused=audit.refusals(self.trail),
        )
        self.prefetch = (
            Prefetch(
                config,
                pacs=self.pacs,
                journal=journal,
                fetcher=self.fetcher,
                cache=cache,
                events=self.events,
                allows=self._may_prefetch,
            )
            if config.prefetch.enabled and any(pacs.prefetch.enabled for pacs in config.pacs)
            else None
        )
        self.studies = Studies(cache, self.fetcher, journal, account.operators(self.events), self.permission)
        self.watch = Watch(cache, self.fetcher, self.pacs)
        self.upkeep = Upkeep(
            cache,
            self.fetcher,
            self.watch,
            journal,
            watch_every=config.cache.watch_every,
            max_age=config.cache.max_age,
            noted=account.each(account.dropped(self.events), audit.dropped(self.trail)),
        )
        self.samples = Samples(
            store, pacs_at=self.senders.names, is_fetched=lambda study: self.fetcher.flight(study) is not None
        )
        self.verification = Verification(
            cache,
            self.fetcher,
            self.samples,
            journal,
            self.pacs,
            every=config.cache.compare_every,
            instances=config.cache.verify_sample,
            noted=account.each(account.replaced(self.events), audit.differing(self.trail)),
        )
        self.scp = StorageScp(
            ae_title=config.dicom.ae_title,
            host=config.dicom.host,
            port=config.dicom.port,
            handler=self.probe.before(self.samples.before(self.intake)),
            allows=self.senders.allows,
            knows=self.senders.knows,
            awaits=self._awaits,
            spools=self.spools,
            spelled=ae_title_spelling(config),
            on_refused=self._refused,
            on_rejected=audit.rejections(self.trail),
            max_associations=config.dicom.max_associations,
            uncompressed_only_from=frozenset(
                title for pacs in config.pacs if pacs.uncompressed_only for title in pacs.titles
            ),
            tls=tls_context(config.dicom.tls, ssl.Purpose.CLIENT_AUTH),
            certified=self.senders.certified if config.dicom.tls else None,
            on_commitment=self._committed
            if config.captures.storage_commitment or config.reports.pacs.storage_commitment
            else None,
        )
        self.clients = {pacs.name: pacs.client for pacs in self.pacs}
        self.finders = {pacs.name: pacs.finder for pacs in self.pacs}
        channels = alert_channels(config.alerting, outbound(config))
        self.worker = Worker(journal, keep_for=config.retention.finished, on_over=audit.ended_jobs(self.trail))
        kept = config.retention
        self.tidy = Tidy(journal, keep_for=kept.finished, keep_reports_for=kept.reports, clock=self.clock)
        api = avara_api(config)
        self.missed = (
            None
            if api is None or not config.reports.enabled
            else MissedReports(api, journal=journal, channels=list(channels), added=self.worker.wake, clock=self.clock)
        )
        self.held = HeldJobs(
            journal=journal, channels=list(channels), describe=held_job, added=self.worker.wake, clock=self.clock
        )
        self.inbox = Inbox(store, journal, added=self.worker.wake, refused=audit.uploads(self.trail))
        self.reports = ReportHandler(
            journal=journal, channels=list(channels), added=self.worker.wake, enabled=config.reports.enabled
        )
        targets = {p.name: target_of(p, self.clients[p.name], self.web.get(p.name)) for p in config.pacs}
        kinds = job_kinds(
            config,
            channels,
            journal=journal,
            store=store,
            targets=targets,
            finders=self.finders,
            spools=self.spools,
            on_stored=adoption(self.fetcher, config.dicom.ae_title),
            added=self.worker.wake,
        )
        for name, kind in kinds.items():
            self.worker.register(name, kind)
        self.state_dir = StateDir(config.state_dir, self.spools)
        self.arrivals = Arrivals(self.clock)
        self.began_with: Mapping[str, str] = {}
        """The versions that were installed when it began to serve; empty where it does not."""
        self.judgement = Judgement(
            Answering(self.pacs, self.clock),
            StoreProof(store, self.clock, self.measures.store_probe),
            self.state_dir,
            config.alerting.disk_free,
            self.arrivals,
            journal,
            config.alerting.no_webhook_for,
            lambda: certificate_ends(config),
            self.clock,
        )
        watched = Watched(
            judgement=self.judgement,
            journal=journal,
            arrivals=self.arrivals,
            loops=loops,
            clock=self.clock,
            canary=canary_of(config, self.clock),
            access_trouble=lambda: self.policy.trouble,
            audit_trouble=lambda: "" if self.audit_forwarder is None else self.audit_forwarder.trouble,
        )
        self.canary = watched.canary
        self.synthetic = synthetic_of(
            config,
            self.canary,
            self.own,
            targets=targets,
            finders=self.finders,
            web=self.web,
            cache=cache,
            store=store,
            journal=journal,
        )
        self.standing = StandingAlerts(
            admin_watches.watches(watched, config.alerting),
            journal=journal,
            channels=list(channels),
            added=self.worker.wake,
            clock=self.clock,
        )

    async def _may_prefetch(self, study_instance_uid: str) -> bool:
        """Whether the access policy lets anybody have it. Raises GatewayError where that cannot be told."""
        if study_instance_uid == self.own.study_instance_uid:
            return False
        if not self.permission.needed:
            return True
        try:
            return not await self.permission.rule_against(study_instance_uid, Purpose.OPEN, event="prefetch")
        except Refused as e:
            raise GatewayError(str(e)) from e

    def _fetch_ended(self, flight: Flight, outcome: Outcome, seconds: float) -> None:
        if self.prefetch is not None:
            self.prefetch.prefetcher.ended(flight, outcome, seconds)

    async def _committed(self, result: CommitmentResult, sender: Sender) -> bool:
        by = self.senders.names(sender.calling_ae_title, sender.host)
        known = await Commitments(self.journal).report(result, by)
        self.worker.wake()
        return known

    async def prepare_store(self) -> None:
        """Makes the store ready for what is to come. Raises StoreError."""
        await self.store.ensure_bucket()
        # A store that cannot take objects is told of now. It also makes a new embedded store allocate its first
        # volumes, which takes it seconds that the first radiologist would wait for.
        await self.store.check()
        if self.embedded is None and not await self.store.allow_origins(self.config.avara.allowed_origins):
            log.info("the store takes no CORS rules from us: allow browsers' origins in its own configuration")

    async def is_cached(self, study_instance_uid: str) -> bool:
        """Whether the store has the study whole, as far as the ledger says."""
        study = await self.journal.cached_study(study_instance_uid)
        return study is not None and study.state is StudyState.READY

    def _last_received(self, ae_titles: Collection[str]) -> float:
        return self.scp.last_received(ae_titles)

    def _awaits(self, ae_title: str, host: str) -> bool:
        names = self.senders.names(ae_title, host)
        return any(not flight.sources.isdisjoint(names) for flight in self.fetcher.flights())

    def _refused(self, sender: Sender, sop_instance_uid: str, reason: str) -> None:
        self.intake.lost(sender, sop_instance_uid, reason)

    def _pushed(self, study_instance_uid: str, calling_ae_title: str) -> Flight | None:
        return self.fetcher.pushed(study_instance_uid, calling_ae_title) if self.config.dicom.accept_pushes else None

    async def echo_self(self) -> None:
        """Whether our own DICOM listener answers. Raises PacsError."""
        dicom = self.config.dicom
        host = "127.0.0.1" if dicom.host in ("0.0.0.0", "::") else dicom.host  # noqa: S104  (compared)
        us = Peer(
            "the gateway itself", dicom.ae_title, host, self.scp.port, dicom.ae_title, tls=client_tls(dicom.tls),
            certificate_names=frozenset((ANY,)),  # it is ours, whatever it names
        )  # fmt: skip
        await PacsClient(us, advertised=self.config.advertised).echo()

    def alive(self) -> bool:
        """Whether nothing hangs, so that starting afresh would not help."""
        return self.loops.alive

    def status(self) -> str:
        """How it is, in a line for the service manager."""
        down = [f"{state.name} ({state.reason})" for state in self.loops.states() if not state.running]
        return f"serving, but not running: {', '.join(down)}" if down else "serving"

    @cached_property
    def health(self) -> Health:
        """What ``GET /health`` tells."""
        return health_of(self)
