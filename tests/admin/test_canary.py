"""The canary: a study is opened through the public URL as Avara opens it, and where that fails it is said where, at
each step of the way. Not here: when people are told (tests/alerts/test_standing.py)."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from aiohttp import web
from click.testing import CliRunner

from gateway.admin.canary import STUDY_ID, Canary, CanaryFailed
from gateway.admin.watches import Watched, watches
from gateway.app.canary import canary_of
from gateway.cli.canary import test as command
from gateway.config.alerts import AlertsConfig
from gateway.config.operation import CanaryConfig
from gateway.demo.sample import sample_study
from gateway.journal import events
from gateway.journal.events import EventKind
from gateway.runtime.clock import SYSTEM_CLOCK
from tests.clock import ManualClock, settle

STUDY, SAMPLE = sample_study()
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ORIGIN = "https://viewer.avarasoftware.com"
WATCHED = Watched(**dict.fromkeys(field.name for field in dataclasses.fields(Watched)))
"""Nothing; only what a test puts into it is looked at."""


@pytest.fixture
async def hospital(simulator, start):
    """A gateway in front of a PACS with a study, and its canary."""
    simulator.add(*(i.content for i in SAMPLE))
    return await start(simulator, avara={"answer": "listed"}, canary={"study_uid": STUDY})


async def test_every_url_of_a_study_is_opened_and_what_came_is_told(hospital):
    await hospital.ask(STUDY)
    await hospital.quiet()
    opened = await hospital.parts.canary.open(STUDY)
    assert opened.urls == len(SAMPLE) + 1  # and the PDF, as media, which is known once it is here
    assert opened.size > sum(len(i.content) for i in SAMPLE)
    assert f"{opened.urls} URLs opened" in str(opened)


async def test_a_study_that_is_not_given_whole_fails_it_with_avaras_words(hospital):
    with pytest.raises(CanaryFailed, match=r"1\.2\.3\.4 is not given whole: .*not in any PACS"):
        await hospital.parts.canary.open("1.2.3.4")


async def test_a_key_that_is_not_the_gateways_fails_it(hospital):
    config = hospital.config
    other = Canary(
        config.gateway_url + config.avara.path, "whsec_" + "A" * 32, origin=ORIGIN, answer_within=10, ca_file=None,
        clock=SYSTEM_CLOCK,
    )  # fmt: skip
    with pytest.raises(CanaryFailed, match="answers 401"):
        await other.open(STUDY)


async def test_the_canary_is_no_word_of_avaras(hospital):
    await hospital.parts.canary.open(STUDY)
    await hospital.parts.events.flush()
    kept = await hospital.parts.journal.run(lambda c: events.latest(c, EventKind.WEBHOOK, 10))
    assert [event for event in kept if STUDY_ID in str(event)] == []
    assert hospital.parts.arrivals.last == 0


async def stands(*, status=200, answer=None, url_status=200, headers=None, body=b"x"):
    """A server in the gateway's place; its canary."""
    application = web.Application()
    runner = web.AppRunner(application)

    async def webhook(request):
        url = f"http://{request.host}/studies/1/2.dcm?X-Amz-Signature=secret"
        content = {"authorized": True, "urls": [url]} if answer is None else answer
        return web.json_response(content, status=status)

    async def give(request):
        return web.Response(status=url_status, body=body, headers=headers or {})

    application.router.add_post("/webhooks/avara", webhook)
    application.router.add_get("/studies/1/2.dcm", give)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/avara"
    return runner, Canary(url, KEY, origin=ORIGIN, answer_within=5, ca_file=None, clock=SYSTEM_CLOCK)


ALLOWED = {"Access-Control-Allow-Origin": ORIGIN}


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"status": 502}, "answers 502: does http.public_url lead to this gateway"),
        ({"status": 302}, "answers 302"),
        ({"answer": []}, "no answer of this gateway"),
        ({"answer": {"authorized": True, "urls": []}}, "it has no instance"),
        ({"answer": {"authorized": True, "urls": ["x"], "error": "ask again later"}}, "ask again later"),
        ({"url_status": 403, "headers": ALLOWED}, "answers 403"),
        ({}, "may not be read by a page of https://viewer"),
        ({"headers": {"Access-Control-Allow-Origin": "https://other.example.org"}}, "avara.allowed_origins"),
        ({"headers": ALLOWED, "body": b""}, "gives nothing"),
    ],
)
async def test_where_the_way_breaks_is_said_and_no_signature_is_shown(server, told):
    runner, canary = await stands(**server)
    try:
        with pytest.raises(CanaryFailed) as failed:
            await canary.open(STUDY)
    finally:
        await runner.cleanup()
    assert told in str(failed.value)
    assert "X-Amz-Signature" not in str(failed.value)


@pytest.mark.parametrize("origin", [ORIGIN, "*"])
async def test_a_way_that_holds_is_said_to_hold(origin):
    runner, canary = await stands(headers={"Access-Control-Allow-Origin": origin})
    try:
        assert (await canary.open(STUDY)).urls == 1
    finally:
        await runner.cleanup()


async def test_nothing_that_listens_is_said_with_what_to_look_at():
    canary = Canary("http://127.0.0.1:1/x", KEY, origin=ORIGIN, answer_within=5, ca_file=None, clock=SYSTEM_CLOCK)
    with pytest.raises(CanaryFailed, match="does the reverse proxy run"):
        await canary.open(STUDY)


async def test_it_sings_again_and_again_and_its_failure_stands_until_it_sings():
    clock = ManualClock()
    canary = Canary("http://127.0.0.1:1/x", KEY, origin=ORIGIN, answer_within=5, ca_file=None, clock=clock)
    results = iter([CanaryFailed("the store is away"), None])
    tried = []

    async def sing():
        tried.append(STUDY)
        if (error := next(results)) is not None:
            raise error
        return "it opens"

    (watch,) = [w for w in watches(dataclasses.replace(WATCHED, canary=canary), AlertsConfig()) if "canary" in w.kind]
    loop = asyncio.create_task(canary.watch(sing, 600))
    await settle()
    await clock.pass_time(599, step=599)
    assert (tried, await watch.look()) == ([], [])
    await clock.pass_time(2)
    (alert,) = await watch.look()
    assert "the store is away" in alert.what_to_do
    await clock.pass_time(600, step=600)
    assert (tried, await watch.look()) == ([STUDY, STUDY], [])
    loop.cancel()


def test_who_opens_again_and_again_says_which_study():
    with pytest.raises(ValueError, match="study_uid"):
        CanaryConfig(every=600)
    with pytest.raises(ValueError, match="not a Study Instance UID"):
        CanaryConfig(study_uid="my study")


async def test_the_command_opens_a_study_and_ends_with_where_it_failed(hospital, tmp_path):
    file = next(hospital.config.state_dir.parent.glob("gateway-*.yaml"))
    runner = CliRunner()
    done = await asyncio.to_thread(runner.invoke, command, ["-c", str(file)])
    assert (done.exit_code, "URLs opened" in done.output) == (0, True), done.output
    done = await asyncio.to_thread(runner.invoke, command, ["-c", str(file), "--study-uid", "1.2.3.4"])
    assert (done.exit_code, "not in any PACS" in done.output) == (1, True), done.output
    done = await asyncio.to_thread(runner.invoke, command, ["-c", str(file), "--study-uid", "1.2.*"])
    assert done.exit_code == 2


async def test_a_gateway_without_a_key_has_no_canary(hospital):
    config = hospital.config
    without = config.model_copy(update={"avara": config.avara.model_copy(update={"webhook_keys": []})})
    assert canary_of(without) is None
