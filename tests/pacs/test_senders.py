"""Which addresses a PACS may send from."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network

import pytest

from gateway.pacs.certificate_names import names_of
from gateway.pacs.senders import KnownSender, Senders, is_local

TITLES = frozenset(("MAIN",))


def resolving(monkeypatch, **hosts):
    async def getaddrinfo(self, host, port, **_):
        if host not in hosts:
            raise socket.gaierror("Name or service not known")
        return [(None, None, None, "", (address, 0)) for address in hosts[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return hosts


async def test_a_pacs_sends_from_where_its_host_is_and_moves_with_it(monkeypatch):
    hosts = resolving(monkeypatch, pacs=["192.0.2.1", "2001:db8::1"])
    senders = Senders([KnownSender("main", TITLES, "pacs")])
    assert not senders.allows("MAIN", "192.0.2.1")  # nothing is known yet
    await senders.look_up()
    for address in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"):
        assert senders.allows("MAIN", address)
    for title, address in (("OTHER", "192.0.2.1"), ("MAIN", "192.0.2.2"), ("MAIN", "127.0.0.1"), ("MAIN", "nonsense")):
        assert not senders.allows(title, address)
    hosts["pacs"] = ["192.0.2.9"]
    await senders.look_up()
    assert senders.allows("MAIN", "192.0.2.9")
    assert not senders.allows("MAIN", "192.0.2.1")
    del hosts["pacs"]
    await senders.look_up()
    assert senders.allows("MAIN", "192.0.2.9"), "a name server that is down moves no PACS"


async def test_an_address_that_has_changed_is_found_soon_after_it_was_rejected(monkeypatch):
    monkeypatch.setattr("gateway.pacs.senders.LOOKED_UP_AT_MOST_EVERY", 0.01)
    hosts = resolving(monkeypatch, pacs=["192.0.2.1"])
    senders = Senders([KnownSender("main", TITLES, "pacs")])
    await senders.look_up()
    looking = asyncio.create_task(senders.keep_looking_up())
    hosts["pacs"] = ["192.0.2.9"]
    try:
        async with asyncio.timeout(10):
            while not senders.allows("MAIN", "192.0.2.9"):
                await asyncio.sleep(0.01)
    finally:
        looking.cancel()


async def test_addresses_that_are_configured_are_all_that_counts(monkeypatch):
    resolving(monkeypatch, pacs=["192.0.2.1"])
    senders = Senders([KnownSender("main", TITLES, "pacs", (ip_network("198.51.100.0/28"),))])
    await senders.look_up()
    assert senders.allows("MAIN", "198.51.100.3")
    assert not senders.allows("MAIN", "192.0.2.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_pacs_on_this_machine_calls_from_its_usual_loopback_addresses_only(monkeypatch, host):
    resolving(monkeypatch, **{host: [host]})
    senders = Senders([KnownSender("main", TITLES, host)])
    await senders.look_up()
    assert senders.allows("MAIN", "127.0.0.1")
    assert senders.allows("MAIN", "::1")
    assert not senders.allows("MAIN", "127.0.0.66")
    assert not senders.allows("MAIN", "192.0.2.1")


async def test_what_is_remembered_of_those_rejected_is_bounded():
    senders = Senders([KnownSender("main", TITLES, "pacs")])
    for n in range(300):
        senders.allows("MAIN", f"192.0.2.{n}")
    assert len(senders.rejected()) == 100
    assert senders.rejected()[0].host == "192.0.2.299"
    assert senders.rejections == 300


def test_our_own_address_is_local_and_others_are_not():
    assert is_local("127.0.0.5", "127.0.0.1")
    assert is_local("192.0.2.1", "192.0.2.1")
    assert is_local("::ffff:127.0.0.1", "::")
    assert not is_local("192.0.2.2", "192.0.2.1")


def test_what_a_certificate_names():
    certificate = {
        "subject": ((("organizationName", "Hospital"),), (("commonName", "MAIN"),)),
        "subjectAltName": (("DNS", "pacs.example.org"), ("IP Address", "192.0.2.1"), ("email", "a@b")),
    }
    assert names_of(certificate) == {"MAIN", "pacs.example.org", "192.0.2.1"}
    assert names_of({}) == frozenset()
