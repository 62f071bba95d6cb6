"""Audit messages reach the repository: framed as RFC 5425 has it, in order, and after an outage as before it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import time

import pytest
from lxml import etree

from gateway.audit import AuditFile, Forwarder, NotSent, Syslog, forward, reader
from gateway.audit.chain import Entry
from gateway.audit.reader import TrailReader
from tests.audit.receiver import Receiver, parsed
from tests.audit.test_messages import SCHEMA
from tests.reports.tls import certificate
from tests.rig.ports import free_port


@pytest.fixture
async def receiver():
    made = await Receiver().start()
    yield made
    await made.stop()


def trail(folder, **how):
    return AuditFile(folder / "audit", **{"keep_for": 1e9, "max_size": 10**9, **how})


def logins(*names):
    return [Entry(time.time(), "login", {"by": name, "remote": "10.0.0.1"}) for name in names]


def forwarder(folder, port, **how):
    return Forwarder(folder / "audit", Syslog("127.0.0.1", port, "tcp", our_name="us"), source="us", **how)


def who(receiver):
    trees = [etree.fromstring(one.body) for one in receiver.got]
    return [tree.find("ActiveParticipant").get("UserID") for tree in trees]


async def came(receiver, count):
    async with asyncio.timeout(20):
        while len(receiver.got) < count:
            await asyncio.sleep(0.01)


async def test_each_message_is_syslog_in_a_frame_with_the_xml_of_the_standard(receiver, tmp_path):
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    trail(tmp_path).append([*logins("ann"), Entry(1.5, "login_refused", {"remote": "10.0.0.2"})])
    assert await sent.forward()
    await came(receiver, 2)
    first, second = receiver.got
    assert (first.pri, second.pri) == (85, 84)
    assert (first.app, first.msgid, first.host) == ("avara-gateway", "DICOM+RFC3881", "us")
    assert second.at == "1970-01-01T00:00:01.500+00:00"
    for one in receiver.got:
        SCHEMA.assertValid(etree.fromstring(one.body))
    assert not await sent.forward()
    await sent.stop()


async def test_over_tls_only_one_that_is_trusted_is_told_anything(tmp_path):
    made = certificate(tmp_path)
    receiver = await Receiver(made.server).start()
    try:
        import ssl

        trusts = ssl.create_default_context(cafile=made.ca_file)
        good = Syslog("127.0.0.1", receiver.port, "tls", tls=trusts)
        await good.check()
        sent = Forwarder(tmp_path / "audit", good, source="us")
        await sent.start()
        trail(tmp_path).append(logins("ann"))
        await sent.forward()
        await came(receiver, 1)
        await sent.stop()
        for bad in (
            Syslog("127.0.0.1", receiver.port, "tls", tls=ssl.create_default_context()),
            Syslog("127.0.0.1", receiver.port, "tls", tls=trusts, name="elsewhere.example"),
        ):
            with pytest.raises(NotSent, match=r"audit.syslog.ca_file"):
                await bad.check()
        assert len(receiver.got) == 1
    finally:
        await receiver.stop()


async def test_what_was_noted_while_it_was_away_comes_in_order_once_it_is_back_also_after_a_restart(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(reader, "AT_ONCE", 4)
    file, receiver = trail(tmp_path), Receiver()
    await receiver.start()
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    file.append(logins("0"))
    await sent.forward()
    await came(receiver, 1)
    await receiver.stop()
    names = [str(n) for n in range(1, 12)]
    file.append(logins(*names[:6]))
    with pytest.raises(NotSent, match=r"cannot be reached|closed"):
        await sent.forward()
    await sent.stop()
    file.append(logins(*names[6:]))
    await receiver.start()  # on the same port
    again = forwarder(tmp_path, receiver.port)
    await again.start()
    while await again.forward():
        pass
    await came(receiver, 13)
    assert who(receiver) == ["0", "0", *names]  # once more what it may have died with
    await again.stop()
    await receiver.stop()


async def test_what_was_on_its_way_when_a_connection_broke_is_sent_again(receiver, tmp_path):
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    names = [f"{n:03d}" + "x" * 300 for n in range(400)]
    trail(tmp_path).append(logins(*names))
    receiver.end_after = 150
    async with asyncio.timeout(30):
        while True:
            try:
                if not await sent.forward():
                    break
            except NotSent:
                await asyncio.sleep(0.05)
        while who(receiver)[-len(names) :] != names:  # also where all of it was in the receiver's buffers
            with contextlib.suppress(NotSent):
                await sent.forward()
            await asyncio.sleep(0.05)
    assert receiver.connections >= 2
    await sent.stop()


async def test_the_loop_says_since_when_it_is_behind_and_goes_on_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "SENDS_EVERY", 0.02)
    monkeypatch.setattr(forward, "FIRST_PAUSE", 0.02)
    receiver = Receiver()
    receiver.port = free_port()
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    trail(tmp_path).append(logins("ann"))
    running = asyncio.create_task(sent.run())
    async with asyncio.timeout(20):
        while not sent.trouble:
            await asyncio.sleep(0.01)
    assert sent.since is not None
    assert "cannot be reached" in sent.trouble
    await receiver.start()
    await came(receiver, 1)
    async with asyncio.timeout(20):
        while sent.trouble:
            await asyncio.sleep(0.01)
    assert sent.since is None
    running.cancel()
    await sent.stop()
    await receiver.stop()


@pytest.mark.slow
async def test_a_receiver_that_takes_nothing_is_waited_for_within_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.audit.syslog.SEND_WITHIN", 0.5)
    with socket.socket() as listening:  # the kernel takes connections, and nobody reads them
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen(5)
        sent = forwarder(tmp_path, listening.getsockname()[1])
        await sent.start()
        trail(tmp_path).append(logins(*["y" * 500] * 200))
        with pytest.raises(NotSent, match="does not take"):
            await sent.forward()
        assert (tmp_path / "audit" / forward.CURSOR).read_text() == "0"
        await sent.stop()


async def test_what_was_sent_counts_once_the_connection_stood_for_a_while(receiver, tmp_path, monkeypatch):
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    cursor = tmp_path / "audit" / forward.CURSOR
    trail(tmp_path).append(logins("ann"))
    await sent.forward()
    assert not await sent.forward()
    assert cursor.read_text() == "0"
    monkeypatch.setattr(forward, "SURE_AFTER", 0.0)
    assert not await sent.forward()
    assert cursor.read_text() == "1"
    monkeypatch.setattr(forward, "SURE_AFTER", 60.0)
    trail(tmp_path).append(logins("bob"))
    await sent.forward()
    await sent.stop()  # what ends in good order is certain
    assert cursor.read_text() == "2"


async def test_over_udp_each_message_is_a_datagram(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        syslog = Syslog("127.0.0.1", listening.getsockname()[1], "udp")
        await syslog.check()
        sent = Forwarder(tmp_path / "audit", syslog, source="us")
        await sent.start()
        trail(tmp_path).append(logins("ann", "bob"))
        await sent.forward()
        bodies = [parsed(await asyncio.to_thread(listening.recv, 65_536)).body for _ in range(2)]
    assert [etree.fromstring(body).find("ActiveParticipant").get("UserID") for body in bodies] == ["ann", "bob"]


async def test_what_was_noted_before_it_was_turned_on_is_not_sent(receiver, tmp_path):
    file = trail(tmp_path)
    file.append(logins("before"))
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    file.append(logins("after"))
    await sent.forward()
    await came(receiver, 1)
    assert who(receiver) == ["after"]
    await sent.stop()


# -- reading on


def test_the_trail_is_read_on_over_full_files_each_entry_once(tmp_path):
    file, read_on = trail(tmp_path, file_size=2000), TrailReader(tmp_path / "audit")
    assert read_on.last() == 0
    got, upto = [], 0
    for n in range(30):
        file.append(logins(*(f"{n}.{m}" for m in range(3))))
        found = read_on.after(upto)
        got += [one["n"] for one in found.entries]
        upto = found.upto
    assert len(list((tmp_path / "audit").glob("*.gz"))) > 2
    assert got == list(range(1, 91))
    assert [one["n"] for one in TrailReader(tmp_path / "audit").after(40).entries] == list(range(41, 91))
    assert read_on.last() == TrailReader(tmp_path / "audit").last() == 90


def test_half_a_line_is_not_read_before_it_is_whole(tmp_path):
    file, read_on = trail(tmp_path), TrailReader(tmp_path / "audit")
    file.append(logins("a", "b"))
    (path,) = (tmp_path / "audit").glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    first = read_on.after(0)
    path.write_bytes(whole)
    assert [one["by"] for one in (*first.entries, *read_on.after(first.upto).entries)] == ["a", "b"]


async def test_entries_that_were_removed_before_they_were_sent_are_told(receiver, tmp_path):
    file = trail(tmp_path, file_size=1500)
    sent = forwarder(tmp_path, receiver.port)
    await sent.start()
    for n in range(6):
        file.append(logins(*(f"{n}.{m}" for m in range(4))))
    oldest = min((tmp_path / "audit").glob("audit-*"))
    with gzip.open(oldest) as opened:
        lines = len(opened.readlines())
    oldest.unlink()
    await sent.forward()
    await came(receiver, 1)
    told = etree.fromstring(receiver.got[0].body)
    assert told.find("EventIdentification/EventTypeCode").get("csd-code") == "110133"
    assert str(lines) in told.findtext("EventIdentification/EventOutcomeDescription")
    await sent.stop()
