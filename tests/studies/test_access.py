"""Study access end to end: a signed webhook in, URLs out, against a real Orthanc and a real S3 store; and
against the worst PACS in town (tests/rig).

Left out here: what a PACS does wrong (test_misbehaviour.py), answers before the last instance (test_deferred.py),
eviction (test_cache.py), browsers (tests/browser).
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.demo.sample import sample_study, small_pdf
from gateway.journal.facts import study_of
from gateway.studies import keys
from tests.conftest import data_set
from tests.rig.simulator import PacsSimulator, worst

NEEDS_MANIFEST = {
    "test_manifest_and_urls_are_in_reading_order",
    "test_a_second_request_is_answered_from_the_cache",
    "test_late_series_are_fetched_and_nothing_else_again",
}
"""An instance whose file has another SOP Instance UID than the PACS lists is in no manifest: no viewer finds it so."""


@pytest.fixture(params=["orthanc", "worst"])
def pacs(request):
    """A PACS as one would have it, and one that has every habit that a study can still be opened in spite of."""
    if request.param == "orthanc":
        return request.getfixturevalue("orthanc")
    simulator = request.getfixturevalue("simulator")
    simulator.behaviour = worst()
    if request.function.__name__ in NEEDS_MANIFEST:
        simulator.behaviour.coerced_uids = False
    return simulator


async def fill(pacs, *files):
    if isinstance(pacs, PacsSimulator):
        pacs.add(*files)
    else:
        await pacs.add(*files)


async def held_by(pacs, study):
    return pacs.instances(study) if isinstance(pacs, PacsSimulator) else await pacs.instances(study)


async def empty(pacs):
    if isinstance(pacs, PacsSimulator):
        pacs.clear()
    else:
        await pacs.clear()


def once(pacs, received):
    """What was received, but for what the worst PACS sends twice."""
    return set(received) if isinstance(pacs, PacsSimulator) else received


async def test_every_instance_comes_back_byte_for_byte(pacs, start):
    study, sample = sample_study()
    await fill(pacs, *(i.content for i in sample))
    gateway = await start(pacs)
    answer = await gateway.ask(study)
    assert answer["authorized"] is True
    assert "error" not in answer
    held = await held_by(pacs, study)
    assert sorted(await gateway.data_sets(answer)) == sorted(map(data_set, held.values()))
    assert len(answer["urls"]) == len(sample)


async def test_a_document_is_unpacked_beside_its_dicom_object(pacs, start):
    study, sample = sample_study()
    await fill(pacs, *(i.content for i in sample))
    gateway = await start(pacs)
    answer = await gateway.ask(study)
    [media] = answer["mediaUrls"]
    assert media["mimeType"] == "application/pdf"
    assert media["fileName"] == "doc-series-5-instance-1.pdf"
    assert await gateway.open(media["url"]) == small_pdf("Demonstration report")


async def test_manifest_and_urls_are_in_reading_order(pacs, start):
    study, sample = sample_study()
    await fill(pacs, *(i.content for i in reversed(sample)))
    gateway = await start(pacs)
    answer = await gateway.ask(study)
    manifest = answer["manifest"]
    assert manifest["studyInstanceUID"] == study
    assert [s["modality"] for s in manifest["series"]] == ["CT", "MR", "US", "KO", "DOC"]
    ct = manifest["series"][0]
    assert [s["instanceNumber"] for s in ct["sops"]] == list(range(1, 21))
    in_manifest = [sop["sopInstanceUID"] for s in manifest["series"] for sop in s["sops"]]
    in_urls = [url.split("?")[0].rsplit("/", 1)[1].removesuffix(".dcm") for url in answer["urls"]]
    assert in_manifest == in_urls


async def test_a_second_request_is_answered_from_the_cache(pacs, start):
    study, sample = sample_study()
    await fill(pacs, *(i.content for i in sample))
    gateway = await start(pacs)
    first = await gateway.ask(study)
    await empty(pacs)  # within revalidate_after nobody asks the PACS
    second = await gateway.ask(study)
    assert len(second["urls"]) == len(first["urls"])
    assert second["manifest"] == first["manifest"]


async def test_late_series_are_fetched_and_nothing_else_again(pacs, start):
    study, sample = sample_study()
    await fill(pacs, *(i.content for i in sample[:20]))
    gateway = await start(pacs, cache={"revalidate_after": "0s"})
    assert len((await gateway.ask(study))["urls"]) == 20
    first = await gateway.parts.store.head(keys.instance(study, sample[0].sop_instance_uid))
    received = []
    handler = gateway.parts.scp._services.handler

    async def watch(instance):
        received.append(instance.sop_instance_uid)
        return await handler(instance)

    gateway.parts.scp._services.handler = watch
    await fill(pacs, *(i.content for i in sample[20:]))
    answer = await gateway.ask(study)
    assert len(answer["urls"]) == len(sample)
    await gateway.quiet()  # on a busy machine the answer leaves before the last of them
    assert set(received) == {i.sop_instance_uid for i in sample[20:]}
    assert await gateway.parts.store.head(keys.instance(study, sample[0].sop_instance_uid)) == first


async def test_many_requests_at_once_are_one_fetch(pacs, start):
    study, sample = sample_study()
    await fill(pacs, *(i.content for i in sample))
    gateway = await start(pacs)
    received = []
    handler = gateway.parts.scp._services.handler

    async def watch(instance):
        received.append(instance.sop_instance_uid)
        return await handler(instance)

    gateway.parts.scp._services.handler = watch
    answers = await asyncio.gather(*(gateway.ask(study) for _ in range(8)))
    assert {len(a["urls"]) for a in answers} == {len(sample)}
    assert len(once(pacs, received)) == len(sample)


async def test_a_study_in_no_pacs_is_refused(pacs, start):
    gateway = await start(pacs)
    answer = await gateway.ask("1.2.3.4.5")
    assert answer == {
        "authorized": False,
        "urls": [],
        "error": "the study is not in any PACS of this hospital",
    }


async def test_the_second_pacs_serves_what_the_first_has_not(orthanc, simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    gateway = await start(orthanc, simulator)
    assert len((await gateway.ask(study))["urls"]) == len(sample)


@pytest.mark.worst_but_for("both send the same bytes", coerced_uids=False)
async def test_an_instance_is_the_same_file_whichever_pacs_it_came_from(orthanc, simulator, start):
    """Their AE titles are of different lengths. What a crash leaves of a second fetch is what the index names."""
    study, sample = sample_study()
    content = sample[0].content
    await orthanc.add(content)
    gateway = await start(orthanc, simulator)
    [url] = (await gateway.ask(study))["urls"]
    first = await gateway.open(url)
    await orthanc.clear()
    simulator.add(content)
    await gateway.parts.cache.drop(study)
    [url] = (await gateway.ask(study))["urls"]
    assert await gateway.open(url) == first


async def test_a_pacs_that_is_down_does_not_hide_the_next_one(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    down = {"name": "down", "ae_title": "DOWN", "host": "127.0.0.1", "port": 1}
    gateway = await start(down, simulator)
    assert len((await gateway.ask(study))["urls"]) == len(sample)


async def test_an_unreachable_pacs_is_no_refusal(start):
    down = {"name": "down", "ae_title": "DOWN", "host": "127.0.0.1", "port": 1}
    gateway = await start(down)
    answer = await gateway.ask("1.2.3.4.5")
    assert answer["urls"] == []
    assert answer["error"] == "the hospital's PACS cannot be reached now; ask again later"
    assert "127.0.0.1" not in answer["error"]


async def test_a_cached_study_is_served_while_its_pacs_is_down(simulator, start):
    study, sample = sample_study()
    simulator.add(*(i.content for i in sample))
    gateway = await start(simulator, cache={"revalidate_after": "0s"})
    await gateway.ask(study)
    simulator.stop()
    answer = await gateway.ask(study)
    assert len(answer["urls"]) == len(sample)
    assert "error" not in answer


async def test_the_studys_two_names_are_remembered(pacs, start):
    gateway = await start(pacs)
    await gateway.ask("1.2.3.4.5", "stu_0123")
    assert await gateway.parts.journal.run(lambda c: study_of(c, "stu_0123")) == "1.2.3.4.5"


async def test_no_answer_leaves_before_the_journal_has_noted_it_and_a_cached_one_is_noted_once(simulator, start):
    study, instances = sample_study()
    simulator.add(*(i.content for i in instances))
    gateway = await start(simulator)
    journal, noted, may_note = gateway.parts.journal, [], asyncio.Event()
    note = journal.access

    async def access(*args, **times):
        await may_note.wait()
        await note(*args, **times)
        noted.append(args)

    journal.access = access
    for notes in (2, 1):  # a study that comes only now is in no ledger before
        noted.clear()
        may_note.clear()
        answer = asyncio.create_task(gateway.ask(study))
        await asyncio.sleep(0.5)
        assert not answer.done()
        may_note.set()
        assert len((await answer)["urls"]) == len(instances)
        assert len(noted) == notes
    (ledger,) = await journal.cached_studies()
    assert ledger.urls_valid_until > journal.clock.now()
