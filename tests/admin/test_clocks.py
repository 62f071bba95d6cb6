"""Our clock against that of others, by what they answer."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.admin.clocks import compared
from gateway.web import Outbound
from tests.rig.ports import free_port


@pytest.fixture
async def peer():
    """Somebody whose clock is so many seconds off: ``peer.off``."""

    async def answer(request):
        return web.Response(status=403, headers={"Date": formatdate(time.time() + server.off, usegmt=True)})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(application, host="127.0.0.1")
    server.off = 0
    await server.start_server()
    yield server
    await server.close()


@pytest.mark.parametrize("seconds", [-600, 600])
async def test_a_clock_that_is_off_is_told_with_its_peer_and_by_how_much(peer, seconds):
    peer.off = seconds
    [found] = await compared({"the store": f"http://127.0.0.1:{peer.port}"}, Outbound())
    assert (found.name, found.ok) == ("clock against the store", False)
    assert f"it is {'+' if seconds > 0 else '-'}" in found.text
    assert "set both by NTP" in found.text


async def test_clocks_that_agree_are_told_in_a_line_and_who_is_silent_is_left_out(peer):
    peers = {"the store": f"http://127.0.0.1:{peer.port}", "PACS main": f"http://127.0.0.1:{free_port()}"}
    [found] = await compared(peers, Outbound())
    assert found.ok is True
    assert found.text.startswith("the store: ")
