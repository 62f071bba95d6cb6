"""The instance that a check retrieves: it proves the way, whoever else checks or fetches at the same time."""

from __future__ import annotations

import asyncio

from gateway.admin.probe import RetrieveProbe
from gateway.pacs.receiver import IncomingInstance, Status


class Body:
    size = 1
    spooled = False
    closed = False

    def close(self):
        self.closed = True


def instance(uid="1.2.3"):
    return IncomingInstance("1.2.840.10008.5.1.4.1.1.2", uid, "1.2.840.10008.1.2", "PACS", "GATEWAY", "", Body())


async def refuse(incoming):
    incoming.body.close()
    return Status.NOT_AUTHORIZED


async def test_two_checks_at_once_have_an_instance_each():
    probe, sent = RetrieveProbe(), []
    receive = probe.before(refuse)

    async def sends():
        await asyncio.sleep(0.01)
        sent.append(await receive(instance()))

    async def sends_nothing():
        await asyncio.sleep(0.01)

    ways = [sends, sends_nothing, sends]
    assert await asyncio.gather(*(probe.arrives("1", "1.2.3", way) for way in ways)) == [True, False, True]
    assert sent == [Status.SUCCESS] * 2
    assert await receive(instance()) == Status.NOT_AUTHORIZED  # nobody checks any more


async def test_a_check_that_fails_leaves_the_next_one_its_turn():
    probe = RetrieveProbe()

    async def fails():
        raise ConnectionError

    async def sends():
        await probe.before(refuse)(instance())

    failed, arrived = await asyncio.gather(
        probe.arrives("1", "1.2.3", fails), probe.arrives("1", "1.2.3", sends), return_exceptions=True
    )
    assert isinstance(failed, ConnectionError)
    assert arrived is True


async def test_an_instance_that_a_fetch_waits_for_too_reaches_its_intake():
    taken = []

    async def intake(incoming):
        taken.append(incoming)
        return Status.SUCCESS

    probe = RetrieveProbe(lambda study: study == "fetched")

    async def sends():
        await probe.before(intake)(instance())

    assert await probe.arrives("not fetched", "1.2.3", sends)
    assert taken == []
    assert await probe.arrives("fetched", "1.2.3", sends)
    assert not taken[0].body.closed
