"""sd_notify(3), by a socket such as systemd's: what is told and when, and that nothing waits for who listens."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket

import pytest

from gateway.runtime.systemd import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    """The socket, and what the environment says of it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@avara-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.settimeout(5)
        yield listening, {"NOTIFY_SOCKET": address}


def test_ready_status_and_stopping_are_told(systemd):
    listening, environment = systemd
    manager = ServiceManager(environment)
    manager.ready()
    manager.status("two\nlines")
    manager.stopping()
    assert [listening.recv(1000) for _ in range(3)] == [b"READY=1", b"STATUS=two lines", b"STOPPING=1"]


@pytest.mark.parametrize(
    ("environment", "every"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "nonsense"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_signs_of_life_are_given_twice_as_often_as_they_are_wanted(environment, every):
    assert ServiceManager({"NOTIFY_SOCKET": "/run/x"} | environment).watchdog_every == every
    assert ServiceManager(environment).watchdog_every is None  # nobody listens


@pytest.mark.slow
async def test_signs_of_life_end_while_something_hangs_and_the_status_says_what(systemd, caplog):
    listening, environment = systemd
    manager = ServiceManager(environment | {"WATCHDOG_USEC": "20000"})
    alive, status = True, "serving"
    watch = asyncio.create_task(manager.watch(lambda: alive, lambda: status))

    async def told(seconds):
        await asyncio.sleep(seconds)
        listening.setblocking(False)
        found = []
        while True:
            try:
                found.append(listening.recv(1000))
            except BlockingIOError:
                return found

    found = await told(0.2)
    assert found.count(b"WATCHDOG=1") > 1
    assert found.count(b"STATUS=serving") == 1
    alive, status = False, "serving, but not running: jobs"
    await told(0.05)
    assert await told(0.2) == []
    assert "hangs" in caplog.text
    alive = True
    assert b"WATCHDOG=1" in await told(0.2)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


def test_a_service_manager_that_is_gone_or_full_is_in_nobodys_way(tmp_path, caplog):
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert "cannot be sent READY" in caplog.text
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "full"))
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "full")})
        for _ in range(2000):
            manager.status("x" * 1000)


def test_without_a_service_manager_nothing_is_told(caplog):
    manager = ServiceManager({})
    manager.ready()
    manager.stopping()
    assert caplog.text == ""
