"""A PACS's DICOMweb service: requests to it, and QIDO-RS, which finds studies (PS3.18 §8, §10.6, Annex F).

An alternative to C-FIND where a PACS is reached over HTTP. Retrieving is :mod:`gateway.pacs.dicomweb.wado`, storing
:mod:`gateway.pacs.dicomweb.stow`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp

from gateway.dicom import is_usable
from gateway.pacs import (
    Breaker,
    Claim,
    Lane,
    Lanes,
    PacsUnreachable,
    ProtocolViolation,
    RequestRefused,
    Timeouts,
    Urgent,
    opened,
)
from gateway.pacs.scu import (
    ACCESSION_NUMBER,
    INSTANCE_CREATION_DATE,
    INSTANCE_CREATION_TIME,
    INSTANCE_NUMBER,
    ISSUER_OF_PATIENT_ID,
    MODALITIES_IN_STUDY,
    MODALITY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    REFERRING_PHYSICIAN,
    SERIES_DESCRIPTION,
    SERIES_INSTANCE_UID,
    SERIES_NUMBER,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_DATE,
    STUDY_DESCRIPTION,
    STUDY_ID,
    STUDY_INSTANCE_UID,
    STUDY_INSTANCES,
    STUDY_SERIES,
    STUDY_TIME,
    InstanceList,
    InstanceRef,
    OnFound,
    StudyRecord,
    fingerprint,
    the_one,
)

log = logging.getLogger(__name__)

JSON = "application/dicom+json"

PAGE = 500
"""Instances that are asked for at a time."""

FIRST_PAGE = 100
"""The same at first: what is on it can be retrieved while the others are listed."""

MAX_PAGE = 32 * 1024 * 1024
"""Bytes of one answer in JSON; 500 instances with every attribute that anybody returns are a tenth of it."""

READ = 256 * 1024
"""Bytes that are read from the connection at a time."""

_NOT_TELLING = frozenset(
    ("00080005", "00080054", "00080056", "00081190", f"{SOP_CLASS_UID:08X}", f"{SOP_INSTANCE_UID:08X}")
)
"""Attributes that differ where an instance does not: character set, retrieve AE title, availability, retrieve URL; and
what names it."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")

Answer = Mapping[str, Any]
"""One object of the DICOM JSON model (PS3.18 F.2): tag in hexadecimal → VR and values."""


@dataclass(frozen=True, slots=True)
class WebPeer:
    """A PACS's DICOMweb service as this gateway knows it."""

    name: str
    """The operator's name for the PACS."""
    url: str
    """The root of the service, such as ``https://pacs/dicom-web``."""
    authorization: str = field(default="", repr=False)
    """The Authorization header that requests have; empty: none."""
    max_connections: int = 4
    """Requests at once."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: ssl.SSLContext | None = None
    """None: the authorities that this machine trusts."""

    def __str__(self) -> str:
        return f"PACS {self.name} (DICOMweb at {self.url})"


def basic(user: str, password: str) -> str:
    """The Authorization header for *user* (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer(token: str) -> str:
    """The Authorization header for *token* (RFC 6750)."""
    return f"Bearer {token}"


class Patience:
    """A time limit for an answer that is put off while what is asked is still being sent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._limit: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        self._limit = asyncio.timeout(self.seconds)
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            await limit.__aexit__(kind, error, trace)

    def renew(self) -> None:
        """Begins it anew; nothing once the answer is there, or was given up."""
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self.seconds)


class DicomWeb:
    """Requests to one DICOMweb service; at most ``peer.max_connections`` at once, the others wait their turn."""

    service = "QIDO-RS"
    """By which it finds (a ``Finder``)."""

    def __init__(self, peer: WebPeer, *, stores: bool = False) -> None:
        """*stores*: it is stored in, too."""
        self.peer = peer
        self.breaker = Breaker(str(peer))
        # A turn is kept for each.
        lanes = (Lane.QUERY, Lane.RETRIEVE, Lane.STORE) if stores else (Lane.QUERY, Lane.RETRIEVE)
        self._lanes = Lanes(peer.max_connections, lanes)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- requests

    @asynccontextmanager
    async def get(
        self, path: str, claim: Claim, query: Sequence[tuple[str, str]] = (), *, accept: str, within: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET of *path* below the root, once its header is there, which has *within* seconds.

        Raises PacsUnreachable, RequestRefused; each names the fix.
        """
        asked = partial(self._http.get, self.peer.url + path, params=list(query), headers={"Accept": accept})
        async with self._answer(asked, claim, Patience(within)) as answer:
            self._raise_for_status(answer.status)
            yield answer

    @asynccontextmanager
    async def post(
        self,
        path: str,
        claim: Claim,
        pieces: AsyncIterator[bytes],
        *,
        size: int,
        content_type: str,
        accept: str,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a POST of *pieces*, of *size* bytes in all, whatever its status. They may take long, but the
        service no longer than ``timeouts.respond`` for each, and for its answer.

        Raises PacsUnreachable, which names the fix.
        """
        patience = Patience(self.peer.timeouts.respond)

        async def sent() -> AsyncIterator[bytes]:
            async for piece in pieces:
                patience.renew()
                yield piece
            patience.renew()

        headers = {"Accept": accept, "Content-Type": content_type, "Content-Length": str(size)}
        asked = partial(self._http.post, self.peer.url + path, data=sent(), headers=headers)
        async with self._answer(asked, claim, patience) as answer:
            yield answer

    @asynccontextmanager
    async def _answer(
        self,
        asked: Callable[..., AbstractAsyncContextManager[aiohttp.ClientResponse]],
        claim: Claim,
        patience: Patience,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to what *asked* sends when its turn comes. Raises PacsUnreachable."""
        async with self._lanes.turn(claim), AsyncExitStack() as stack:
            with self.breaker.attempt(claim):
                try:
                    async with patience:
                        answer = await stack.enter_async_context(asked(allow_redirects=False))
                except TimeoutError as e:
                    raise PacsUnreachable(f"{self.peer} did not answer within {patience.seconds:g} s: is it up?") from e
                except aiohttp.ClientSSLError as e:
                    raise PacsUnreachable(
                        f"{self.peer}: no TLS connection: {_tls_reason(e)}; is its authority in dicomweb_ca_file, and "
                        "does its certificate name that host?"
                    ) from e
                except (aiohttp.ClientError, OSError) as e:
                    reason = getattr(e, "strerror", None) or type(e).__name__
                    raise PacsUnreachable(
                        f"{self.peer} cannot be reached ({reason}): is it up, is dicomweb_url right, https or http?"
                    ) from e
                yield answer

    async def chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of *answer* as it comes; not read any faster than it is taken. Raises PacsUnreachable."""
        idle = self.peer.timeouts.idle
        while True:
            try:
                async with asyncio.timeout(idle):
                    data = await answer.content.readany()
            except TimeoutError as e:
                raise PacsUnreachable(f"{self.peer} was silent for {idle:g} s in the middle of an answer") from e
            except (aiohttp.ClientError, OSError) as e:
                raise PacsUnreachable(f"{self.peer} broke off in the middle of an answer ({type(e).__name__})") from e
            if not data:
                return
            yield data

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeouts = self.peer.timeouts
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.peer.max_connections, ssl=self.peer.tls or True),
                # Each request has its own limit for its answer, and an idle limit for what follows.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect),
                headers={"Accept-Encoding": "identity"}
                | ({"Authorization": self.peer.authorization} if self.peer.authorization else {}),
                read_bufsize=READ,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _raise_for_status(self, status: int) -> None:
        if 200 <= status < 300:
            return
        if status in (401, 403):
            fix = "refuses us: are dicomweb_user and its password, or dicomweb_token, right, and may they read studies?"
        elif status == 404:
            fix = "has no such thing: is dicomweb_url the root of its DICOMweb service, such as https://pacs/dicom-web?"
        elif 300 <= status < 400:
            fix = "sends us elsewhere: is dicomweb_url right, https instead of http?"
        elif status in (406, 415):
            fix = "cannot answer in the form that we ask for: choose another method in pacs.retrieve"
        else:
            fix = "failed: its own log says more"
        raise RequestRefused(f"{self.peer} {fix} (HTTP status {status})", status=status)

    # -- QIDO-RS

    async def find_study(self, study_instance_uid: str, *, urgency: Urgent = opened) -> StudyRecord | None:
        """The study; None where the PACS has none. Raises PacsError."""
        wanted = (STUDY_DESCRIPTION, ISSUER_OF_PATIENT_ID, MODALITIES_IN_STUDY)
        fields = [("includefield", f"{tag:08X}") for tag in wanted]
        claim = Claim(Lane.QUERY, study_instance_uid, urgency)
        found, _ = await self._search("/studies", claim, [("StudyInstanceUID", study_instance_uid), *fields])
        return the_one([_record(a) for a in reversed(found) if said(a, STUDY_INSTANCE_UID) == study_instance_uid])

    async def list_studies(self, study_date: str, limit: int) -> list[str]:
        """Study Instance UIDs of up to *limit* studies; *study_date* may be a range. Raises PacsError."""
        query = [("StudyDate", study_date)] if study_date else []
        found, _ = await self._search("/studies", Claim(Lane.QUERY), [*query, ("limit", str(limit))])
        return [uid for a in found if is_usable(uid := said(a, STUDY_INSTANCE_UID))][:limit]

    async def studies_of(self, *, patient_id: str = "", accession_number: str = "") -> list[str]:
        """Study Instance UIDs of the studies that have exactly this. Raises PacsError."""
        wanted = {PATIENT_ID: patient_id, ACCESSION_NUMBER: accession_number}
        query = [(f"{tag:08X}", value) for tag, value in wanted.items() if value]
        found, _ = await self._search("/studies", Claim(Lane.QUERY), query)
        same = (a for a in found if all(said(a, tag) == value for tag, value in wanted.items() if value))
        return [uid for a in same if is_usable(uid := said(a, STUDY_INSTANCE_UID))]

    async def list_instances(
        self,
        study_instance_uid: str,
        on_found: OnFound | None = None,
        *,
        urgency: Urgent = opened,
        counted: int | None = None,
    ) -> InstanceList:
        """Every instance that the PACS lists, page by page; *on_found* is told of them as they come.

        An answer that says that it is not all (``Warning: 299``), or pages that go round in circles, are a list that
        is not complete. Raises PacsError.
        """
        wanted = (
            SOP_CLASS_UID, SOP_INSTANCE_UID, SERIES_INSTANCE_UID, MODALITY, SERIES_DESCRIPTION, SERIES_NUMBER,
            INSTANCE_NUMBER, INSTANCE_CREATION_DATE, INSTANCE_CREATION_TIME,
        )  # fmt: skip
        fields = [("includefield", f"{tag:08X}") for tag in wanted]
        path = f"/studies/{quote(study_instance_uid, safe='')}/instances"
        found: dict[str, InstanceRef] = {}
        offset, partial = 0, False
        while True:
            limit = PAGE if offset else FIRST_PAGE
            page, more = await self._search(
                path,
                Claim(Lane.QUERY, study_instance_uid, urgency),
                [*fields, ("limit", str(limit)), ("offset", str(offset))],
            )
            new = [ref for a in page if (ref := _instance(a, study_instance_uid)) and ref.sop_instance_uid not in found]
            found.update((ref.sop_instance_uid, ref) for ref in new)
            if new and on_found is not None:
                on_found(new)
            if not page and (more or partial):
                return self._incomplete(found, "says that there are more than it lists")
            if not page:  # only this is the end: a short page may be one that was capped without a word
                break
            if not new:
                # One that knows no paging gives everything every time, and that is rarely just what was asked for.
                if len(page) != limit and not more:
                    break
                return self._incomplete(found, "gives the same instances on every page")
            partial = more
            offset += len(page)
        if not found:
            return self._incomplete(found, "lists no instance of the study")
        return InstanceList(tuple(found.values()), True)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """Whether the PACS lists an instance. Raises PacsError."""
        path = f"/studies/{quote(study_instance_uid, safe='')}"
        if series_instance_uid:
            path += f"/series/{quote(series_instance_uid, safe='')}"
        path += "/instances"
        claim = Claim(Lane.QUERY, study_instance_uid)
        found, _ = await self._search(path, claim, [("SOPInstanceUID", sop_instance_uid)])
        return any(said(a, SOP_INSTANCE_UID) == sop_instance_uid for a in found)

    def _incomplete(self, found: Mapping[str, InstanceRef], reason: str) -> InstanceList:
        return InstanceList(tuple(found.values()), False, f"{self.peer} {reason}")

    async def _search(self, path: str, claim: Claim, query: Sequence[tuple[str, str]]) -> tuple[list[Answer], bool]:
        """What matches, and whether the service warns that there is more (PS3.18 §8.3.4.4)."""
        async with self.get(path, claim, query, accept=JSON, within=self.peer.timeouts.respond) as answer:
            content = bytearray()
            async for data in self.chunks(answer):
                content += data
                if len(content) > MAX_PAGE:
                    raise ProtocolViolation(f"{self.peer} answers a query with more than {MAX_PAGE} bytes")
            more = any("299" in warning for warning in answer.headers.getall("Warning", ()))
        if not content:  # 204, no match
            return [], more
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as e:
            raise ProtocolViolation(
                f"{self.peer} answers a query with something else than JSON: is dicomweb_url the root of its DICOMweb "
                "service, such as https://pacs/dicom-web?"
            ) from e
        if not isinstance(found, list):
            raise ProtocolViolation(f"{self.peer} answers a query with something else than a list (PS3.18 F.2)")
        return [a for a in found if isinstance(a, dict)], more


def _tls_reason(e: aiohttp.ClientSSLError) -> str:
    cause = getattr(e, "certificate_error", None) or e.os_error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "it failed")


def said(answer: Answer, tag: int) -> str:
    """The first value of an attribute as text, a name as PS3.5 writes it; empty where there is none (PS3.18 F.2.3)."""
    values = values_of(answer, tag)
    first = values[0] if values else None
    if isinstance(first, dict):
        groups = [first.get(group) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(g if isinstance(g, str) else "" for g in groups).rstrip("=")
    if isinstance(first, str | int | float) and not isinstance(first, bool):
        return str(first).strip()
    return ""


def values_of(answer: Answer, tag: int) -> list[Any]:
    """All values of an attribute, as JSON has them; none where there are none (PS3.18 F.2.2)."""
    attribute = answer.get(f"{tag:08X}")
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _number(answer: Answer, tag: int) -> int | None:
    text = said(answer, tag)
    return int(text) or None if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _instance(answer: Answer, study_instance_uid: str) -> InstanceRef | None:
    series, uid, sop_class = (said(answer, tag) for tag in (SERIES_INSTANCE_UID, SOP_INSTANCE_UID, SOP_CLASS_UID))
    if said(answer, STUDY_INSTANCE_UID) not in ("", study_instance_uid) or not is_usable(uid):
        return None
    if series and not is_usable(series):
        return None
    # All that it says, but what tells of the service and not of the instance.
    values = (json.dumps(answer[tag], sort_keys=True) for tag in sorted(answer) if tag not in _NOT_TELLING)
    return InstanceRef(
        series,
        uid,
        sop_class if is_usable(sop_class) else "",
        fingerprint(series, values),
        said(answer, MODALITY),
        said(answer, SERIES_DESCRIPTION),
        _integer(said(answer, SERIES_NUMBER)),
        _integer(said(answer, INSTANCE_NUMBER)),
    )


def _record(answer: Answer) -> StudyRecord:
    return StudyRecord(
        study_instance_uid=said(answer, STUDY_INSTANCE_UID),
        instances=_number(answer, STUDY_INSTANCES),
        series=_number(answer, STUDY_SERIES),
        patient_id=said(answer, PATIENT_ID),
        patient_name=said(answer, PATIENT_NAME),
        patient_birth_date=said(answer, PATIENT_BIRTH_DATE),
        patient_sex=said(answer, PATIENT_SEX),
        issuer_of_patient_id=said(answer, ISSUER_OF_PATIENT_ID),
        accession_number=said(answer, ACCESSION_NUMBER),
        study_id=said(answer, STUDY_ID),
        study_date=said(answer, STUDY_DATE),
        study_time=said(answer, STUDY_TIME),
        study_description=said(answer, STUDY_DESCRIPTION),
        referring_physician=said(answer, REFERRING_PHYSICIAN),
        modalities="\\".join(sorted({str(m).strip() for m in values_of(answer, MODALITIES_IN_STUDY)} - {""})),
    )
