"""Deferred URLs: for instances that are still on their way when the answer has to leave.

Such a URL names an instance that the PACS lists, and carries the gateway's own signature over study, instance
and expiry. Opened, it waits for the instance, then gives the same bytes that a presigned URL would; after a
restart of the gateway it begins the fetch again. Where the PACS is asked series by series, the one that is looked at
goes first. So the answer to a study of any size leaves in time, and the
viewer's first slices load while the last are on their way.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web

from gateway.access import Purpose, Refused
from gateway.objects import ObjectNotFound, ObjectStore, OnOpened, Opened, StoreError, serve_object
from gateway.runtime import SYSTEM_CLOCK, Clock
from gateway.studies import keys
from gateway.studies.cache import StudyCache
from gateway.studies.fetch import Fetcher
from gateway.studies.index import Instance, rejected
from gateway.studies.permission import CANNOT_TELL, StudyPermission
from gateway.web import Cors, WebServer, gone

log = logging.getLogger(__name__)

PATH = "/deferred/{study}/{instance}"

WAIT = 120.0
"""Seconds that a request waits for its instance; browsers give up after a few minutes themselves."""


class DeferredUrls:
    """Makes deferred URLs, and checks them when they come back."""

    def __init__(self, secret: bytes, public_url: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """*secret* has to stay the same over restarts; *public_url* is the gateway's, without a path."""
        self._secret = secret
        self._clock = clock
        self._base = f"{urlsplit(public_url).scheme}://{urlsplit(public_url).netloc}"

    def urls(self, study_instance_uid: str, sop_instance_uids: Sequence[str], *, expires_in: int) -> list[str]:
        """A URL for each instance, valid for *expires_in* seconds."""
        expires = int(self._clock.now()) + expires_in
        study = keys.segment(study_instance_uid)
        prefix = self._base + PATH.split("{", maxsplit=1)[0] + study
        return [
            f"{prefix}/{instance}?expires={expires}&signature={self._sign(study, instance, expires)}"
            for instance in map(keys.segment, sop_instance_uids)
        ]

    def allows(self, study: str, instance: str, expires: str, signature: str) -> bool:
        """Whether these are the parts of a URL that was made here and has not expired; in constant time."""
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 13 and signature.isascii()):
            return False
        right = self._sign(study, instance, int(expires))
        return hmac.compare_digest(right, signature) and self._clock.now() < int(expires)

    def _sign(self, study: str, instance: str, expires: int) -> str:
        message = f"{study}/{instance}/{expires}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


class DeferredInstances:
    """Serves deferred URLs: GET and HEAD, with ranges, and the store's CORS rules."""

    def __init__(
        self,
        urls: DeferredUrls,
        *,
        fetcher: Fetcher,
        cache: StudyCache,
        store: ObjectStore,
        cors: Cors,
        server: WebServer,
        opened: OnOpened,
        permission: StudyPermission,
    ) -> None:
        """*store* has connections of its own for browsers; *opened* is told of each request, however it ended."""
        self._opened = opened
        self._permission = permission
        self._urls = urls
        self._fetcher = fetcher
        self._cache = cache
        self._store = store
        self._cors = cors
        self._server = server

    def routes(self) -> list[web.RouteDef]:
        """What the gateway's HTTP server has to serve."""
        return [web.route("*", PATH, self._handle)]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return self._cors.preflight(request, ("GET", "HEAD"))
        allowed = self._cors.headers(request.headers.get("Origin"))
        if request.method not in ("GET", "HEAD"):
            return _error(405, "GET or HEAD", allowed | {"Allow": "GET, HEAD"})
        parts = request.match_info["study"], request.match_info["instance"]
        study, uid = map(keys.uid_of, parts)
        expires, signature = (request.query.get(name, "") for name in ("expires", "signature"))
        if study is None or uid is None or not self._urls.allows(*parts, expires, signature):
            self._opened(Opened(request.method, "/".join(parts), request.remote or "", 403, 0))
            return _error(403, "this URL has expired, or was altered", allowed)
        key = keys.instance(study, uid)
        try:
            # It was allowed when the URL was given; what holds now is what counts.
            await self._permission.ask(study, Purpose.OPEN)
        except Refused as e:
            status = 403 if e.rule else 503 if str(e) == CANNOT_TELL else 404
            self._opened(Opened(request.method, key, request.remote or "", status, 0))
            return _error(status, str(e), allowed)
        try:
            async with self._cache.pinned(study):
                async with self._server.waiting.take(request.remote or "", gone=gone(request)):
                    instance = await self._instance(study, uid)
                if instance is None:
                    self._opened(Opened(request.method, key, request.remote or "", 404, 0))
                    return _error(404, "the PACS did not deliver this instance, or has it no longer", allowed)
                key = keys.instance(study, uid, instance.revision)
                async with self._server.downloads.take(request.remote or "", gone=gone(request)) as turn:
                    return await serve_object(request, self._store, key, turn, allowed, opened=self._opened)
        except TimeoutError:
            self._opened(Opened(request.method, key, request.remote or "", 504, 0))
            return _error(504, "the instance has not arrived yet; ask again", allowed | {"Retry-After": "5"})
        except ObjectNotFound:
            return _error(404, "this instance is not kept any more; open the study again", allowed)
        except StoreError as e:
            log.warning("deferred instance %s: %s", uid, e)
            if request.writer.output_size:
                raise ConnectionResetError("too late for another status: the browser sees a short body") from e
            return _error(503, "the store is not available now", allowed)

    async def _instance(self, study: str, uid: str) -> Instance | None:
        """The instance, once it is stored; None where its fetch ended without it, and where it is not to be shown.
        Raises TimeoutError."""
        flight = self._fetcher.flight(study)
        if flight is None:
            index = await self._cache.index(study)
            if index is not None and uid in index.instances:
                return None if uid in rejected(index.instances) else index.instances[uid]
            flight = self._fetcher.fetch(study)
        flight.wanted(uid)
        instance = await flight.instance(uid, WAIT)
        return None if uid in flight.rejected else instance


def _error(status: int, text: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=headers)
