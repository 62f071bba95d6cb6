"""AWS Signature Version 4: signed requests of our own, and presigned URLs for browsers.

Presigning is on the path of every answer: what a batch of URLs shares (signing key, scope, date, query) is
derived once, which leaves one SHA-256 and one HMAC a URL: some 5 µs against 30 µs in minio-py, for URLs that
are the same to the byte (docs/performance.md).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

from gateway.runtime import SYSTEM_CLOCK, Clock

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

MAX_EXPIRY = 7 * 24 * 3600
"""Seconds; the longest that Signature Version 4 lets a presigned URL live."""


MAX_SKEW = 15 * 60
"""Seconds by which a URL may have been made in the future, as S3 has it: the clock was set back since."""

_MOST_FIELDS = 20
"""Of a query; a presigned one has six."""

_MOMENT = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_SECONDS = re.compile(r"[1-9]\d{0,5}", re.ASCII)

_PLAIN = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[0-9A-Za-z_.~-]{1,255}(?:/(?!\Z)|\Z))+", re.ASCII)
"""Keys that :func:`check_key` takes and :func:`quote_key` leaves as they are, up to 1,024 characters: nearly all."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key and its secret, which is never shown."""

    access_key: str
    secret_key: str = field(repr=False)


def check_key(key: str) -> str:
    """*key*, where it is one that every S3 server gives back as it was asked for.

    Raises ValueError else: an empty, ``.`` or ``..`` segment is folded by some servers, one over 255 bytes
    refused. A key is always made by us, so this is a fault of ours.
    """
    segments = key.split("/")
    if any(s in ("", ".", "..") or len(s.encode()) > 255 for s in segments) or len(key.encode()) > 1024:
        raise ValueError(f"unusable object key: {key!r}")
    if any(c < " " or c in "\\\x7f" for c in key):
        raise ValueError(f"unusable object key: {key!r}")
    return key


def quote_key(key: str) -> str:
    """*key* as it stands in a URL's path."""
    return quote(key, safe="/~-._")


def path_of(key: str) -> str:
    """*key* as it stands in a URL's path. Raises ValueError as :func:`check_key` does, of which it is the fast way."""
    return key if len(key) <= 1024 and _PLAIN.fullmatch(key) else quote_key(check_key(key))


class Signer:
    """Signs for one set of credentials in one region."""

    def __init__(self, credentials: Credentials, region: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._credentials = credentials
        self._clock = clock
        self._region = region
        self._day = ""
        self._key = b""
        self._second = 0
        self._moment = ""

    def scope(self, day: str) -> str:
        """The credential scope of *day* (YYYYMMDD)."""
        return f"{day}/{self._region}/s3/aws4_request"

    def credential(self, day: str) -> str:
        """Access key and scope, as they stand in a request."""
        return f"{self._credentials.access_key}/{self.scope(day)}"

    def signing_key(self, day: str) -> bytes:
        """The signing key of *day*; derived once a day."""
        if day != self._day:
            key = b"AWS4" + self._credentials.secret_key.encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._key = day, key
        return self._key

    def signature(self, canonical_request: str, moment: str) -> str:
        """The signature of a canonical request at *moment* (YYYYMMDDTHHMMSSZ)."""
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{self.scope(moment[:8])}\n{digest}"
        return hmac.digest(self.signing_key(moment[:8]), to_sign.encode(), "sha256").hex()

    def now(self) -> str:
        """This moment, YYYYMMDDTHHMMSSZ; written once a second, since thousands of requests share it."""
        second = int(self._clock.now())
        if second != self._second:
            self._second, self._moment = second, datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")
        return self._moment

    def headers(self, method: str, host: str, path: str, headers: Mapping[str, str], query: str = "") -> dict[str, str]:
        """The headers of a request with an Authorization; *path* and *query* are quoted, *query* sorted."""
        moment = self.now()
        signed = {"x-amz-content-sha256": UNSIGNED_PAYLOAD, "x-amz-date": moment, **headers}
        canonical = {"host": host, **{name.lower(): value for name, value in signed.items()}}
        names = sorted(canonical)
        lines = "".join([f"{name}:{canonical[name]}\n" for name in names])
        listed = ";".join(names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{signed['x-amz-content-sha256']}"
        signed["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.credential(moment[:8])}, SignedHeaders={listed}, "
            f"Signature={self.signature(request, moment)}"
        )
        return signed


class Presigner:
    """Makes URLs that carry their own permission, for whoever is to open them: a radiologist's browser.

    They are signed over the host of *endpoint_url*, so that has to be the name under which a browser reaches
    the store, whatever name the gateway itself uses (field note 20).
    """

    def __init__(
        self, *, endpoint_url: str, region: str, bucket: str, credentials: Credentials, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
            raise ValueError(f"not an endpoint URL: {endpoint_url!r}; a path in front of the bucket cannot be signed")
        default = f":{443 if parts.scheme == 'https' else 80}"
        self._host = parts.netloc.removesuffix(default)
        self._base = f"{parts.scheme}://{self._host}"
        self._prefix = f"/{bucket}/"
        self._signer = Signer(credentials, region, clock=clock)

    def get_urls(self, keys: Sequence[str], *, expires_in: int, now: datetime | None = None) -> list[str]:
        """A GET URL for each key, in that order, valid for *expires_in* seconds."""
        return self._urls("GET", keys, expires_in, now)

    def put_url(self, key: str, *, expires_in: int, now: datetime | None = None) -> str:
        """A PUT URL for *key*, valid for *expires_in* seconds."""
        return self._urls("PUT", (key,), expires_in, now)[0]

    def _urls(self, method: str, keys: Sequence[str], expires_in: int, now: datetime | None) -> list[str]:
        if not 0 < expires_in <= MAX_EXPIRY:
            raise ValueError(f"a presigned URL lives 1 to {MAX_EXPIRY} seconds, not {expires_in}")
        moment = now.strftime("%Y%m%dT%H%M%SZ") if now is not None else self._signer.now()
        query = _presigned_query(self._signer, moment, expires_in)
        before = f"{method}\n{self._prefix}"
        after = f"\n{query}\nhost:{self._host}\n\nhost\n{UNSIGNED_PAYLOAD}"
        to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{self._signer.scope(moment[:8])}\n".encode()
        begun = hmac.new(self._signer.signing_key(moment[:8]), to_sign, "sha256")
        url, tail = self._base + self._prefix, f"?{query}&X-Amz-Signature="
        urls = []
        for key in keys:
            path = path_of(key)
            signature = begun.copy()
            signature.update(hashlib.sha256(f"{before}{path}{after}".encode()).hexdigest().encode())
            urls.append(f"{url}{path}{tail}{signature.hexdigest()}")
        return urls


class PresignedCheck:
    """Tells presigned URLs that were made with our own key from all others, before anybody else is bothered."""

    def __init__(self, credentials: Credentials, region: str, bucket: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._signer = Signer(credentials, region)
        self._prefix = f"/{bucket}/"
        self._clock = clock

    def allows(self, method: str, host: str, key: str, query: str) -> bool:
        """Whether *query*, as it stands in the URL, opens *key* to *method* under the name *host* now."""
        if query.count("&") > _MOST_FIELDS:
            return False
        found = dict(pairs := parse_qsl(query, keep_blank_values=True))
        signature = found.pop("X-Amz-Signature", "")
        moment, expires = found.get("X-Amz-Date", ""), found.get("X-Amz-Expires", "")
        if not (_MOMENT.fullmatch(moment) and _SECONDS.fullmatch(expires) and signature.isascii()):
            return False
        # Nothing but what we write: what a store would take besides (sub-resources, other headers) was not signed.
        ours = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": self._signer.credential(moment[:8]),
            "X-Amz-Date": moment,
            "X-Amz-Expires": expires,
            "X-Amz-SignedHeaders": "host",
        }
        if len(pairs) != len(ours) + 1 or found != ours:
            return False
        try:
            began = _seconds(moment)
            path = f"{self._prefix}{path_of(key)}"
        except ValueError:
            return False
        now = self._clock.now()
        if not (began - MAX_SKEW <= now < began + int(expires) and 0 < int(expires) <= MAX_EXPIRY):
            return False
        signed = _presigned_query(self._signer, moment, int(expires))
        request = f"{method}\n{path}\n{signed}\nhost:{host}\n\nhost\n{UNSIGNED_PAYLOAD}"
        return hmac.compare_digest(self._signer.signature(request, moment), signature)


@functools.lru_cache(maxsize=1024)
def _seconds(moment: str) -> float:
    """Unix seconds of YYYYMMDDTHHMMSSZ. Kept, since the URLs of an answer share it. Raises ValueError."""
    return datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _presigned_query(signer: Signer, moment: str, expires_in: int) -> str:
    """All of a presigned URL's query but for the signature."""
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(signer.credential(moment[:8]), safe='')}"
        f"&X-Amz-Date={moment}&X-Amz-Expires={expires_in}&X-Amz-SignedHeaders=host"
    )
