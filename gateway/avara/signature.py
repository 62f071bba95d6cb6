"""Who sent a webhook: the Standard Webhooks signature over its raw bytes (docs/contract.md: Transport)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.runtime import SYSTEM_CLOCK, Clock

MAX_ID = 256
"""Characters of a ``webhook-id``."""

TOLERANCE = 300.0
"""Seconds by which a timestamp may be off, as the library has it."""

CLOCK_OFF = 86400.0
"""Seconds by which a clock may be off, a time zone included, for an operator to be told so."""

_OFF = "its timestamp is over five minutes off: are both clocks right?"
_TIMESTAMP = re.compile(r"\d{1,11}", re.ASCII)
_SIGNATURE = re.compile(r"(?:^|(?<= ))v1,[A-Za-z0-9+/]{43}=(?= |$)")
"""A version 1 signature: 32 bytes of HMAC-SHA256 in base64."""


class BadSignature(Exception):
    """It was not sent by Avara, or not within the last five minutes, or was altered on its way."""

    def __init__(self, text: str, *, cause: str = "") -> None:
        """*text* may be told to whoever sent it; *cause* is for the operator, and names the mend."""
        super().__init__(text)
        self.cause = cause or text


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
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
        self._endings = [key[-4:] for key in keys]
        """By which an operator tells them apart."""

    def read(self, headers: Mapping[str, str]) -> Signed:
        """What the headers say, as far as it can be judged without the body. Raises BadSignature.

        To be asked before the body is read: who sends none of them is not worth a megabyte.
        """
        webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        # One entry that it cannot parse makes the library refuse the whole list.
        signatures = " ".join(_SIGNATURE.findall(headers.get("webhook-signature", "")))
        if not (0 < len(webhook_id) <= MAX_ID and _TIMESTAMP.fullmatch(timestamp) and signatures):
            raise BadSignature("webhook-id, webhook-timestamp and webhook-signature are required")
        # Within a day, it may be Avara's and a clock that is off, which takes the body to tell.
        if abs(self._clock.now() - int(timestamp)) > CLOCK_OFF:
            raise BadSignature(_OFF)
        return Signed(webhook_id, int(timestamp), signatures)

    def verify(self, body: bytes, headers: Mapping[str, str]) -> str:
        """The ``webhook-id`` of a delivery that is signed by one of the keys. Raises BadSignature.

        The library compares in constant time.
        """
        found = self.read(headers)
        self._check_time(found, body)
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
        ends = ", ".join(f"…{ending}" for ending in self._endings)
        raise BadSignature(
            "the signature matches none of the configured keys",
            cause=f"it is signed by none of the {len(self._keys)} keys ({ends}), or was altered on its way: compare "
            "them with Avara's page",
        )

    def _check_time(self, found: Signed, body: bytes) -> None:
        late = self._clock.now() - found.timestamp
        if abs(late) <= TOLERANCE:
            return
        cause = ""
        if any(_has_signed(key, found, body) for key in self._keys):
            cause = (
                f"its signature is right, its time is {abs(late) / 60:.0f} min {'behind' if late > 0 else 'ahead of'} "
                "ours: set this clock (timedatectl), or Avara's is wrong; or it is an old one that somebody sends again"
            )
        raise BadSignature(_OFF, cause=cause)


def _has_signed(key: Webhook, found: Signed, body: bytes) -> bool:
    """Whether it is signed by *key*, whenever that was."""
    try:
        right = key.sign(found.webhook_id, datetime.fromtimestamp(found.timestamp, UTC), body.decode())
    except (ValueError, OverflowError, OSError):
        return False
    return any(hmac.compare_digest(right, given) for given in found.signatures.split(" "))


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
