"""Where the access policy is asked: fresh and cached studies, deferred URLs, uploads, commands; and what is told of it.
What each rule means is in tests/access."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from gateway.cli import main
from gateway.demo.sample import sample_study
from tests.audit.test_gateway import told
from tests.studies.test_truth import changed

STUDY, SAMPLE = sample_study()
DENIED = {"authorized": False, "urls": [], "error": "the hospital does not permit access to this study"}


def fill(simulator):
    simulator.add(*(i.content for i in SAMPLE))


async def upload(gateway):
    data = {"studyId": "stu_1", "studyInstanceUid": STUDY}
    _, answer = await gateway.post({"id": "whe_9", "type": "secondary_capture.access_requested", "data": data})
    return answer


@pytest.mark.parametrize(
    ("access", "rule"),
    [
        ({"deny_patients": ["demo-001"]}, "deny_patients"),
        ({"deny_accessions": ["DEMO-1"]}, "deny_accessions"),
        ({"deny_modalities": ["US"]}, "deny_modalities"),
        ({"max_age": "30d"}, "max_age"),
        ({"institutions": ["Another"]}, "institutions"),
        ({"released_only": True}, "released_only"),
    ],
)
async def test_a_study_that_a_rule_forbids_is_neither_fetched_nor_given_nor_uploaded_to(
    simulator, start, caplog, access, rule
):
    fill(simulator)
    gateway = await start(simulator, access=access)
    caplog.set_level(logging.INFO)
    assert await gateway.ask(STUDY) == DENIED
    assert (await upload(gateway))["authorized"] is False
    assert not [asked for asked in simulator.requests if asked.startswith(("MOVE", "GET"))]
    refused = await told(gateway, "access_refused", 2)
    assert {(entry["rule"], entry["purpose"]) for entry in refused} == {
        (f"access.{rule}", "open"), (f"access.{rule}", "upload"),
    }  # fmt: skip
    (access_entry,) = await told(gateway, "study_access")
    assert f"(access.{rule})" in access_entry["outcome"]
    assert "DEMO-001" not in caplog.text
    assert "demo-001" not in caplog.text


@pytest.mark.parametrize(
    "access",
    [
        {"deny_patients": ["P2"], "deny_accessions": ["X"], "deny_modalities": ["MG"], "max_age": "9000d"},
        {"modalities": ["CT", "MR", "US"], "pacs": ["simulator"]},
    ],
)
async def test_a_study_that_no_rule_forbids_is_given_whole_fresh_and_warm(simulator, start, access):
    fill(simulator)
    if "pacs" in access:
        access = access | {"pacs": [simulator.ae_title.lower()]}
    gateway = await start(simulator, access=access)
    for _ in range(2):
        answer = await gateway.ask(STUDY)
        assert len(answer["urls"]) == len(SAMPLE)
        assert "error" not in answer
    assert (await upload(gateway))["authorized"] is True


async def test_what_is_cached_is_refused_once_the_list_names_its_patient(simulator, start, tmp_path):
    fill(simulator)
    listed = tmp_path / "denied"
    listed.write_text("# nobody\n")
    gateway = await start(simulator, access={"deny_patients_file": str(listed)})
    assert len((await gateway.ask(STUDY))["urls"]) == len(SAMPLE)
    listed.write_text("DEMO-001\n")
    await asyncio.sleep(1.1)  # it is looked at once a second
    assert await gateway.ask(STUDY) == DENIED


async def test_a_study_that_the_pacs_gives_to_another_patient_meanwhile_is_refused_in_the_same_answer(simulator, start):
    fill(simulator)
    gateway = await start(simulator, access={"deny_patients": ["P2"]}, cache={"revalidate_after": "0s"})
    assert (await gateway.ask(STUDY))["urls"]
    simulator.add(*(changed(i.content, PatientID="P2") for i in SAMPLE))
    assert await gateway.ask(STUDY) == DENIED


async def test_deferred_urls_die_when_the_policy_forbids_the_study(simulator, start, tmp_path):
    fill(simulator)
    simulator.behaviour.delay_per_instance = 0.1
    listed = tmp_path / "denied"
    listed.write_text("# nobody\n")
    gateway = await start(
        simulator, avara={"answer": "listed", "answer_patience": "0s"}, access={"deny_patients_file": str(listed)}
    )
    urls = [url for url in (await gateway.ask(STUDY))["urls"] if "/deferred/" in url]
    await gateway.open(urls[0])
    listed.write_text("DEMO-001\n")
    await asyncio.sleep(1.1)
    for url in urls:
        async with gateway.http.get(url) as answer:
            assert (answer.status, await answer.json()) == (403, {"error": DENIED["error"]})
    assert await told(gateway, "access_refused")


async def test_where_no_pacs_can_say_what_a_rule_wants_to_know_nothing_is_given(simulator, start):
    fill(simulator)
    simulator.behaviour.silent = True
    gateway = await start(simulator, access={"deny_patients": ["P2"]}, avara={"answer_within": "3s"})
    answer = await gateway.ask(STUDY)
    assert answer["urls"] == []
    assert answer["error"].endswith("ask again later")
    assert answer["authorized"] is True  # so that Avara asks again


async def test_a_study_that_nobody_has_is_not_there_with_a_policy_as_without(simulator, start):
    gateway = await start(simulator, access={"deny_patients": ["P2"]})
    answer = await gateway.ask("1.2.3.4")
    assert answer == {"authorized": False, "urls": [], "error": "the study is not in any PACS of this hospital"}


async def test_a_decision_point_decides_and_one_that_fails_is_told_by_check_and_health(simulator, start):
    fill(simulator)
    said = {"allow": True}

    async def decide(request):
        question = await request.json()
        assert "DEMO-001" not in json.dumps(question)
        return web.json_response(said) if said else web.Response(status=500)

    application = web.Application()
    application.router.add_post("/decide", decide)
    async with TestServer(application) as server:
        url = f"http://127.0.0.1:{server.port}/decide"
        gateway = await start(simulator, access={"decision": {"url": url, "keep": "1s"}})
        assert len((await gateway.ask(STUDY))["urls"]) == len(SAMPLE)
        said["allow"] = False
        await asyncio.sleep(1.1)
        assert await gateway.ask(STUDY) == DENIED
        said.clear()
        await asyncio.sleep(1.1)
        assert await gateway.ask(STUDY) == DENIED
        failing = await gateway.parts.health.failing()
        assert "access" in failing
        assert "127.0.0.1" not in failing["access"]
        (told_by_check,) = [r async for r in gateway.checked() if r.name == "access decision point"]
        assert told_by_check.ok is False
        assert "500" in told_by_check.text
    entries = await told(gateway, "access_refused", 2)
    assert {e["rule"] for e in entries} == {"access.decision", "access.decision (failed)"}


async def test_an_operator_is_told_which_rule_forbids_a_study(simulator, start, tmp_path):
    fill(simulator)
    gateway = await start(simulator, access={"deny_modalities": ["US"]})
    path = tmp_path / f"gateway-{gateway.config.http.port}.yaml"
    arguments = ["study", "show", "-c", str(path), STUDY, "--why"]
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert done.exit_code == 0, done.output
    assert "access.deny_modalities" in done.output
