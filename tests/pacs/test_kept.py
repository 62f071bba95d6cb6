"""Associations that are kept from one instance to the next: against a PACS that is scripted, and lanes by themselves.

How fast it makes captures and reports is for ``make bench``.
"""

from __future__ import annotations

import asyncio

import pytest

from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.scu import kept
from gateway.pacs.scu.store import OutgoingInstance, store
from gateway.pacs.upper import dimse

from .test_client import EXPLICIT, playing

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


class Held:
    """A data set in memory."""

    size, spooled = 4, False

    def read(self, at, length):
        return b"\0\0\0\0"[at : at + length]

    def close(self):
        pass


async def stored(client, uid, sop_class=CT):
    async def transcode(_):
        raise AssertionError

    return await store(client, OutgoingInstance(sop_class, uid, EXPLICIT, Held()), transcode)


def taking(*uids, then="released", answers=None):
    """A script that stores these, in this order, and then ends so."""

    async def script(pacs):
        for uid in uids:
            command, _ = await pacs.request()
            assert command[dimse.AFFECTED_SOP_INSTANCE_UID] == uid
            if answers is not None:
                pacs.last = pacs.last | {dimse.MESSAGE_ID: answers}
            await pacs.respond(0x0000)
        if then == "released":
            await pacs.released()
        elif then == "release":
            pacs.writer.write(bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
            await pacs.writer.drain()
            await pacs.reader.read()
        elif then == "lost":
            await pacs.request()  # and not answered

    return script


async def test_instances_that_follow_each_other_go_by_one_association():
    async with playing(taking("1.1", "1.2", "1.3")) as client:
        for uid in ("1.1", "1.2", "1.3"):
            await stored(client, uid)
        await client.close()


async def test_an_association_that_is_not_used_again_is_soon_released(monkeypatch):
    monkeypatch.setattr(kept, "KEEP_FOR", 0.05)
    async with playing(taking("1.1")) as client:
        await stored(client, "1.1")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["closed", "release", "lost"])
async def test_one_that_the_pacs_ends_meanwhile_costs_a_new_association_and_no_instance(end):
    async with playing(taking("1.1", then=end), taking("1.2")) as client:
        await stored(client, "1.1")
        if end != "lost":
            await asyncio.sleep(0.1)
        await stored(client, "1.2")
        await client.close()


async def test_a_second_answer_to_the_instance_before_is_not_taken_for_this_ones():
    async with playing(taking("1.1", "1.2", then="closed", answers=1), taking("1.2")) as client:
        await stored(client, "1.1")
        await stored(client, "1.2")
        await client.close()


async def test_other_contexts_get_an_association_of_their_own():
    async with playing(taking("1.1"), taking("1.2")) as client:
        await stored(client, "1.1", CT)
        await stored(client, "1.2", MR)
        await client.close()


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_what_is_kept_keeps_nobody_from_a_turn(turns, monkeypatch):
    monkeypatch.setattr(kept, "KEEP_FOR", 1000.0)
    async with playing(*[taking(f"1.{n}") for n in range(turns)]) as client:
        lanes = client._lanes = kept.Lanes(turns)
        client._kept = kept.KeptAssociations(lanes)
        for n in range(turns):
            await stored(client, f"1.{n}", f"1.2.3.{n}")
        async with asyncio.timeout(5):
            for lane in Lane:
                async with lanes.turn(Claim(lane)):
                    pass
        await client.close()


async def test_an_association_is_not_kept_from_those_who_wait():
    async with playing(taking("1.1")) as client:
        lanes = client._lanes = kept.Lanes(1)
        client._kept = kept.KeptAssociations(lanes)

        async def query():
            async with lanes.turn(Claim(Lane.QUERY)):
                pass

        storing = asyncio.create_task(stored(client, "1.1"))
        await asyncio.sleep(0)
        async with asyncio.timeout(0.4):  # before what is kept would be given back by itself
            await asyncio.gather(storing, query())


def with_one_turn(client):
    lanes = client._lanes = kept.Lanes(1)
    client._kept = kept.KeptAssociations(lanes)
    return lanes


async def test_who_waits_for_such_an_association_is_handed_it_with_the_turn():
    async with playing(taking("1.1", "1.2", "1.3")) as client:
        with_one_turn(client)
        storing = [asyncio.create_task(stored(client, uid)) for uid in ("1.1", "1.2", "1.3")]
        await asyncio.gather(*storing)
        await client.close()


async def test_who_goes_first_gets_the_turn_and_not_who_wants_the_association():
    async with playing(taking("1.1"), taking("1.2")) as client:
        lanes, order = with_one_turn(client), []

        async def query():
            async with lanes.turn(Claim(Lane.QUERY)):
                order.append("query")

        async def second():
            await stored(client, "1.2")
            order.append("second")

        first = asyncio.create_task(stored(client, "1.1"))
        await asyncio.sleep(0)
        await asyncio.gather(first, second(), query())
        assert order == ["query", "second"]
        await client.close()


async def test_one_that_is_handed_over_and_that_the_pacs_has_ended_costs_no_instance():
    async with playing(taking("1.1", then="lost"), taking("1.2")) as client:
        with_one_turn(client)
        await asyncio.gather(*[asyncio.create_task(stored(client, uid)) for uid in ("1.1", "1.2")])
        await client.close()


async def test_who_gives_up_while_being_handed_one_leaves_none_behind():
    async with playing(taking("1.1", then="closed")) as client:
        lanes = with_one_turn(client)
        giving_up = None

        async def first():
            await stored(client, "1.1")
            giving_up.cancel()  # the turn and the association are its own by now

        storing = asyncio.create_task(first())
        await asyncio.sleep(0)
        giving_up = asyncio.create_task(stored(client, "1.2"))
        await asyncio.gather(storing, giving_up, return_exceptions=True)
        assert giving_up.cancelled()
        async with asyncio.timeout(5), lanes.turn(Claim(Lane.QUERY)):
            pass
