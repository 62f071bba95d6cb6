"""STOW-RS: an instance is stored by HTTP, streamed as the only part of a request (PS3.18 §10.5, Annex I).

A status of HTTP says little of one instance: whether it is stored says the answer's list of what was and of what was
not. What neither list names is stored only if the PACS lists it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import quote

import aiohttp

from gateway.dicom import EXPLICIT_LITTLE_ENDIAN, file_header, tags
from gateway.pacs import STORING, Body, OperationFailed, ProtocolViolation, RequestRefused
from gateway.pacs.dicomweb.json_model import JsonObject, first_value, values_of
from gateway.pacs.dicomweb.qido import QidoFinder
from gateway.pacs.dicomweb.service import JSON, DicomWeb
from gateway.pacs.scu import OutgoingInstance, PacsClient, Stored, Transcode, failure_to_store, warning_of
from gateway.runtime import in_thread

PIECE = 256 * 1024
"""Bytes of a data set that are read at a time."""

MAX_ANSWER = 1024 * 1024
"""Bytes; it tells of one instance."""


SYNTAX_NOT_SUPPORTED = 0xC122

_FIXES = {
    400: "cannot read what is stored by STOW-RS: its own log says more, or set its pacs.store to c-store",
    401: "refuses us: are dicomweb_user and its password, or dicomweb_token, right, and may they store?",
    403: "refuses us: are dicomweb_user and its password, or dicomweb_token, right, and may they store?",
    404: "has no place to store: is dicomweb_url the root of its DICOMweb service, such as https://pacs/dicom-web?",
    405: "does not know STOW-RS: set its pacs.store to c-store",
    406: "cannot answer a STOW-RS in JSON: set its pacs.store to c-store",
    409: "stored nothing and does not say why: its own log says more",
    408: "did not get the instance in time: the network to it may be slow",
    413: "takes nothing so large: raise the limit in it, or in the proxy before it",
    415: "does not take DICOM files by STOW-RS: set its pacs.store to c-store",
    501: "does not know STOW-RS: set its pacs.store to c-store",
    507: "has no room left",
}

_READS_IT = (400, 409)
"""What a service answers that has read a request and found nothing in it to store (PS3.18 Table 10.5.3-1)."""


@dataclass(frozen=True, slots=True)
class StowTarget:
    """A PACS that is stored in through its DICOMweb service (a ``Target``)."""

    web: DicomWeb

    @property
    def name(self) -> str:
        """As ``Target`` has it."""
        return self.web.peer.name

    @property
    def committer(self) -> PacsClient | None:
        """None: STOW-RS has no storage commitment of its own."""
        return None

    def __str__(self) -> str:
        return str(self.web.peer)

    async def holds(self, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> bool:
        """As ``Target`` has it, by QIDO-RS."""
        return await QidoFinder(self.web).holds(study_instance_uid, series_instance_uid, sop_instance_uid)

    async def store(self, study_instance_uid: str, instance: OutgoingInstance, transcode: Transcode) -> Stored:
        """As ``Target`` has it. An instance whose transfer syntax the PACS does not take is sent once more without
        compression, as *transcode* gives it."""
        try:
            return await self._store(study_instance_uid, instance)
        except OperationFailed as e:
            if e.status != SYNTAX_NOT_SUPPORTED or instance.transfer_syntax_uid == EXPLICIT_LITTLE_ENDIAN:
                raise
        body = await transcode(EXPLICIT_LITTLE_ENDIAN)
        try:
            other = replace(instance, transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN, body=body)
            return await self._store(study_instance_uid, other)
        finally:
            body.close()

    async def probe(self) -> str:
        """Whether something could be stored, and how that was seen: a request without an instance, of which nothing
        can be stored, is judged by the service and not by whoever lacks it. Raises RequestRefused, PacsUnreachable."""
        boundary = uuid.uuid4().hex
        nothing = f"--{boundary}--\r\n".encode()
        async with self.web.post(
            "/studies",
            STORING,
            _just(nothing),
            size=len(nothing),
            content_type=f'multipart/related; type="application/dicom"; boundary={boundary}',
            accept=JSON,
        ) as answer:
            status = answer.status
        if 200 <= status < 300 or (400 <= status < 500 and (status not in _FIXES or status in _READS_IT)):
            return f"a request without an instance is answered with HTTP status {status}; nothing was stored"
        raise self._refusal(status)

    def _refusal(self, status: int) -> RequestRefused:
        elsewhere = "redirects us: is dicomweb_url right, https instead of http?"
        fix = _FIXES.get(status) or (elsewhere if 300 <= status < 400 else "failed: its own log says more")
        return RequestRefused(f"{self} {fix} (HTTP status {status})", status=status)

    async def _store(self, study_instance_uid: str, instance: OutgoingInstance) -> Stored:
        boundary = uuid.uuid4().hex
        start = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file_header(
            instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid
        )
        end = f"\r\n--{boundary}--\r\n".encode()
        async with self.web.post(
            f"/studies/{quote(study_instance_uid, safe='')}",
            STORING,
            _pieces(start, instance.body, end),
            size=len(start) + instance.body.size + len(end),
            content_type=f'multipart/related; type="application/dicom"; boundary={boundary}',
            accept=JSON,
        ) as answer:
            # Another error is of whoever stands before the PACS, or of the request as a whole: it lists nothing.
            lists = 200 <= answer.status < 300 or answer.status in (400, 409)
            stored = self._judged(answer.status, await self._told(answer) if lists else {}, instance)
        if stored is None and not await self.holds(study_instance_uid, "", instance.sop_instance_uid):
            raise ProtocolViolation(
                f"{self} answers a STOW-RS with HTTP status {answer.status}, neither says that it stored the instance "
                "nor lists it: is dicomweb_url the root of its DICOMweb service, such as https://pacs/dicom-web?"
            )
        return stored or Stored(instance.transfer_syntax_uid)

    def _judged(self, status: int, told: JsonObject, instance: OutgoingInstance) -> Stored | None:
        """What became of it; None where the answer does not tell. Raises OperationFailed, RequestRefused."""
        for failed in (
            item for tag in (tags.FAILED_SOP_SEQUENCE, tags.OTHER_FAILURES_SEQUENCE) for item in _items(told, tag)
        ):
            # It was sent this one only, whatever UID it names.
            raise failure_to_store(str(self), "STOW-RS", _code(failed, tags.FAILURE_REASON))
        if not 200 <= status < 300:
            raise self._refusal(status)
        for item in _items(told, tags.REFERENCED_SOP_SEQUENCE):
            if first_value(item, tags.REFERENCED_SOP_INSTANCE_UID) == instance.sop_instance_uid:
                warned = _code(item, tags.WARNING_REASON)
                return Stored(instance.transfer_syntax_uid, warning_of(warned) if warned else "")
        return None

    async def _told(self, answer: aiohttp.ClientResponse) -> JsonObject:
        """The answer's Store Instances Response Module; nothing where it has none that can be read."""
        content = bytearray()
        async for data in self.web.chunks(answer):
            content += data
            if len(content) > MAX_ANSWER:
                raise ProtocolViolation(f"{self} answers a STOW-RS with more than {MAX_ANSWER} bytes")
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            return {}
        if isinstance(told, list) and len(told) == 1:  # as answers to queries have it
            told = told[0]
        return told if isinstance(told, dict) else {}


async def _just(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _pieces(start: bytes, body: Body, end: bytes) -> AsyncIterator[bytes]:
    yield start
    for at in range(0, body.size, PIECE):
        yield await in_thread(body.read, at, PIECE) if body.spooled else body.read(at, PIECE)
    yield end


def _items(told: JsonObject, tag: int) -> list[JsonObject]:
    return [item for item in values_of(told, tag) if isinstance(item, dict)]


def _code(item: JsonObject, tag: int) -> int | None:
    """A reason; None where it has none."""
    value = next(iter(values_of(item, tag)), None)
    return value if isinstance(value, int) and 0 < value <= 0xFFFF else None
