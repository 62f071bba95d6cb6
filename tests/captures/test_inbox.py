"""The inbox's watch: it goes on whatever the store answers, and waits for no listing where it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from gateway.captures.inbox import Inbox
from gateway.captures.jobs import CHECK, CheckUpload
from gateway.demo.sample import sample_capture
from gateway.journal import Jobs, JobState, Journal, jobs, slots
from gateway.objects import Credentials, ObjectInfo, ObjectStore
from gateway.runtime.supervise import Supervisor
from tests.clock import ManualClock
from tests.rig.journal import with_journal
from tests.rig.ports import free_port

from .conftest import STUDY

_ONE_UPLOAD = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>dicom</Name><Prefix>inbox/</Prefix>'
    "<KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>inbox/one</Key>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>5</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
)


async def test_a_listing_that_is_no_xml_does_not_keep_a_later_upload_from_being_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.captures.inbox.ASKS_FOR_SLOTS_EVERY", 0.05)
    monkeypatch.setattr("gateway.captures.inbox.LOOKS_ANYWAY_EVERY", 0.05)
    listings = 0

    async def answer(request):
        nonlocal listings
        if "list-type" not in request.query:
            return web.Response(status=501)
        listings += 1
        body = "<html>the proxy's own page, <b>not closed" if listings == 1 else _ONE_UPLOAD
        return web.Response(body=body.encode(), content_type="application/xml")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner, port = web.AppRunner(application, shutdown_timeout=0.1), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}")
    store = ObjectStore(
        endpoint=lambda: f"127.0.0.1:{port}", secure=False, region="us-east-1", bucket="dicom",
        credentials=Credentials("access", "secret"),
    )  # fmt: skip
    try:
        async with store, Supervisor(first_pause=0.05) as loops:
            inbox = Inbox(store, journal, added=lambda: None)
            loops.add("inbox", inbox.watch)
            async with asyncio.timeout(20):
                while not await Jobs(journal).list():
                    await asyncio.sleep(0.02)
        assert listings > 1
    finally:
        await runner.cleanup()
        await journal.close()


async def test_an_upload_that_the_gateways_own_face_took_waits_for_no_listing(pacs, viewer_of, monkeypatch):
    monkeypatch.setattr("gateway.captures.inbox.LOOKS_EVERY", 1000.0)
    viewer = await viewer_of(pacs, store={"bucket": "dicom"})
    listed = asyncio.Event()

    async def look():
        await Inbox.look(viewer.gateway.parts.inbox)
        listed.set()

    monkeypatch.setattr(viewer.gateway.parts.inbox, "look", look)
    url = (await viewer.ask())["uploadUrls"][0]
    async with asyncio.timeout(20):
        await listed.wait()  # the last listing that finds nothing: the next would be in a quarter of an hour
    assert await viewer.put(url, sample_capture(STUDY).content) == 200
    await viewer.stored()
    await viewer.gateway.parts.inbox.look()
    assert len(await viewer.jobs.list(kinds=["capture.check"])) == 1  # a listing takes it for the same upload


class Plain(dict):
    """A store that deletes whatever lies there, as MinIO does, with an upload that comes in any moment of a removal."""

    comes: Sequence[bytes] = ()

    async def list(self, prefix):
        for key, content in list(self.items()):
            yield ObjectInfo(key, len(content), content.decode(), None)

    async def compares_before_deleting(self):
        return False

    async def head(self, key):
        return ObjectInfo(key, len(self[key]), self[key].decode(), None) if key in self else None

    async def delete(self, keys):
        for key in keys:
            if self.comes:
                self[key], self.comes = self.comes[0], ()  # after the look, before the removal
            del self[key]


async def test_where_the_store_does_not_compare_nothing_is_removed_while_its_url_is_open(tmp_path):
    clock, store = ManualClock(), Plain({"inbox/s": b"first"})
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}", clock=clock)
    slot = slots.Slot("s", "msg_1", "stu_1", STUDY, None, None, clock.now(), clock.now() + 900)
    try:
        await journal.run(lambda c: slots.grant(c, slot))
        inbox = Inbox(store, journal, added=lambda: None)
        await inbox.look()
        (job,) = await Jobs(journal).list(kinds=[CHECK])
        await journal.run(lambda c: jobs.end(c, job, JobState.DONE, "checked", CheckUpload("s", None, 5)))

        store.comes = (b"another",)
        await inbox.look()
        assert (store, store.comes) == ({"inbox/s": b"first"}, (b"another",))  # it was not even tried
        store["inbox/s"], store.comes = b"another", ()
        await inbox.look()
        assert [j.subject for j in await Jobs(journal).list(kinds=[CHECK], states=[JobState.WAITING])] == ["s another"]

        clock.jump(900 + slots.GRACE + 1)
        await inbox.look()
        assert store == {"inbox/s": b"another"}  # nobody has looked at that one yet
        (job,) = await Jobs(journal).list(kinds=[CHECK], states=[JobState.WAITING])
        await journal.run(lambda c: jobs.end(c, job, JobState.DONE, "checked", CheckUpload("s", None, 7)))
        await inbox.look()
        assert store == {}
    finally:
        await journal.close()


async def test_an_upload_is_seen_soon_after_a_clock_that_had_ended_its_url_too_early_was_set_right(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("gateway.captures.inbox.LOOKS_EVERY", 0.02)
    monkeypatch.setattr("gateway.captures.inbox.ASKS_FOR_SLOTS_EVERY", 0.05)
    clock, store = ManualClock(), Plain()
    journal = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}", clock=clock)
    slot = slots.Slot("s", "msg_1", "stu_1", STUDY, None, None, clock.now(), clock.now() + 900)
    try:
        await journal.run(lambda c: slots.grant(c, slot))
        inbox = Inbox(store, journal, added=lambda: None)
        clock.jump(86400)
        async with Supervisor() as loops:
            loops.add("inbox", inbox.watch)
            await asyncio.sleep(0.2)  # it has seen that no URL is open
            clock.jump(-86400)
            store["inbox/s"] = b"upload"
            async with asyncio.timeout(20):
                while not await Jobs(journal).list(kinds=[CHECK]):
                    await asyncio.sleep(0.02)
    finally:
        await journal.close()
