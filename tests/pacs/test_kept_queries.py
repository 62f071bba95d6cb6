"""Questions that nobody waits for go by an association that is kept, and an answer to another one is not believed."""

from __future__ import annotations

import asyncio

import pytest

from gateway.pacs.lanes import background
from gateway.pacs.upper import dimse

from .test_client import playing

STUDY, SERIES, OTHER = "1.2.3", "1.2.3.4", "1.2.9"
STUDY_UID, INSTANCE_UID = 0x0020000D, 0x00080018


async def held(client, uid):
    return await client.holds(STUDY, SERIES, uid)


def answering(*answers, then="released", answers_to=None):
    """A script that answers so many questions: by what it has of each, or nothing; and then ends so."""

    async def script(pacs):
        for found in answers:
            await pacs.request()
            if answers_to is not None:
                pacs.last = pacs.last | {dimse.MESSAGE_ID: answers_to}
            if found is not None:
                await pacs.respond(0xFF00, found)
            await pacs.respond(0x0000)
        if then == "released":
            await pacs.released()
        elif then == "lost":
            await pacs.request()  # and not answered

    return script


def instance(uid):
    return {STUDY_UID: STUDY, INSTANCE_UID: uid}


async def test_questions_that_follow_each_other_go_by_one_association():
    async with playing(answering(instance("1.1"), None, {STUDY_UID: STUDY})) as client:
        assert await held(client, "1.1")
        assert not await held(client, "1.2")
        assert (await client.find_study(STUDY, urgency=background)).study_instance_uid == STUDY
        await client.close()


async def test_who_waits_for_an_answer_asks_on_an_association_of_its_own():
    async with playing(answering(None), answering({STUDY_UID: STUDY})) as client:
        assert not await held(client, "1.1")
        assert (await client.find_study(STUDY)).study_instance_uid == STUDY
        await client.close()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["closed", "lost"])
async def test_an_association_that_the_pacs_has_ended_meanwhile_costs_a_new_one_and_no_answer(end):
    async with playing(answering(instance("1.1"), then=end), answering(instance("1.2"))) as client:
        assert await held(client, "1.1")
        if end == "closed":
            await asyncio.sleep(0.1)
        assert await held(client, "1.2")
        await client.close()


async def test_a_second_answer_to_the_question_before_is_not_taken_for_this_ones():
    async def script(pacs):
        await pacs.request()
        await pacs.respond(0x0000)
        first = pacs.last
        await pacs.request()
        pacs.last = first  # to which it says once more that it has nothing
        await pacs.respond(0x0000)

    async with playing(script, answering(instance("1.2"))) as client:
        assert not await held(client, "1.1")
        assert await held(client, "1.2")
        await client.close()


async def test_a_pacs_that_does_not_say_what_it_answers_is_asked_by_an_association_for_each_question():
    scripts = [answering(instance("1.1"), then="closed", answers_to=77)]
    scripts += [answering(instance(f"1.{n}"), answers_to=77) for n in (1, 2, 3)]
    async with playing(*scripts) as client:
        for n in (1, 2, 3):
            assert await held(client, f"1.{n}")
        await client.close()
