"""Who sent a webhook: the Standard Webhooks signature over its raw bytes (docs/contract.md: Transport)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.runtime.clock import SYSTEM_CLOCK, Clock

MAX_ID = 256
"""Characters of a ``webhook-id``."""

TOLERANCE = 300.0
"""Seconds by which a timestamp may be off, as the library has it."""

_TIMESTAMP = re.compile(r"\d{1,11}", re.ASCII)
_SIGNATURE = re.compile(r"(?:^|(?<= ))v1,[A-Za-z0-9+/]{43}=(?= |$)")
"""A version 1 signature: 32 bytes of HMAC-SHA256 in base64."""


class BadSignature(Exception):
    """It was not sent by Avara, or not within the last five minutes, or was altered on its way."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of an event. Avara repeats an unanswered one with the same ``webhook_id``."""

    webhook_id: str
    deadline: float
    """Event-loop seconds by which the answer must have left."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What the headers of a delivery say."""

    webhook_id: str
    timestamp: int
    """Unix seconds."""
    signatures: str


class WebhookVerifier:
    """Checks signatures against every key that is valid now; keys overlap while they are rotated."""

    def __init__(self, keys: Sequence[str], clock: Clock = SYSTEM_CLOCK) -> None:
        """*keys* are ``whsec_<base64>``. Raises ValueError for one that is not."""
        self._clock = clock
        self._keys = [_webhook(key) for key in keys]

    def read(self, headers: Mapping[str, str]) -> Signed:
        """What the headers say, as far as it can be judged without the body. Raises BadSignature.

        To be asked before the body is read: who sends none of them is not worth a megabyte.
        """
        webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        # One entry that it cannot parse makes the library refuse the whole list.
        signatures = " ".join(_SIGNATURE.findall(headers.get("webhook-signature", "")))
        if not (0 < len(webhook_id) <= MAX_ID and _TIMESTAMP.fullmatch(timestamp) and signatures):
            raise BadSignature("webhook-id, webhook-timestamp and webhook-signature are required")
        if abs(self._clock.now() - int(timestamp)) > TOLERANCE:
            raise BadSignature("its timestamp is over five minutes off: are both clocks right?")
        return Signed(webhook_id, int(timestamp), signatures)

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The ``webhook-id`` of a delivery that is signed by one of the keys. Raises BadSignature.

        The library compares in constant time.
        """
        found = self.read(headers)
        signed = {
            "webhook-id": found.webhook_id,
            "webhook-timestamp": str(found.timestamp),
            "webhook-signature": found.signatures,
        }
        for key in self._keys:
            try:
                key.verify(body, signed, json_parse=False)
            except (WebhookVerificationError, ValueError, OverflowError, OSError):
                continue
            return found.webhook_id
        raise BadSignature("the signature matches none of the configured keys")


def sign(key: str, webhook_id: str, body: bytes, *, at: datetime | None = None) -> dict[str, str]:
    """The headers of a delivery as Avara signs it, for tests and ``send-event``."""
    moment = at or datetime.now(UTC)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": _webhook(key).sign(webhook_id, moment, body.decode()),
    }


def _webhook(key: str) -> Webhook:
    if not key.startswith("whsec_"):
        raise ValueError("a webhook key is whsec_ and base64")
    try:
        return Webhook(key)
    except Exception as e:
        raise ValueError("a webhook key is whsec_ and base64") from e
