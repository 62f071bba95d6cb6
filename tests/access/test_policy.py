"""The access policy by itself: what each rule forbids, what is not known, lists in files, and a decision point that
allows, forbids, fails, hangs and lies. Not here: where it is asked (tests/studies/test_permission.py)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from datetime import date, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import AccessPolicy, DecisionPoint, DenyList, Facts, Place, Purpose, Rules
from tests.clock import ManualClock

TODAY = date(2026, 11, 26)
FACTS = Facts("1.2.3", frozenset({"main"}), frozenset({"CT", "SR"}), "20261101", "P1", "A1", "St. Mary", "AO")


@pytest.mark.parametrize(
    ("rules", "changes", "against"),
    [
        (Rules(), {}, ""),
        (Rules(pacs=frozenset({"main"})), {}, ""),
        (Rules(pacs=frozenset({"other"})), {}, "access.pacs"),
        (Rules(pacs=frozenset({"main"})), {"pacs": frozenset({"main", "other"})}, "access.pacs"),
        (Rules(pacs=frozenset({"main"})), {"pacs": frozenset()}, "access.pacs"),
        (Rules(modalities=frozenset({"CT"})), {}, ""),
        (Rules(modalities=frozenset({"CT"})), {"modalities": frozenset({"CT", "US"})}, "access.modalities"),
        (Rules(modalities=frozenset({"CT"})), {"modalities": frozenset({"SR"})}, "access.modalities"),
        (Rules(modalities=frozenset({"CT"})), {"modalities": frozenset()}, "access.modalities"),
        (Rules(deny_modalities=frozenset({"US"})), {}, ""),
        (Rules(deny_modalities=frozenset({"CT"})), {}, "access.deny_modalities"),
        (Rules(deny_modalities=frozenset({"US"})), {"modalities": frozenset()}, "access.deny_modalities"),
        (Rules(max_age=timedelta(days=25)), {}, ""),
        (Rules(max_age=timedelta(days=24)), {}, "access.max_age"),
        (Rules(max_age=timedelta(days=30)), {"study_date": "2026.11.01"}, ""),
        (Rules(max_age=timedelta(days=30)), {"study_date": ""}, "access.max_age"),
        (Rules(max_age=timedelta(days=30)), {"study_date": "20261399"}, "access.max_age"),
        (Rules(institutions=frozenset({"st. mary"})), {"institution": " ST.  Mary "}, ""),
        (Rules(institutions=frozenset({"st. mary"})), {"institution": ""}, "access.institutions"),
        (Rules(deny_institutions=frozenset({"st. mary"})), {}, "access.deny_institutions"),
        (Rules(deny_institutions=frozenset({"st. joe"})), {"institution": ""}, "access.deny_institutions"),
        (Rules(released=frozenset({"ao", "ac"})), {}, ""),
        (Rules(released=frozenset({"ao", "ac"})), {"status": "NS"}, "access.released_only"),
        (Rules(released=frozenset({"ao", "ac"})), {"status": ""}, "access.released_only"),
    ],
)
def test_each_rule_forbids_what_it_names_and_what_nobody_says(rules, changes, against):
    verdict = rules.judge(dataclasses.replace(FACTS, **changes), TODAY)
    assert (verdict.allowed, verdict.rule) == (not against, against)


@given(st.text(max_size=20))
def test_who_is_on_a_list_is_forbidden_however_it_is_spelled_and_so_is_who_is_unknown(patient):
    denied = DenyList([patient], None, ManualClock()).values
    for spelled in (patient, patient.upper(), f" {patient} ", ""):
        facts = dataclasses.replace(FACTS, patient_id=spelled)
        if spelled.upper().casefold() == patient.casefold() or not spelled:
            assert Rules().judge(facts, TODAY, denied).rule == "access.deny_patients"


def test_a_study_without_an_accession_number_is_on_no_list_of_them():
    denied = frozenset({"a1"})
    assert Rules().judge(FACTS, TODAY, None, denied).rule == "access.deny_accessions"
    assert Rules().judge(dataclasses.replace(FACTS, accession_number=""), TODAY, None, denied).allowed


async def test_a_list_in_a_file_is_read_again_when_it_changes_and_outlives_its_file(tmp_path):
    file, clock = tmp_path / "patients", ManualClock()
    file.write_text("# who objected\nP1  # in 2025\n\n0042\n")
    denied = DenyList(["inline"], file, clock)
    assert denied.values == {"inline", "p1", "0042"}
    new = tmp_path / "new"
    new.write_text("P2\n")
    new.replace(file)
    await clock.pass_time(2)
    assert denied.values == {"inline", "p2"}
    file.unlink()
    await clock.pass_time(2)
    assert denied.values == {"inline", "p2"}
    assert str(file) in denied.trouble
    for half_written in (b"", b"\xff\xfe\x00"):
        file.write_bytes(half_written)
        os.utime(file, ns=(1, 1 + len(half_written)))
        await clock.pass_time(2)
        assert denied.values == {"inline", "p2"}
        assert denied.trouble
    file.write_text("P3\n")
    await clock.pass_time(2)
    assert denied.values == {"inline", "p3"}
    assert not denied.trouble


def test_a_list_whose_file_is_not_there_at_the_start_is_told(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        DenyList([], tmp_path / "none", ManualClock())


@pytest.fixture
async def asked():
    """Starts a decision point; gives a policy that asks it, what it was asked, and its clock."""
    servers = []

    async def start(answer=None, *, status=200, pause=0.0, **place):
        seen = []

        async def handler(request):
            seen.append((request.headers.get("Authorization"), json.loads(await request.read())))
            await asyncio.sleep(pause)
            return web.Response(status=status, body=answer or b'{"allow": true}', headers={"Location": "/again"})

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        place = {"url": f"http://127.0.0.1:{server.port}/decide", "within": 5.0} | place
        clock = ManualClock()
        nobody = DenyList([], None, clock)
        policy = AccessPolicy(
            Rules(), patients=nobody, accessions=nobody, decision=DecisionPoint(Place(**place)), keep_for=30.0,
            within=place["within"], clock=clock,
        )  # fmt: skip
        return policy, seen, clock

    yield start
    for server in servers:
        await server.close()


async def test_the_decision_point_is_told_identifiers_and_no_patient_and_decides(asked):
    policy, seen, _ = await asked(b'{"allow": false, "rule": "research\\nonly"}', token="secret")
    verdict = await policy.judge(FACTS, Purpose.OPEN, event="whe_1")
    assert (verdict.allowed, verdict.rule) == (False, "access.decision: research\\nonly")
    assert seen == [
        (
            "Bearer secret",
            {
                "purpose": "open", "event": "whe_1", "studyInstanceUid": "1.2.3", "pacs": ["main"],
                "modalities": ["CT", "SR"], "studyDate": "20261101", "accessionNumber": "A1", "institution": "St. Mary",
            },
        )
    ]  # fmt: skip
    assert not policy.trouble


@pytest.mark.slow
async def test_a_decision_holds_for_a_while_and_many_ask_once(asked):
    policy, seen, clock = await asked(pause=0.05)
    await asyncio.gather(*(policy.judge(FACTS, Purpose.OPEN) for _ in range(50)))
    assert len(seen) == 1
    await policy.judge(FACTS, Purpose.UPLOAD)
    await policy.judge(dataclasses.replace(FACTS, patient_id="P2"), Purpose.OPEN)
    assert len(seen) == 3
    await clock.pass_time(31)
    await policy.judge(FACTS, Purpose.OPEN)
    assert len(seen) == 4


async def test_whoever_asked_first_and_goes_away_ends_the_question_for_nobody(asked):
    policy, _, _ = await asked(pause=0.2)
    first = asyncio.create_task(policy.judge(FACTS, Purpose.OPEN))
    second = asyncio.create_task(policy.judge(FACTS, Purpose.OPEN))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).allowed


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (None, 500), (None, 302), (None, 401), (b"yes", 200), (b'{"allow": "true"}', 200), (b"[]", 200),
        (b'{"allow": true}' + b" " * 70_000, 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("allowed", [False, True])
async def test_whatever_is_no_decision_is_a_failure_and_denies_unless_it_is_configured_otherwise(
    asked, answer, status, allowed
):
    policy, seen, clock = await asked(answer, status=status, allow_on_failure=allowed)
    verdict = await policy.judge(FACTS, Purpose.OPEN)
    assert (verdict.allowed, verdict.rule) == (allowed, "access.decision (failed)")
    assert policy.trouble
    await clock.pass_time(6)  # a failure does not hold for as long as a decision
    await policy.judge(FACTS, Purpose.OPEN)
    assert len(seen) == 2


@pytest.mark.slow
async def test_one_that_hangs_is_not_waited_for_beyond_the_answer(asked):
    policy, _, _ = await asked(pause=60)
    loop = asyncio.get_running_loop()
    began = loop.time()
    verdict = await policy.judge(FACTS, Purpose.OPEN, deadline=began + 0.6)
    assert not verdict.allowed
    assert loop.time() - began < 30  # it would hang for 60
    assert "does not answer" in policy.trouble


async def test_one_that_is_not_there_denies_and_its_name_and_token_are_in_no_answer(asked):
    policy, _, _ = await asked(url="http://127.0.0.1:1/decide?key=S3CRET", token="S3CRET")
    assert not (await policy.judge(FACTS, Purpose.OPEN)).allowed
    assert "127.0.0.1" in policy.trouble
    assert "S3CRET" not in policy.trouble
