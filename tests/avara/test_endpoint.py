"""The webhook endpoint over real HTTP: every refusal, and that none of them does anything."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from gateway.avara.answers import ReportAcknowledged, StudyAccess
from gateway.avara.endpoint import Refusal, WebhookEndpoint
from gateway.avara.remember import Deliveries
from gateway.avara.signature import WebhookVerifier, sign
from gateway.web.turns import Turns

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENT = {"id": "whe_1", "type": "study.access_requested", "data": {"studyId": "stu_1", "studyInstanceUid": "1.2.3"}}


class Server:
    def __init__(self, url, http):
        self.url, self.http, self.events, self.accounts = url, http, [], []
        self.behave = None
        self.answer = StudyAccess(authorized=True)
        self.deliveries = Deliveries()

    async def handle(self, event, delivery):
        self.events.append((event, delivery))
        if self.behave is not None:
            await self.behave()
        return self.answer

    async def post(self, body, headers=None, method="POST"):
        headers = sign(KEY, "msg_1", body) if headers is None else headers
        async with self.http.request(method, self.url, data=body, headers=headers) as answer:
            return answer.status, await answer.json(), answer.headers


@pytest.fixture
async def server():
    async with aiohttp.ClientSession() as http:
        made = Server("", http)
        endpoint = WebhookEndpoint(
            WebhookVerifier([KEY]),
            {"study.access_requested": made.handle},
            max_body=1000,
            answer_within=1.0,
            bodies=Turns(8, share=8, least_rate=1, grace=60),
            account=made.accounts.append,
            deliveries=made.deliveries,
        )
        application = web.Application()
        application.router.add_route("*", "/webhooks/avara", endpoint.handle)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/avara"
        yield made
        await runner.cleanup()


def body(**changes):
    return json.dumps(EVENT | changes).encode()


async def test_a_signed_event_reaches_its_handler(server):
    status, answer, _ = await server.post(body())
    assert (status, answer) == (200, {"authorized": True, "urls": []})
    [(event, delivery)] = server.events
    assert (event.id, delivery.webhook_id) == ("whe_1", "msg_1")


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        (body(), {}, 401),
        (body(), sign(KEY, "msg_1", b"another body"), 401),
        (b"not json", None, 400),
        (body(type="modality_worklist.requested"), None, 422),
        (body(data={"studyId": "s"}), None, 422),
        (b"x" * 2000, None, 413),
    ],
)
async def test_each_refusal_has_its_status_and_does_nothing(server, content, headers, expected):
    status, answer, _ = await server.post(content, headers)
    assert status == expected
    assert set(answer) == {"error"}
    assert server.events == []


async def test_another_method_is_told_which_one_to_use(server):
    for method in ("GET", "PUT", "DELETE"):
        status, answer, headers = await server.post(b"", {}, method)
        assert (status, set(answer), headers["Allow"]) == (405, {"error"}, "POST")


async def test_a_body_that_grows_too_large_without_saying_so_is_cut_off(server):
    async def chunks():
        for _ in range(50):
            yield b"x" * 100

    async with server.http.post(server.url, data=chunks(), headers=sign(KEY, "msg_1", b"")) as answer:
        assert answer.status == 413


async def test_a_body_that_never_ends_is_given_up(server, monkeypatch):
    monkeypatch.setattr("gateway.avara.endpoint.BODY_WITHIN", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", aiohttp.client.URL(server.url).port)
    headers = "".join(f"{name}: {value}\r\n" for name, value in sign(KEY, "msg_1", b"{").items()).encode()
    writer.write(b"POST /webhooks/avara HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n" + headers + b"\r\n{")
    assert b" 408 " in await reader.readline()
    writer.close()


async def test_a_handler_that_fails_shows_nothing_of_its_inside(server):
    async def fail():
        raise RuntimeError("secret detail")

    server.behave = fail
    status, answer, _ = await server.post(body())
    assert status == 500
    assert "secret" not in json.dumps(answer)


async def test_a_handler_that_cannot_take_an_event_says_so(server):
    async def refuse():
        raise Refusal(501, "not yet")

    server.behave = refuse
    assert (await server.post(body()))[:2] == (501, {"error": "not yet"})


@pytest.mark.slow
async def test_a_handler_that_hangs_is_answered_for_in_time(server):
    async def hang():
        await asyncio.sleep(30)

    server.behave = hang
    began = asyncio.get_running_loop().time()
    status, answer, _ = await server.post(body())
    assert asyncio.get_running_loop().time() - began < 15  # the handler takes 30
    assert (status, set(answer)) == (503, {"error"})


async def test_a_captured_delivery_is_not_done_again(server):
    headers = sign(KEY, "msg_1", body())
    first = await server.post(body(), headers)
    assert (await server.post(body(), headers))[:2] == first[:2]
    assert len(server.events) == 1
    assert (await server.post(body(), sign(KEY, "msg_2", body())))[0] == 200
    assert len(server.events) == 2


async def test_a_delivery_that_failed_is_done_again(server):
    async def refuse():
        raise Refusal(503, "not now")

    server.behave = refuse
    assert (await server.post(body()))[0] == 503
    server.behave = None
    assert (await server.post(body()))[0] == 200
    assert len(server.events) == 2


async def test_nothing_of_a_body_is_read_whose_headers_cannot_be_right(server):
    """It is answered while nothing but the headers has come."""
    old = {name: "1000000000" if name == "webhook-timestamp" else v for name, v in sign(KEY, "m", b"").items()}
    for headers in ({}, {"webhook-id": "msg_1"}, old):
        reader, writer = await asyncio.open_connection("127.0.0.1", aiohttp.client.URL(server.url).port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /webhooks/avara HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n{lines}\r\n".encode())
        async with asyncio.timeout(5):  # far below the time that a body has
            assert b" 401 " in await reader.readline()
        writer.close()


async def test_a_body_that_says_gzip_and_is_none_is_a_400(server):
    status, answer, _ = await server.post(b"no gzip", sign(KEY, "msg_1", b"no gzip") | {"Content-Encoding": "gzip"})
    assert (status, set(answer)) == (400, {"error"})
    assert server.events == []


async def test_what_was_answered_is_kept_over_a_restart_once_the_answer_has_left(server):
    content = body()
    headers = sign(KEY, "msg_1", content)
    assert (await server.post(content, headers))[0] == 200
    await until(lambda: server.deliveries._sent)
    assert list(server.deliveries.take().values()) == [int(headers["webhook-timestamp"])]


async def test_what_avara_got_no_answer_to_is_not_kept_so_that_its_repeat_is_served_after_a_restart(server):
    begun, go = asyncio.Event(), asyncio.Event()

    async def waits():
        begun.set()
        await go.wait()

    server.behave = waits
    asked = asyncio.create_task(server.post(body()))
    await begun.wait()
    asked.cancel()  # the connection is gone before the answer is made
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0.1)
    go.set()
    await until(lambda: server.accounts)
    await asyncio.sleep(0.1)
    assert server.deliveries.take() == {}


async def test_a_report_that_comes_again_after_a_restart_is_acknowledged_again(server):
    server.answer = ReportAcknowledged()
    assert (await server.post(body()))[0] == 200
    await asyncio.sleep(0.05)
    assert server.deliveries.take() == {}


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)
