"""What people are told of: each kind of trouble is seen, its text says what to do, and what is well is not spoken of.
Not here: when it is told (tests/alerts/test_standing.py)."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import re
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.admin import certificates
from gateway.admin.answering import AGAIN_AFTER, PROVEN_FOR, Answering
from gateway.admin.arrivals import WEEK, Arrivals, silent_unusually, usual
from gateway.admin.health import Unhealthy
from gateway.admin.judgement import Judgement, StoreProof
from gateway.admin.state_dir import Room
from gateway.admin.watches import Watched, watches
from gateway.app.alerts import certificate_files, certificate_servers
from gateway.avara.endpoint import Answered, Refused
from gateway.config.alerts import AlertsConfig
from gateway.config.models import Config
from gateway.journal import commitments, jobs
from gateway.journal.events import EventKind, JournalEvent, write
from gateway.objects import StoreError
from gateway.pacs.breaker import Breaker
from gateway.pacs.errors import PacsUnreachable
from gateway.pacs.lanes import ECHO
from gateway.runtime.supervise import Supervisor
from tests.clock import ManualClock
from tests.untyped import Untyped


class Part:
    """Stands for a part that works, or raises *error*."""

    def __init__(self, error=None):
        self.error = error
        self.asked = 0

    async def check(self):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Room(5_000_000_000)

    async def head(self, key):
        """It answers, whatever it could be given."""


class Dicom:
    """Stands for a PACS's client that answers a C-ECHO, or does not."""

    def __init__(self, clock):
        self.breaker = Breaker("PACS", clock)
        self.error = None
        self.asked = 0

    async def echo(self, claim):
        with self.breaker.attempt(claim):
            self.asked += 1
            if self.error is not None:
                raise self.error


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def loops(clock):
    async with Supervisor(clock=clock) as supervisor:
        yield supervisor


@pytest.fixture
def client(clock):
    return Dicom(clock)


@pytest.fixture
def watched(clock, journal, loops, client):
    pacs = SimpleNamespace(name="main", where="MAIN", client=client, finder=client, trouble="", silent_for=0.0)

    async def none():
        return []

    arrivals, limits = Arrivals(clock), AlertsConfig()
    judgement = Judgement(
        Answering([pacs], clock), StoreProof(Part(), clock), Part(), limits.disk_free, arrivals, journal,
        limits.no_webhook_for, none, clock,
    )  # fmt: skip
    return Watched(judgement=judgement, journal=journal, arrivals=arrivals, loops=loops, clock=clock)


async def wrong(watched, kind, **limits):
    limits = AlertsConfig(**limits)
    watched.judgement.disk_free, watched.judgement.quiet_for = limits.disk_free, limits.no_webhook_for
    (watch,) = [w for w in watches(watched, limits) if w.kind == kind]
    return list(await watch.look())


async def test_nothing_is_said_of_what_is_well(watched):
    for watch in watches(watched, AlertsConfig()):
        assert not await watch.look(), watch.kind


async def test_a_pacs_that_is_away_is_named_with_its_reason_once_it_was_silent_twice(watched, client, clock):
    client.error = PacsUnreachable("PACS MAIN: connection refused: is it up?")
    assert not await wrong(watched, "pacs.away")
    since = clock.now()
    await clock.pass_time(AGAIN_AFTER, step=AGAIN_AFTER)
    (alert,) = await wrong(watched, "pacs.away")
    assert watched.judgement.of_pacs()[0].since == since
    assert (alert.subject, alert.facts) == ("main", {"pacs": "main"})
    assert "connection refused" in alert.what_to_do


async def test_a_pacs_that_has_just_answered_is_not_asked_again(watched, client, clock):
    for _ in range(3):
        assert not await wrong(watched, "pacs.away")
    assert client.asked == 1
    await clock.pass_time(PROVEN_FOR + 1, step=PROVEN_FOR + 1)
    assert not await wrong(watched, "pacs.away")
    assert client.asked == 2
    with client.breaker.attempt(ECHO):
        pass  # something was asked of it
    await clock.pass_time(PROVEN_FOR, step=PROVEN_FOR)
    assert not await wrong(watched, "pacs.away")
    assert client.asked == 2
    assert watched.judgement.answering.answers()[0].answered == pytest.approx(clock.now() - PROVEN_FOR)


async def test_a_store_that_fails_is_told_with_its_mend_and_fails_its_probe_until_it_takes_an_object(watched):
    store = watched.judgement.store
    store._store.error = StoreError("the store is full: free space on it")
    (alert,) = await wrong(watched, "store.failing")
    assert "free space on it" in alert.what_to_do
    with pytest.raises(StoreError, match="full"):  # though it answers
        await store.look()
    store._store.error = None
    await store.look()


async def test_a_disk_that_fails_or_is_low_is_told(watched):
    (alert,) = await wrong(watched, "disk.low", disk_free=10**18)
    assert "GB are left" in alert.what_to_do
    watched.judgement.state_dir.error = Unhealthy("state_dir: its disk is read-only")
    (alert,) = await wrong(watched, "disk.low")
    assert "read-only" in alert.what_to_do


async def test_commitments_that_are_owed_too_long_are_told_until_they_come(watched, journal, clock):
    payload = Untyped({"study": "1.2.3", "sop_instance": "1.2.3.4"})
    job, _ = await journal.run(lambda c: jobs.add(c, "capture.store", "it", payload))
    await journal.run(lambda c: commitments.ask(c, job.id, "2.25.1", "1.2.3.4", stored_before=0))
    assert not await wrong(watched, "commitment.overdue", commitment_overdue=3600)
    await clock.pass_time(3601, step=3601)
    await journal.run(lambda c: commitments.ask(c, job.id, "2.25.2", "1.2.3.4", stored_before=0))
    (alert,) = await wrong(watched, "commitment.overdue", commitment_overdue=3600)
    assert alert.facts == {"objects": "1"}
    await journal.run(lambda c: commitments.answer(c, "2.25.1", ""))
    assert not await wrong(watched, "commitment.overdue", commitment_overdue=3600)


def test_the_documentation_names_every_kind_that_is_watched_and_its_setting(watched):
    text = (Path(__file__).parents[2] / "docs/alerts.md").read_text()
    assert {w.kind for w in watches(watched, AlertsConfig())} <= set(re.findall(r"`([a-z]+\.[a-z]+)`", text))
    assert set(re.findall(r"`alerts\.(\w+)`", text)) == set(AlertsConfig.model_fields)


def good(ahead, clock):
    event = SimpleNamespace(data=None)
    return Answered(event, "msg", "10.0.0.1", 200, "answered", False, 0.0, int(clock.now() - ahead))


async def test_a_clock_that_differs_from_avaras_is_told_and_one_late_webhook_says_nothing(watched, clock):
    for ahead in (0, 0, 200, 0, 0):
        watched.arrivals.note(good(ahead, clock))
    assert not await wrong(watched, "clock.off")
    for _ in range(5):
        watched.arrivals.note(good(-120, clock))
    (alert,) = await wrong(watched, "clock.off")
    assert "120 s behind" in alert.what_to_do
    assert "NTP" in alert.what_to_do


async def test_signatures_that_fail_in_a_row_are_told_and_a_good_one_ends_it(watched, clock):
    bad = Refused("192.0.2.1", "msg", "the signature matches none of the configured keys", unproven=True)
    stray = Refused("192.0.2.1", "", "webhook-id, webhook-timestamp and webhook-signature are required")
    for _ in range(4):
        watched.arrivals.note(bad)
        watched.arrivals.note(stray)
    assert not await wrong(watched, "webhook.signatures")
    watched.arrivals.note(bad)
    (alert,) = await wrong(watched, "webhook.signatures")
    assert "avara.webhook_keys" in alert.what_to_do
    watched.arrivals.note(good(0, clock))
    assert not await wrong(watched, "webhook.signatures")


@pytest.mark.parametrize(
    ("counts", "known", "expected"),
    [
        ([9, 9, 9, 9], 4, True),
        ([9, 9, 0, 0], 2, True),  # what was before the first event is not known
        ([9, 9, 0, 0], 3, False),
        ([2, 9, 9, 9], 4, False),
        ([9, 9, 9, 9], 1, False),
        ([9, 9, 9, 9], 0, False),
    ],
)
def test_webhooks_are_usual_where_every_week_that_is_known_had_some(counts, known, expected):
    assert usual(counts, known) is expected


async def test_silence_is_told_where_there_usually_are_webhooks_and_nowhere_else(watched, journal, clock):
    quiet = 4 * 3600.0
    now = clock.now()
    past = [
        JournalEvent(now - week * WEEK - hours * 3600, EventKind.WEBHOOK, "it", ())
        for week in range(1, 5) for hours in (1, 2, 3, 100)
    ]  # fmt: skip
    await journal.run(lambda c: write(c, past))
    (alert,) = await wrong(watched, "webhook.none", no_webhook_for=quiet)
    assert "4 hours" in alert.what_to_do
    assert not await wrong(watched, "webhook.none", no_webhook_for=600)  # never three in ten minutes
    await journal.run(lambda c: write(c, [JournalEvent(now - 60, EventKind.WEBHOOK, "it", ())]))
    assert not await journal.run(lambda c: silent_unusually(c, quiet))
    assert "webhook.none" not in [w.kind for w in watches(watched, AlertsConfig(no_webhook_for=None))]


@pytest.mark.slow
async def test_a_loop_that_was_started_again_is_told_for_an_hour(watched, loops, clock):
    runs = 0

    async def once():
        nonlocal runs
        runs += 1
        if runs > 1:
            await asyncio.Event().wait()

    loops.add("inbox", once)
    await clock.pass_time(3)
    assert runs == 2
    (alert,) = await wrong(watched, "loop.restarted")
    assert (alert.subject, loops.states()[0].restarts) == ("inbox", 1)
    await clock.pass_time(3700, step=100)
    assert not await wrong(watched, "loop.restarted")


def certificate(days):
    """A certificate and its key, as PEM, that holds for so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days)).sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


@pytest.mark.parametrize(("days", "title"), [(-1, "has ended"), (20, "ends soon"), (22, None)])
async def test_certificates_in_files_and_of_servers_are_told_of_before_their_end(watched, tmp_path, clock, days, title):
    pem, key = certificate(days)
    (tmp_path / "it.pem").write_bytes(pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "it.pem")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    found = await certificates.ends(
        {"dicom.tls.certificate_file": tmp_path / "it.pem", "gone": tmp_path / "gone.pem"},
        {"http.public_url": f"https://127.0.0.1:{port}", "nobody": "https://127.0.0.1:1"},
        AlertsConfig().certificate_before,
    )
    server.close()
    assert [one.what for one in found] == ["dicom.tls.certificate_file", "http.public_url"]
    clock.jump(datetime.datetime.now(datetime.UTC).timestamp() - clock.now())

    async def those():
        return found

    watched.judgement.read_certificates = those
    alerts = await wrong(watched, "certificate.ends")
    if title is None:
        assert alerts == []
    else:
        assert [alert.facts["certificate"] for alert in alerts] == [one.what for one in found]
        assert all(title in alert.title for alert in alerts)


def test_every_certificate_of_the_configuration_is_looked_at(tmp_path):
    tls = {"certificate_file": "/c.pem", "key_file": "/k.pem", "ca_file": "/ca.pem"}
    pacs = {"name": "main", "ae_title": "MAIN", "host": "10.0.0.1", "port": 104}
    config = Config.model_validate(
        {
            "pacs": [pacs, pacs | {"name": "web", "tls": tls, "dicomweb_url": "https://pacs.example.org/dicom-web"}],
            "dicom": {"tls": tls},
            "http": {"public_url": "https://gateway.example.org"},
        }
    )
    assert set(certificate_files(config)) == {"dicom.tls.certificate_file", "pacs[1].tls.certificate_file"}
    assert set(certificate_servers(config)) == {"http.public_url", "dicomweb_url of web"}


async def test_audit_messages_that_do_not_reach_their_repository_are_told(watched):
    away = dataclasses.replace(watched, audit_trouble=lambda: "it cannot be reached")
    watch = next(one for one in watches(away, AlertsConfig()) if one.kind == "audit.behind")
    [alert] = await watch.look()
    assert "cannot be reached" in str(alert)
    assert watch.after >= 600
    well = next(one for one in watches(watched, AlertsConfig()) if one.kind == "audit.behind")
    assert await well.look() == []
