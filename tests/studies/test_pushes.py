"""Studies that a PACS sends unasked (``dicom.accept_pushes``): what was acknowledged is given at once, whether or not a
PACS lists it yet.
"""

from __future__ import annotations

import asyncio
import shutil

import pytest

from gateway.demo.sample import sample_study
from gateway.objects import ObjectStore
from gateway.studies.outcome import NotFound, Unconfirmed, Unreachable
from tests.conftest import data_set, describe

STUDY, SAMPLE = sample_study()
FILES = [i.content for i in SAMPLE]
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}
PUSHES = {"dicom": {"accept_pushes": True}}
WERE_SENT = f"{len(SAMPLE)} instances were sent to the gateway so far and can be given; "
AGAIN = ", so there may be more: ask again later"


async def pushed(pacs, gateway, files=FILES):
    assert await asyncio.to_thread(pacs.push, gateway.parts.scp.port, files) == {0x0000}


async def gives(gateway, answer, held=HELD):
    assert answer["authorized"] is True
    assert sorted(await gateway.data_sets(answer)) == sorted(held.values())


def unqueryable(simulator):
    """The same PACS, at a port where it answers no query."""
    return describe(simulator) | {"port": 1}


@pytest.fixture
def held_puts(monkeypatch):
    """Objects reach the store once this is set."""
    let, put = asyncio.Event(), ObjectStore.put

    async def waits(self, key, *args, **options):
        if "/instances/" in key:
            await let.wait()
        return await put(self, key, *args, **options)

    monkeypatch.setattr(ObjectStore, "put", waits)
    yield let
    let.set()


async def test_a_push_that_nobody_asked_for_is_refused(simulator, start):
    gateway = await start(simulator)
    assert await asyncio.to_thread(simulator.push, gateway.parts.scp.port, FILES[:3]) == {0x0124}
    assert [o async for o in gateway.parts.store.list("studies/")] == []


async def test_a_push_that_is_allowed_is_compared_with_the_pacs_and_cached(simulator, start, monkeypatch):
    monkeypatch.setattr("gateway.studies.pushes.PUSH_QUIET", 0.2)
    simulator.add(*FILES)
    gateway = await start(simulator, **PUSHES)
    await pushed(simulator, gateway, FILES[:20])
    await gateway.quiet()
    assert "MOVE STUDY" not in simulator.requests  # what was pushed is not fetched a second time
    index = await gateway.parts.cache.index(STUDY)
    assert index.complete
    assert set(index.instances) == set(HELD)


async def test_what_a_pacs_sent_that_cannot_be_queried_is_given_at_once(simulator, start):
    gateway = await start(unqueryable(simulator), **PUSHES)
    await pushed(simulator, gateway)
    answer = await gateway.ask(STUDY)
    assert answer["error"] == f"{WERE_SENT}the hospital's PACS cannot be asked now{AGAIN}"
    await gives(gateway, answer)
    await gateway.quiet()
    await gives(gateway, await gateway.ask(STUDY))


async def test_what_is_acknowledged_and_not_yet_stored_has_its_url_too(simulator, start, held_puts):
    gateway = await start(unqueryable(simulator), **PUSHES)
    await pushed(simulator, gateway)
    answer = await gateway.ask(STUDY)
    assert sum("/deferred/" in url for url in answer["urls"]) == len(SAMPLE)
    assert answer["error"] == f"{WERE_SENT}the hospital's PACS has not answered yet{AGAIN}"
    opening = asyncio.create_task(gives(gateway, answer))
    held_puts.set()
    await opening
    await gateway.quiet()
    again = await gateway.ask(STUDY)
    assert not any("/deferred/" in url for url in again["urls"])
    await gives(gateway, again)


async def test_a_silent_pacs_keeps_nobody_from_what_it_sent(simulator, start):
    simulator.behaviour.silent = True
    gateway = await start(simulator, **PUSHES)
    await pushed(simulator, gateway)
    answer = await gateway.ask(STUDY)
    assert answer["error"] == f"{WERE_SENT}the hospital's PACS has not answered yet{AGAIN}"
    await gives(gateway, answer)
    simulator.behaviour.silent = False


async def test_a_push_ahead_of_the_pacss_own_list_opens_and_says_so_until_it_is_listed(simulator, start):
    gateway = await start(simulator, **PUSHES)
    await pushed(simulator, gateway)
    for _ in range(2):
        answer = await gateway.ask(STUDY)
        assert answer["error"] == f"{WERE_SENT}no PACS of this hospital lists the study yet{AGAIN}"
        await gives(gateway, answer)
        await gateway.quiet()
    simulator.add(*FILES)
    answer = await gateway.ask(STUDY)
    assert "error" not in answer
    await gives(gateway, answer)


@pytest.mark.parametrize("began", ["with nothing held", "with what is listed held"])
async def test_what_is_sent_ahead_of_the_list_of_a_listed_study_opens_and_says_so_until_it_is_listed(
    simulator, start, began
):
    simulator.add(*FILES[:20])
    gateway = await start(simulator, cache={"revalidate_after": "0s"}, **PUSHES)
    if began == "with what is listed held":
        assert "error" not in await gateway.ask(STUDY)
        await gateway.quiet()
    await pushed(simulator, gateway, FILES)
    for _ in range(2):
        answer = await gateway.ask(STUDY)
        sent = "13 instances were sent to the gateway so far and can be given"
        assert answer["error"] == f"{sent}; the hospital's PACS does not list them yet{AGAIN}"
        await gives(gateway, answer)
        await gateway.quiet()
    simulator.add(*FILES)
    answer = await gateway.ask(STUDY)
    assert "error" not in answer
    await gives(gateway, answer)


async def test_what_comes_after_an_answer_is_in_the_next_one(simulator, start):
    gateway = await start(simulator, **PUSHES)
    await pushed(simulator, gateway, FILES[:12])
    assert len((await gateway.ask(STUDY))["urls"]) == 12
    await pushed(simulator, gateway, FILES[12:])
    await gives(gateway, await gateway.ask(STUDY))


async def test_a_study_that_is_asked_for_in_the_middle_of_a_push_loses_nothing(simulator, start):
    gateway = await start(simulator, **PUSHES)
    pushing = asyncio.create_task(pushed(simulator, gateway))
    while not pushing.done():
        flight = gateway.parts.fetcher.flight(STUDY)
        if flight is not None and flight.acknowledged:
            assert (await gateway.ask(STUDY))["urls"]
        await asyncio.sleep(0.01)
    await pushing
    await gives(gateway, await gateway.ask(STUDY))


@pytest.mark.parametrize("listed", ["elsewhere", "not yet"])
async def test_an_unasked_study_ends_with_what_it_rests_on(simulator, start, monkeypatch, listed):
    monkeypatch.setattr("gateway.studies.pushes.PUSH_QUIET", 0.2)
    gateway = await start(simulator if listed == "not yet" else unqueryable(simulator), **PUSHES)
    await pushed(simulator, gateway)
    ended = await gateway.parts.fetcher.flight(STUDY).ended(30)
    assert isinstance(ended, Unconfirmed)
    assert isinstance(ended.cause, NotFound if listed == "not yet" else Unreachable)
    assert set(ended.index.instances) == set(HELD)


async def test_an_instance_whose_association_ended_while_it_waited_may_come_again(simulator, start, monkeypatch):
    """It was not acknowledged, so it must not be taken for one that came before."""
    gateway = await start(simulator, **PUSHES)
    intake, waits = gateway.parts.intake, asyncio.Event()

    async def ends(size, owner):
        waits.set()
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(intake._puts._room, "take", ends)
        sending = asyncio.create_task(asyncio.to_thread(simulator.push, gateway.parts.scp.port, FILES[:1]))
        await waits.wait()
        await asyncio.gather(sending, return_exceptions=True)
    await pushed(simulator, gateway, FILES[:1])
    await gives(gateway, await gateway.ask(STUDY), {SAMPLE[0].sop_instance_uid: HELD[SAMPLE[0].sop_instance_uid]})


async def test_dcmtk_pushes_and_everything_opens(simulator, start, tmp_path):
    storescu = shutil.which("storescu")
    if storescu is None:
        pytest.skip("DCMTK's storescu is not installed")
    (sent := tmp_path / "sent").mkdir()
    # Proposed with RLE Lossless, which is not among the rest; one in implicit VR would be sent in explicit.
    plain = [i for i in SAMPLE if b"1.2.840.10008.1.2\0" not in i.content[:400]]
    for n, instance in enumerate(plain):
        (sent / f"{n}.dcm").write_bytes(instance.content)
    gateway = await start(unqueryable(simulator), **PUSHES)
    process = await asyncio.create_subprocess_exec(
        storescu, "-aet", simulator.ae_title, "-aec", "AVARAGW", "+sd", "-xr",
        "127.0.0.1", str(gateway.parts.scp.port), str(sent),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said
    answer = await gateway.ask(STUDY)
    await gives(gateway, answer, {i.sop_instance_uid: HELD[i.sop_instance_uid] for i in plain})
    assert len(plain) > 30
