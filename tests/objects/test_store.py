"""The S3 client against real servers (SeaweedFS, and MinIO where it is on PATH), and against one that misbehaves."""

from __future__ import annotations

import asyncio
import resource

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.objects import (
    Credentials,
    ObjectNotFound,
    ObjectStore,
    Presigner,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)


def presigner(store):
    return Presigner(
        endpoint_url=f"http://{store.endpoint}", region=store.region, bucket=store.bucket, credentials=store.credentials
    )


async def test_what_is_put_is_what_is_got(s3):
    await s3.put("a/b", [b"one", memoryview(b"two")], content_type="application/dicom")
    assert await s3.get("a/b") == b"onetwo"
    assert (await s3.head("a/b")).size == 6
    async with s3.read("a/b", offset=2, length=3) as chunks:
        assert b"".join([c async for c in chunks]) == b"etw"


async def test_a_small_object_goes_by_the_connections_that_are_made_for_it(s3, monkeypatch):
    async def otherwise(*_):
        pytest.fail("it went the way of what a short request cannot do")

    monkeypatch.setattr(s3, "_put", otherwise)
    await s3.put("a/b", [b"one", memoryview(b"two")], content_type="application/dicom")
    assert await s3.get("a/b") == b"onetwo"


async def test_each_request_is_told_with_its_time_and_each_that_is_repeated(store, monkeypatch):
    told = []
    monkeypatch.setattr(store, "told", lambda operation, seconds: told.append((operation, seconds is not None)))
    await store.put("a/b", b"one", content_type="a/b")
    await store.get("a/b")
    await store.head("a/b")
    async with store.read("a/b") as chunks:
        assert [c async for c in chunks] == [b"one"]
    assert [o.key async for o in store.list("a/")] == ["a/b"]
    await store.delete(["a/b"])
    assert told == [(operation, True) for operation in ("put", "get", "head", "read", "list", "list", "delete")]
    assert store.with_connections(2).told is store.told
    told.clear()
    tries = iter([StoreUnavailable("away"), None])

    async def put(*_):
        if (failure := next(tries)) is not None:
            raise failure

    monkeypatch.setattr(store, "_put_small", put)
    await store.put("a/b", b"one", content_type="a/b")
    assert told == [("put", False), ("put", True)]


async def test_absence_is_told_apart_from_failure(s3):
    assert await s3.head("absent") is None
    with pytest.raises(ObjectNotFound):
        await s3.get("absent")


async def test_what_was_replaced_meanwhile_is_not_deleted(store):
    await store.put("a", b"one", content_type="a/b")
    one = (await store.head("a")).etag.strip('"')
    await store.put("a", b"two", content_type="a/b")
    assert await store.compares_before_deleting()
    await store.delete_unchanged("a", one)
    assert await store.get("a") == b"two"
    await store.delete_unchanged("a", (await store.head("a")).etag.strip('"'))
    assert await store.head("a") is None
    await store.delete_unchanged("a", one)  # gone already
    assert [o async for o in store.list("probe/")] == []


async def test_a_put_beside_a_conditional_delete_is_never_lost(store):
    async def race(n):
        for step in range(20):
            key, content = f"a/{n}", [f"{part}{step}".encode() * 1000 for part in "ab"]
            await store.put(key, content[0], content_type="a/b")
            etag = (await store.head(key)).etag.strip('"')
            await asyncio.gather(store.delete_unchanged(key, etag), store.put(key, content[1], content_type="a/b"))
            assert await store.get(key) == content[1]

    assert await store.compares_before_deleting()
    await asyncio.gather(*(race(n) for n in range(4)))


@pytest.mark.parametrize(("status", "compares"), [(412, True), (204, False), (501, False), (200, False)])
async def test_whether_a_store_compares_before_it_deletes_is_found_out_once(status, compares):
    asked = []

    async def answer(request):
        if request.method == "DELETE" and "If-Match" in request.headers:
            asked.append(request.headers["If-Match"])
            return web.Response(status=status)
        return web.Response(text="<DeleteResult/>", content_type="application/xml")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server, ObjectStore(
        endpoint=lambda: f"127.0.0.1:{server.port}", secure=False, region="us-east-1", bucket="bucket",
        credentials=Credentials("key", "secret"),
    ) as store:  # fmt: skip
        assert [await store.compares_before_deleting() for _ in range(2)] == [compares] * 2
    assert len(asked) == 1


async def test_more_than_a_page_is_listed_and_deleted(s3):
    await asyncio.gather(*(s3.put(f"many/{n // 500}/{n:04}", b"x", content_type="a/b") for n in range(1100)))
    assert sorted([o.key async for o in s3.list("many/")]) == sorted(f"many/{n // 500}/{n:04}" for n in range(1100))
    assert sorted([f async for f in s3.list_folders("many/")]) == ["many/0/", "many/1/", "many/2/"]
    await s3.delete([f"many/{n // 500}/{n:04}" for n in range(1100)] + ["many/absent"])
    assert [o async for o in s3.list("many/")] == []


async def test_bytes_that_were_changed_on_their_way_are_not_stored(s3, monkeypatch):
    monkeypatch.setattr("gateway.objects.client.zlib.crc32", lambda *_: 1234)
    monkeypatch.setattr("gateway.objects.connection.TRIES", 1)
    with pytest.raises(StoreUnavailable):
        await s3.put("a/b", b"bytes", content_type="a/b")
    assert await s3.head("a/b") is None


async def test_a_large_object_streams_through_little_memory(s3):
    block = bytes(range(256)) * 4096

    async def chunks():
        for _ in range(200):
            yield block

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await s3.put_stream("large", 200 * len(block), chunks, content_type="application/dicom")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000  # KiB, of 200 MiB
    assert (await s3.head("large")).size == 200 * len(block)


async def test_pages_of_allowed_origins_may_read_where_the_server_takes_cors_rules(s3, s3_server):
    taken = await s3.allow_origins(["https://viewer.example"])
    assert taken == (s3_server.name == "seaweedfs")  # MinIO's community server has no such call
    if not taken:
        return
    await s3.put("a", b"0123456789", content_type="a/b")
    [url] = presigner(s3).get_urls(["a"], expires_in=60)
    async with aiohttp.ClientSession() as http:
        async with http.get(url, headers={"Origin": "https://viewer.example", "Range": "bytes=0-1"}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
            assert "Content-Range" in answer.headers["Access-Control-Expose-Headers"]
        async with http.get(url, headers={"Origin": "https://other.example"}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("status", [400, 403, 405, 501])
async def test_a_store_that_lets_us_make_no_cors_rules_keeps_nothing_from_starting(status):
    async def refuse(_):
        return web.Response(status=status, text="<Error><Code>AccessDenied</Code></Error>")

    application = web.Application()
    application.router.add_put("/bucket", refuse)
    async with TestServer(application) as server, ObjectStore(
        endpoint=lambda: f"127.0.0.1:{server.port}", secure=False, region="us-east-1", bucket="bucket",
        credentials=Credentials("key", "secret"),
    ) as store:  # fmt: skip
        assert await store.allow_origins(["*"]) is False


async def test_anonymous_requests_are_refused(s3):
    assert await s3.refuses_anonymous()


async def test_a_presigned_url_opens_what_it_names_and_nothing_else(s3):
    await s3.put("a/b", b"0123456789", content_type="application/dicom")
    [url] = presigner(s3).get_urls(["a/b"], expires_in=60)
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as answer:
            assert (answer.status, await answer.read()) == (200, b"0123456789")
        async with http.get(url, headers={"Range": "bytes=2-4"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"234")
        for method, wrong in (
            ("GET", url.replace("a/b", "a/c")),
            ("GET", url[:-1] + "x"),
            ("PUT", url),
            ("DELETE", url),
        ):
            async with http.request(method, wrong) as answer:
                assert answer.status == 403, method
        put = presigner(s3).put_url("up", expires_in=60)
        async with http.put(put, data=b"uploaded") as answer:
            assert answer.status == 200
    assert await s3.get("up") == b"uploaded"


async def test_an_expired_url_is_refused(s3):
    await s3.put("a", b"x", content_type="a/b")
    [url] = presigner(s3).get_urls(["a"], expires_in=1)
    await asyncio.sleep(2.1)
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 403


async def test_wrong_credentials_are_denied_and_name_the_fix(s3):
    async with ObjectStore(
        endpoint=lambda: s3.endpoint,
        secure=False,
        region="us-east-1",
        bucket=s3.bucket,
        credentials=Credentials("no", "no"),
    ) as other:
        with pytest.raises(StoreDenied, match=r"correct store\.access_key"):
            await other.put("a", b"x", content_type="a/b")


async def test_a_missing_bucket_is_told(weed):
    async with weed.store("never-made") as store:
        with pytest.raises(StoreDenied, match="no such bucket"):
            await store.put("a", b"x", content_type="a/b")


class Misbehaving:
    """An S3 server that answers from a list: a status, ``stall``, ``drop``, or a status and a body."""

    def __init__(self):
        self.plan, self.requests = [], 0

    async def handle(self, request):
        self.requests += 1
        await request.read()
        what = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
        if what == "stall":
            await asyncio.sleep(5)
        if what == "drop":
            request.transport.abort()
        status, body = what if isinstance(what, tuple) else (what, b"")
        return web.Response(status=status if isinstance(status, int) else 500, body=body)


@pytest.fixture
async def misbehaving(monkeypatch):
    monkeypatch.setattr("gateway.objects.connection.ANSWER_WITHIN", 2.0)
    server = Misbehaving()
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with ObjectStore(
        endpoint=lambda: f"127.0.0.1:{port}",
        secure=False,
        region="r",
        bucket="dicom",
        credentials=Credentials("a", "b"),
    ) as store:
        yield server, store
    await runner.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("first", [500, 503, "drop", "stall"])
async def test_a_passing_failure_is_tried_again(misbehaving, first):
    server, store = misbehaving
    server.plan = [first, 200]
    await store.put("a", b"x" * 10, content_type="a/b")
    assert server.requests == 2


@pytest.mark.parametrize("always", [500, "drop", "stall"])
@pytest.mark.slow
async def test_a_store_that_stays_away_is_given_up_and_never_hangs(misbehaving, always, monkeypatch):
    monkeypatch.setattr("gateway.objects.connection.TRIES", 2)
    server, store = misbehaving
    server.plan = [always]
    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable):
            await store.put("a", b"x" * 10, content_type="a/b")


@pytest.mark.parametrize("body", [b"<Error><Code>XMinioStorageFull</Code></Error>", b"no space left on device"])
async def test_a_full_store_is_told_apart(misbehaving, body):
    server, store = misbehaving
    server.plan = [(507, body)]
    with pytest.raises(StoreFull, match=r"lower cache\.max_size"):
        await store.put("a", b"x", content_type="a/b")


async def test_a_refusal_is_not_tried_again(misbehaving):
    server, store = misbehaving
    server.plan = [403]
    with pytest.raises(StoreDenied):
        await store.put("a", b"x", content_type="a/b")
    assert server.requests == 1


async def test_what_is_refused_for_the_clocks_is_for_a_job_to_try_again(misbehaving):
    server, store = misbehaving
    server.plan = [(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>")]
    with pytest.raises(StoreDenied, match="set both by NTP") as refused:
        await store.put("a", b"x", content_type="a/b")
    # Else each object that waits would be left to an operator, one by one, for a fault that is no object's.
    assert refused.value.transient


@pytest.mark.slow
async def test_a_store_that_nobody_runs_names_the_fix():
    async with ObjectStore(
        endpoint=lambda: "127.0.0.1:1", secure=False, region="r", bucket="dicom", credentials=Credentials("a", "b")
    ) as store:
        with pytest.raises(StoreUnavailable, match=r"is store\.endpoint right"):
            await store.get("a")


async def test_a_server_that_tells_of_new_objects_is_listened_to_and_another_is_no_failure(s3, s3_server):
    told = asyncio.Event()

    async def listen():
        async for _ in s3.created("inbox/"):
            told.set()

    listening = asyncio.create_task(listen())
    if s3_server.name == "minio":
        async with asyncio.timeout(10):
            while not told.is_set():
                await s3.put("inbox/a", b"x", content_type="a/b")
                await asyncio.sleep(0.2)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    else:
        with pytest.raises(StoreError):
            await asyncio.wait_for(listening, 10)


async def test_notifications_as_minio_words_them_are_understood():
    async def events(request):
        assert request.query["prefix"] == "inbox/"
        assert request.query["events"] == "s3:ObjectCreated:*"
        assert "AWS4-HMAC-SHA256" in request.headers["Authorization"]
        assert request.headers["Accept-Encoding"] == "identity"
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b" ")  # how it keeps the connection alive
        await answer.write(b'{"EventName":"s3:ObjectCreated:Put","Records":[{"s3":{"object":{"key":"inbox%2Fa"}}}]}\n')
        return answer

    application = web.Application()
    application.router.add_get("/bucket", events)
    async with TestServer(application) as server:
        async with ObjectStore(
            endpoint=lambda: f"127.0.0.1:{server.port}", secure=False, region="us-east-1", bucket="bucket",
            credentials=Credentials("key", "secret"),
        ) as store:  # fmt: skip
            told = []

            async def listen():
                async for _ in store.created("inbox/"):
                    told.append(True)

            with pytest.raises(StoreError, match="ended its notifications"):
                await listen()
    assert told == [True]
