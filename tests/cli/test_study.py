"""``avara-gateway study``: as a program, beside a running gateway and without one."""

from __future__ import annotations

import io
import json

import pytest
from pydicom import dcmread

from gateway.demo.sample import sample_study
from gateway.journal.events import find
from gateway.studies import keys
from tests.cli.test_commands import run, write  # noqa: F401  (a fixture)
from tests.studies.test_truth import changed, shown, status


@pytest.fixture
async def opened(simulator, start, tmp_path):
    """A gateway that has a study of three, the configuration it runs with, its first answer."""
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample[:3]))
    gateway = await start(simulator)
    answer = await gateway.ask(study)
    [path] = tmp_path.glob("gateway-*.yaml")
    return gateway, path, study, sample, answer


async def events(gateway, study):
    await gateway.parts.events.flush()
    return [(e.kind.value, e.text) for e in await gateway.parts.journal.run(lambda c: find(c, [f"study:{study}"], 20))]


async def test_a_study_is_shown_without_its_patient(opened):
    _, path, study, sample, _ = opened
    code, out, error = await run("study", "show", "-c", path, study)
    assert code == 0, error
    assert "3 instances, 3 shown" in out
    code, out, _ = await run("study", "show", "-c", path, study, "--json")
    told = json.loads(out)
    assert (told["complete"], told["pacs"], told["rejected"]) == (True, "simulator", [])
    patient = dcmread(io.BytesIO(sample[0].content))
    assert not any(str(value) in out for value in (patient.PatientName, patient.PatientID, patient.AccessionNumber))


async def test_a_dropped_study_is_gone_with_its_urls_and_who_did_it_is_kept(opened):
    gateway, path, study, _, answer = opened
    code, _, error = await run("study", "drop", "-c", path, study, "--why", "wrong patient")
    assert code == 0, error
    assert [o async for o in gateway.parts.store.list(keys.study(study))] == []
    assert {await status(gateway, url) for url in answer["urls"]} <= {403, 404}
    assert any(kind == "operator" and "wrong patient" in text for kind, text in await events(gateway, study))
    assert (await run("study", "show", "-c", path, study))[0] == 1
    assert (await run("study", "drop", "-c", path, study))[0] == 1
    assert len((await gateway.ask(study))["urls"]) == 3


async def test_a_refetched_study_is_what_the_pacs_has_now(opened, simulator):
    gateway, path, study, sample, answer = opened
    simulator.add(changed(sample[0].content, ImageComments="only the pixels and this differ"))
    code, out, error = await run("study", "refetch", "-c", path, study, "--why", "pixels replaced")
    assert code == 0, error
    assert "complete: 3 instances" in out
    after = await gateway.ask(study)
    assert shown(after) == shown(answer)
    contents = [await gateway.open(url) for url in after["urls"]]
    assert sum(b"only the pixels and this differ" in content for content in contents) == 1
    assert {await status(gateway, url) for url in answer["urls"]} <= {403, 404}
    assert any(kind == "operator" and "pixels replaced" in text for kind, text in await events(gateway, study))


async def test_a_refetch_that_does_not_bring_all_leaves_what_there_was(opened, simulator):
    gateway, path, study, sample, answer = opened
    simulator.behaviour.drop = {sample[1].sop_instance_uid}
    code, _, _ = await run("study", "refetch", "-c", path, study)
    assert code == 1
    assert shown(await gateway.ask(study)) == shown(answer)
    assert {await status(gateway, url) for url in answer["urls"]} == {200}
    index = await gateway.parts.cache.index(study)
    there = {o.key async for o in gateway.parts.store.list(keys.study(study))}
    assert there == index.object_keys() | {keys.index(study)}  # nothing of the attempt is left


async def test_misuse_is_told(opened):
    _, path, _, _, _ = opened
    assert (await run("study", "show", "-c", path, "1.2.*"))[0] == 2
    assert (await run("study", "show", "-c", path, "1.2.3.4"))[0] == 1


@pytest.mark.slow
async def test_without_a_running_gateway(write):  # noqa: F811
    path, _ = write({"name": "main", "ae_title": "NOBODY", "host": "127.0.0.1", "port": 1})
    code, out, error = await run("study", "show", "-c", path, "1.2.3.4")
    assert (code, out.strip()) == (1, "the study is not in the cache"), error
