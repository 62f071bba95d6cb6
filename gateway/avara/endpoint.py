"""The webhook endpoint: from Avara's request to an answer in time (docs/contract.md: Transport).

The order is what makes it safe: headers, then size, then signature over the raw bytes, then JSON, then the contract.
Until all hold, nothing is done, and a delivery that was answered is not done again. An error's text never shows what is
inside the gateway or the hospital.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.avara.answers import WebhookAnswer
from gateway.avara.events import DoesNotFit, Event, NotJson, parse_event
from gateway.avara.remember import Deliveries, Replayed, Response
from gateway.avara.signature import BadSignature, WebhookDelivery, WebhookVerifier
from gateway.runtime import Seldom, bind, span
from gateway.web import Turn, Turns, ask_for_body, gone

log = logging.getLogger(__name__)

BODY_WITHIN = 10.0
"""Seconds from a request's headers to the end of its body."""

MARGIN = 0.05
"""Part of ``answer_within`` that is kept for the way of the answer, half a second at most."""

Handler = Callable[[Event, WebhookDelivery], Awaitable[WebhookAnswer]]


@dataclass(frozen=True, slots=True)
class Answered:
    """An event and what became of it, for whoever keeps account."""

    event: Event
    webhook_id: str
    remote: str
    """The address that it came from."""
    status: int
    outcome: str
    """In words for an operator."""
    trouble: bool
    """Whether somebody may want to know why it is no better."""
    milliseconds: float
    signed_at: int
    """Unix seconds, by Avara's clock."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was turned away before it was an event."""

    remote: str
    webhook_id: str
    """As it says, which nothing proves; empty where it says none."""
    reason: str
    unproven: bool = False
    """Whether it was signed, and the signature or its time is not right."""


Account = Callable[[Answered | Refused], None]


class Refusal(Exception):
    """A handler cannot take an event; Avara is told with this HTTP status, and may deliver it again."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class WebhookEndpoint:
    """Takes events in and hands them to the handler of their type."""

    def __init__(
        self,
        verifier: WebhookVerifier,
        handlers: Mapping[str, Handler],
        *,
        max_body: int,
        answer_within: float,
        bodies: Turns,
        account: Account,
        deliveries: Deliveries | None = None,
    ) -> None:
        """*max_body* is bytes; *answer_within* seconds from the request's headers; *bodies* are the turns of those
        whose signature is not known yet; *account* is told of every request and must not wait; *deliveries* has
        what an earlier start has answered."""
        self._account = account
        self._told = Seldom(log)
        self._bodies = bodies
        self._deliveries = Deliveries() if deliveries is None else deliveries
        self._verifier = verifier
        self._handlers = handlers
        self._max_body = max_body
        self._answer_within = answer_within - min(0.5, answer_within * MARGIN)

    async def handle(self, request: web.Request) -> web.Response:
        """The aiohttp handler."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if request.method != "POST":
            self._told.warning("%s of the webhook from %s: Avara POSTs its events", request.method, request.remote)
            return _error(405, "POST events here", {"Allow": "POST"})
        try:
            signed = self._verifier.read(request.headers)
            if (request.content_length or 0) > self._max_body:
                raise _BodyTooLarge
            async with self._bodies.take(request.remote or "", gone=gone(request)) as turn:
                await ask_for_body(request)
                async with asyncio.timeout(BODY_WITHIN):
                    body = await self._body(request, turn)
            self._verifier.verify(body, request.headers)
            event = parse_event(body)
        except _BodyTooLarge:
            # What still comes of the body is not read: the connection ends with this answer.
            return _error(413, f"an event has {self._max_body} bytes at most", {"Connection": "close"})
        except TimeoutError:
            return _error(408, "the body did not come in time", {"Connection": "close"})
        except (web.RequestPayloadError, HttpProcessingError):
            return _error(400, "the body is not what its headers say", {"Connection": "close"})
        except BadSignature as e:
            log.warning("refused a webhook from %s: %s", request.remote, e.cause)
            unproven = "webhook-signature" in request.headers
            claimed = request.headers.get("webhook-id", "")[:256]
            self._account(Refused(request.remote or "", claimed, e.cause, unproven))
            return _error(401, str(e), {"Connection": "close"})
        except NotJson as e:
            self._told.warning("refused an event from %s, which is signed by one of our keys: %s", request.remote, e)
            return _error(400, str(e))
        except DoesNotFit as e:
            log.warning("refused an event: %s", e)
            self._account(Refused(request.remote or "", signed.webhook_id, str(e)))
            return _error(422, str(e))
        bind(webhook=signed.webhook_id, event=event.id)
        if (study := getattr(event.data, "study_instance_uid", None)) is not None:
            bind(study=study)
        delivery = WebhookDelivery(signed.webhook_id, began + self._answer_within)
        with span(event.type):
            answer, outcome, trouble = await self._once(event, delivery, signed.timestamp)
        took = (loop.time() - began) * 1000
        log.info(
            "%s %s: %s; %d in %.0f ms, from %s",
            event.type, event.id, outcome, answer.status, took, request.remote,
        )  # fmt: skip
        self._account(
            Answered(
                event, signed.webhook_id, request.remote or "", answer.status, outcome, trouble, took, signed.timestamp
            )
        )
        return answer

    async def _once(self, event: Event, delivery: WebhookDelivery, timestamp: int) -> tuple[web.Response, str, bool]:
        """The answer, which is the one that was given before where this is a delivery that was answered; what it comes
        to, and whether that is trouble."""
        try:
            async with asyncio.timeout_at(delivery.deadline):
                given = await self._deliveries.begin(delivery.webhook_id, timestamp)
        except Replayed as e:
            return _error(409, str(e)), f"refused: {e}", True
        except TimeoutError:
            return _error(503, "this event is being answered; deliver it again"), "still being answered", True
        if given is not None:
            return self._sending(given, delivery, timestamp), "answered as before", False
        kept = None
        try:
            answer, outcome, trouble = await self._answer(event, delivery)
            if isinstance(answer, WebhookAnswer):
                kept = Response(200, answer.to_json(), answer.opens)
        finally:
            self._deliveries.end(delivery.webhook_id, kept)
        if isinstance(answer, web.Response):
            return answer, outcome, trouble
        assert kept is not None
        return self._sending(kept, delivery, timestamp), outcome, trouble

    def _sending(self, answer: Response, delivery: WebhookDelivery, timestamp: int) -> web.Response:
        """*answer* on its way; that it has left is remembered over a restart where it opens something."""
        sent = partial(self._deliveries.answered, delivery.webhook_id, timestamp) if answer.opens else None
        return _Answer(answer, sent)

    async def _body(self, request: web.Request, turn: Turn) -> bytes:
        body = bytearray()
        while True:
            with turn.client_moves():
                chunk = await request.content.readany()
            if not chunk:
                return bytes(body)
            turn.moved(len(chunk))
            body += chunk
            if len(body) > self._max_body:
                raise _BodyTooLarge

    async def _answer(self, event: Event, delivery: WebhookDelivery) -> tuple[WebhookAnswer | web.Response, str, bool]:
        try:
            async with asyncio.timeout_at(delivery.deadline):
                answer = await self._handlers[event.type](event, delivery)
        except Refusal as e:
            return _error(e.status, str(e)), f"refused: {e}", True
        except TimeoutError:
            log.error("no answer to event %s (webhook %s) in time", event.id, delivery.webhook_id)
            return _error(503, "the gateway could not answer in time; deliver the event again"), "not in time", True
        except Exception:
            log.exception("event %s (webhook %s) failed", event.id, delivery.webhook_id)
            failed = _error(500, "the gateway failed to handle this event; its log has the details")
            return failed, "an error of the gateway itself: its log has the details", True
        return answer, answer.outcome, answer.trouble


class _Answer(web.Response):
    """Tells once all of it was handed to a connection that still stood: what died before that is not answered."""

    def __init__(self, answer: Response, sent: Callable[[], None] | None) -> None:
        super().__init__(status=answer.status, body=answer.body, content_type="application/json")
        self._tell_sent = sent

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        if self._tell_sent is not None:
            self._tell_sent()


class _BodyTooLarge(Exception):
    pass


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, text=json.dumps({"error": text}), content_type="application/json", headers=headers
    )
