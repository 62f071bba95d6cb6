"""Who sent a webhook: the Standard Webhooks signature over its raw bytes (docs/contract.md: Transport)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

MAX_ID = 256
"""Characters of a ``webhook-id``."""

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


class WebhookVerifier:
    """Checks signatures against every key that is valid now; keys overlap while they are rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        """*keys* are ``whsec_<base64>``. Raises ValueError for one that is not."""
        self._keys = [_webhook(key) for key in keys]

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The ``webhook-id`` of a delivery that is signed by one of the keys. Raises BadSignature.

        The library compares in constant time and refuses a timestamp that is more than five minutes off.
        """
        webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        # One entry that it cannot parse makes the library refuse the whole list.
        signatures = " ".join(_SIGNATURE.findall(headers.get("webhook-signature", "")))
        if not (0 < len(webhook_id) <= MAX_ID and timestamp.isdecimal() and timestamp.isascii() and signatures):
            raise BadSignature("webhook-id, webhook-timestamp and webhook-signature are required")
        signed = {"webhook-id": webhook_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}
        for key in self._keys:
            try:
                key.verify(body, signed, json_parse=False)
            except (WebhookVerificationError, ValueError, OverflowError, OSError):
                continue
            return webhook_id
        raise BadSignature(
            "the signature matches none of the configured keys, or its timestamp is over five minutes off"
        )


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
