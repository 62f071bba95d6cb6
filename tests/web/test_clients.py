"""Who asks: only trusted proxies speak for others."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.clients import Clients, household

CLIENTS = Clients([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/24")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # a stranger who claims to speak for another
        ("127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # the left one is only claimed
        ("127.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["198.51.100.7, 10.0.0.3"], "198.51.100.7"),  # a chain of two
        ("127.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7, unknown"], "127.0.0.1"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_the_last_address_that_a_trusted_proxy_vouches_for_counts(peer, forwarded, expected):
    assert CLIENTS.address(peer, forwarded) == expected


@given(st.lists(st.text(max_size=200), max_size=5))
def test_no_header_makes_it_crash(forwarded):
    assert CLIENTS.address("127.0.0.1", forwarded)


def test_an_ipv6_subscriber_is_one_client():
    assert household("2001:db8::1") == household("2001:db8::ffff:1") != household("2001:db8:0:1::1")
    assert household("192.0.2.1") != household("192.0.2.2")
