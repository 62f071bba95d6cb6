"""Alerts by webhook and by e-mail: what they hold and do not, who is tried again, what nobody can inject. Receivers are
real sockets; the mail server is played line by line. Not here: when an alert is sent."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import json
import logging
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.alerts import Alert
from gateway.alerts.errors import AlertFailed, AlertRefused
from gateway.alerts.mail import EmailAlert, Security
from gateway.alerts.webhook import WebhookAlert
from gateway.avara.signature import WebhookVerifier
from tests.reports.tls import certificate

STUDY_UID = "1.2.826.0.1.3680043.10.1"

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def an_alert(**changes):
    facts = {
        "reportId": changes.pop("report_id", "rep_1"), "studyId": changes.pop("study_id", "stu_1"),
        "studyInstanceUid": STUDY_UID,
    }  # fmt: skip
    told = {
        "kind": "report.critical", "subject": "1", "title": "Critical report",
        "what_to_do": "Read the report, and tell the referring physician.", "at": 1_795_500_000.0, "facts": facts,
        "urgent": True, **changes,
    }  # fmt: skip
    return Alert(**told)


def test_the_key_is_one_for_every_try_and_another_for_anything_else():
    keys = [
        an_alert().key, an_alert(subject="2").key, an_alert(kind="report.waiting").key, an_alert(ended=True).key,
        an_alert(occasion=2).key,
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert an_alert(at=1.0, report_id="rep_2").key == keys[0]


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def receiver():
    """Starts a receiver of webhooks; gives its URL and what came."""
    servers = []

    async def start(status=200, headers=None, tls=None, pause=0.0):
        seen = []

        async def handler(request):
            seen.append((request.method, request.path, request.headers, await request.read()))
            await asyncio.sleep(pause)
            return web.Response(status=status, headers=headers, text="Jane Doe is known here")

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app, scheme="https" if tls else "http")
        servers.append(server)
        await server.start_server(ssl=tls)
        return f"{'https' if tls else 'http'}://127.0.0.1:{server.port}/services/S3CRET", seen

    yield start
    for server in servers:
        await server.close()


async def test_a_webhook_tells_ids_and_what_to_do_and_is_signed(receiver):
    url, seen = await receiver()
    alert = WebhookAlert(url, bearer_token="token", signing_key=KEY)
    await alert.send(an_alert())
    await alert.send(an_alert())
    method, path, headers, body = seen[0]
    assert (method, path) == ("POST", "/services/S3CRET")
    told = json.loads(body)
    assert told == {
        "kind": "report.critical", "state": "raised", "whatToDo": "Read the report, and tell the referring physician.",
        "reportId": "rep_1", "studyId": "stu_1",
        "studyInstanceUid": STUDY_UID, "at": "2026-11-24T06:00:00+00:00",
    }  # fmt: skip
    assert headers["Authorization"] == "Bearer token"
    assert WebhookVerifier([KEY]).verify(body, headers) == an_alert().key
    assert {h["Idempotency-Key"] for _, _, h, _ in seen} == {an_alert().key}
    assert seen[0][3] == seen[1][3]


async def test_a_webhook_without_secrets_sends_none(receiver, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    url, seen = await receiver(204)
    await WebhookAlert(url).send(an_alert())
    assert not {"Authorization", "webhook-signature", "Cookie"} & set(seen[0][2])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AlertRefused), (401, AlertRefused), (403, AlertRefused), (404, AlertRefused), (410, AlertRefused),
        (301, AlertRefused), (307, AlertRefused), (408, AlertFailed), (429, AlertFailed), (500, AlertFailed),
        (503, AlertFailed),
    ],
)  # fmt: skip
async def test_what_a_receiver_refuses_is_told_from_where_it_fails(receiver, status, kind, caplog):
    caplog.set_level(logging.DEBUG)
    other, followed = await receiver()
    url, seen = await receiver(status, {"Location": other})
    with pytest.raises(kind, match=str(status)) as caught:
        await WebhookAlert(url).send(an_alert())
    assert caught.value.transient == (kind is AlertFailed)
    assert len(seen) == 1
    assert not followed
    ours = "".join(r.getMessage() for r in caplog.records if r.name != "aiohttp.access")
    for secret in ("S3CRET", "Doe"):
        assert secret not in str(caught.value) + ours


@pytest.mark.slow
async def test_a_receiver_that_is_slow_or_away_or_untrusted_is_tried_again(receiver, tls):
    url, _ = await receiver(pause=20)
    began = time.monotonic()
    with pytest.raises(AlertFailed, match="in time"):
        await WebhookAlert(url, timeout=0.3).send(an_alert())
    assert time.monotonic() - began < 10
    with pytest.raises(AlertFailed, match="reached"):
        await WebhookAlert("http://127.0.0.1:1/S3CRET").send(an_alert())
    url, seen = await receiver(tls=tls.server)
    with pytest.raises(AlertFailed, match="ca_file"):
        await WebhookAlert(url).send(an_alert())
    await WebhookAlert(url, ca_file=tls.ca_file).send(an_alert())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", {}), ("S3CRET", {}), ("ftp://host/S3CRET", {}), ("https:///S3CRET", {}), ("https://u:p@host/S3CRET", {}),
        ("https://host:99999/S3CRET", {}), ("https://host/", {"bearer_token": "S3CRET\r\nX: y"}),
        ("https://host/", {"bearer_token": ""}), ("https://host/", {"signing_key": "S3CRET"}),
    ],
)  # fmt: skip
def test_a_webhook_that_cannot_be_is_refused_at_start_without_quoting_it(url, options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (which one is in the text of each)
        WebhookAlert(url, **options)
    assert "S3CRET" not in str(caught.value)


# -- e-mail


class MailServer:
    """Plays SMTP: each command has its answer, unless *says* has another for what it begins with."""

    def __init__(self, says=None, offers=(), tls=None, start_tls=None):
        self.says = says or {}
        self.offers = offers
        self.tls = tls
        self.start_tls = start_tls
        self.commands = []
        self.mails = []
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def connected(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            await self.talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def talk(self, reader, writer):
        if not await self.answer(writer, "connect", b"220 ready"):
            return
        while line := await reader.readline():
            command = line.decode().rstrip("\r\n")
            self.commands.append(command)
            match command.split(" ")[0].upper():
                case "EHLO":
                    usual = b"".join(b"250-%b\r\n" % o for o in (b"mail", *self.offers)) + b"250 HELP"
                case "STARTTLS":
                    writer.write(b"220 go ahead\r\n")
                    await writer.start_tls(self.start_tls)
                    continue
                case "DATA":
                    usual = b"354 go on"
                case "AUTH":
                    usual = b"235 welcome"
                case "QUIT":
                    usual = b"221 bye"
                case _:
                    usual = b"250 fine"
            if not await self.answer(writer, command, usual):
                return
            if command == "DATA" and usual == b"354 go on" and not any("DATA" in k for k in self.says):
                self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
                if not await self.answer(writer, "mail", b"250 queued"):
                    return

    async def answer(self, writer, command, usual):
        said = next((v for k, v in self.says.items() if command.startswith(k)), usual)
        if callable(said):
            await said(writer)
            return False
        writer.write(said + b"\r\n")
        await writer.drain()
        return True


def by_mail(server, **options):
    options = {"sender": "gateway@hosp.example.org", "recipients": ["ris@hosp.example.org"], **options}
    return EmailAlert("127.0.0.1", server.port, **{"security": Security.NONE, **options})


async def test_an_e_mail_tells_ids_and_what_to_do_and_repeats_its_message_id():
    async with MailServer() as server:
        alert = by_mail(server, recipients=["ris@hosp.example.org", "it@hosp.example.org"])
        await alert.send(an_alert())
        await alert.send(an_alert())
    mail = email.message_from_bytes(server.mails[0], policy=email.policy.default)
    assert mail["Subject"] == "Critical report: rep_1"
    assert mail["To"] == "ris@hosp.example.org, it@hosp.example.org"
    assert mail["Message-ID"] == f"<{an_alert().key}@hosp.example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert "tell the referring" in " ".join(text.split())
    for fact in ("reportId: rep_1", "studyId: stu_1", f"studyInstanceUid: {STUDY_UID}", "at: 2026-11-24T06:00:00"):
        assert fact in text
    assert server.mails[0] == server.mails[1]
    assert "EHLO hosp.example.org" in server.commands
    assert [c for c in server.commands if c.startswith("RCPT")][:2] == [
        "RCPT TO:<ris@hosp.example.org>", "RCPT TO:<it@hosp.example.org>",
    ]  # fmt: skip


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_tls_and_the_login_are_used_as_configured_and_verified(tls, security):
    offers = (b"STARTTLS", b"AUTH PLAIN")
    direct = tls.server if security is Security.TLS else None
    options = {"security": security, "username": "user", "password": "pass"}
    async with MailServer(offers=offers, tls=direct, start_tls=tls.server) as server:
        await by_mail(server, ca_file=tls.ca_file, **options).send(an_alert())
        (login,) = [c for c in server.commands if c.startswith("AUTH PLAIN")]
        assert base64.b64decode(login.split(" ")[2]) == b"\0user\0pass"
        before = len(server.commands)
        with pytest.raises(AlertFailed) as caught:
            await by_mail(server, **options).send(an_alert())
        assert "ca_file" in str(caught.value)
        assert not [c for c in server.commands[before:] if c.startswith(("AUTH", "MAIL"))]
    assert len(server.mails) == 1


async def test_where_starttls_is_not_offered_nothing_is_sent_in_the_clear(tls):
    async with MailServer(offers=(b"AUTH PLAIN",)) as server:
        with pytest.raises(AlertRefused, match="does not offer starttls"):
            await by_mail(server, security=Security.STARTTLS, username="user", password="S3CRET").send(an_alert())
    assert not [c for c in server.commands if c.startswith(("AUTH", "MAIL"))]


@pytest.mark.parametrize(
    ("command", "answer", "kind", "said"),
    [
        ("connect", b"554 no", AlertRefused, "554"),
        ("connect", b"421 busy", AlertFailed, "421"),
        ("connect", b"SSH-2.0-x", AlertFailed, "now"),
        ("MAIL", b"550 not you", AlertRefused, "correct the sender"),
        ("MAIL", b"452 full", AlertFailed, "452"),
        ("RCPT", b"550 no such user", AlertRefused, "correct the recipients"),
        ("RCPT", b"450 greylisted", AlertFailed, "450"),
        ("DATA", b"554 no", AlertRefused, "554"),
        ("DATA", b"451 later", AlertFailed, "451"),
        ("mail", b"554 spam", AlertRefused, "554"),
        ("mail", b"452 full", AlertFailed, "452"),
    ],
)
async def test_what_a_mail_server_refuses_is_told_from_where_it_fails(command, answer, kind, said):
    async with MailServer({command: answer}) as server:
        with pytest.raises(kind, match=said):
            await by_mail(server).send(an_alert())


async def test_a_login_that_is_refused_names_the_setting_and_no_secret(tls):
    for answer, kind in ((b"535 no", AlertRefused), (b"454 later", AlertFailed)):
        async with MailServer({"AUTH": answer}, offers=(b"STARTTLS", b"AUTH PLAIN"), start_tls=tls.server) as server:
            with pytest.raises(kind, match="login") as caught:
                await by_mail(
                    server, security=Security.STARTTLS, ca_file=tls.ca_file, username="user", password="S3CRET"
                ).send(an_alert())
        assert "S3CRET" not in str(caught.value)


async def test_one_recipient_that_is_refused_keeps_the_alert_from_no_other(caplog):
    async with MailServer({"RCPT TO:<gone": b"550 gone"}) as server:
        await by_mail(server, recipients=["gone@hosp.example.org", "ris@hosp.example.org"]).send(an_alert())
    assert len(server.mails) == 1
    assert "not taken for 1 of its recipients" in caplog.text


async def silent(writer):
    await asyncio.sleep(20)


async def drips(writer):
    writer.write(b"250")
    while True:
        writer.write(b"-")
        await writer.drain()
        await asyncio.sleep(0.05)


async def floods(writer):
    while True:
        writer.write(b"250-more\r\n" * 1000)
        await writer.drain()


async def hangs_up(writer):
    return


@pytest.mark.parametrize("behaves", [silent, drips, floods, hangs_up])
@pytest.mark.parametrize("command", ["connect", "EHLO", "mail"])
@pytest.mark.slow
async def test_a_mail_server_that_misbehaves_is_given_up_and_tried_again(behaves, command):
    began = time.monotonic()
    async with MailServer({command: behaves}) as server:
        with pytest.raises(AlertFailed):
            await by_mail(server, timeout=0.2).send(an_alert())
    assert time.monotonic() - began < 10


async def test_a_mail_server_that_is_away_is_transient_and_named():
    with pytest.raises(AlertFailed, match=r"127\.0\.0\.1:1 "):
        await EmailAlert("127.0.0.1", 1, sender="a@b.org", recipients=["c@d.org"]).send(an_alert())


@pytest.mark.parametrize(
    "changes",
    [
        {"recipients": []},
        {"recipients": ["ris"]},
        {"recipients": ["ris@hosp.example.org\r\nBcc: all@example.org"]},
        {"recipients": ["ris@hosp.example.org, all@example.org"]},
        {"recipients": ["Ris <ris@hosp.example.org>"]},
        {"sender": "a@b.org> SIZE=1"},
        {"sender": "a@b.org\n"},
        {"username": "user"},
        {"username": "user", "password": "pass"},
    ],
)
def test_a_mail_that_cannot_be_is_refused_at_start(changes):
    options = {"sender": "a@b.org", "recipients": ["c@d.org"], "security": Security.NONE, **changes}
    with pytest.raises(ValueError):  # noqa: PT011  (which one is in the text of each)
        EmailAlert("127.0.0.1", 25, **options)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.text(max_size=300), st.text(st.sampled_from("\r\n:. ab\x00\u2028"), max_size=50))
def test_no_id_makes_a_header_or_a_command(one, other):
    alert = EmailAlert("127.0.0.1", 25, sender="a@b.org", recipients=["c@d.org"])
    usual = alert._message(an_alert())
    for report_id, study_id in ((one, other), (other, one)):
        message = alert._message(an_alert(report_id=report_id, study_id=study_id))
        back = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
        assert back.keys() == usual.keys()
        assert back["To"] == "c@d.org"
        assert len(back.get_content().strip().splitlines()) == len(usual.get_content().strip().splitlines())
