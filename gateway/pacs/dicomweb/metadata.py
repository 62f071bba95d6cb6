"""WADO-RS metadata: all that a DICOMweb service tells of a study's instances, but for bulk data (PS3.18 §10.4.1.1.2).

Far more than a list tells, and far dearer for the PACS: to notice what was replaced under its own UID, when nobody
waits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from urllib.parse import quote

from gateway.dicom import is_usable, tags
from gateway.pacs import Claim, Lane, PacsUnreachable, ProtocolViolation, background
from gateway.pacs.dicomweb.json_model import detail, first_value
from gateway.pacs.dicomweb.service import JSON, DicomWeb
from gateway.runtime import in_thread

MAX_ANSWER = 32 * 1024 * 1024
"""Bytes of the metadata of one series: some 3000 instances with 10 KB each."""

WITHIN = 150.0
"""Seconds for all of a study; Orthanc opens each file for it."""


class Metadata:
    """Asks one DICOMweb service for metadata."""

    def __init__(self, web: DicomWeb) -> None:
        self._web = web

    async def details(self, study_instance_uid: str, series_instance_uids: Collection[str]) -> dict[str, str]:
        """By SOP Instance UID, a few letters that stand for all that it tells of the instance: others mean that it was
        replaced, or that its database was corrected. Raises PacsError."""
        study = f"/studies/{quote(study_instance_uid, safe='')}"
        paths = [f"{study}/series/{quote(uid, safe='')}/metadata" for uid in series_instance_uids]
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(WITHIN):
                for path in paths if all(series_instance_uids) else [f"{study}/metadata"]:
                    found.update(await in_thread(self._read, await self._ask(path, study_instance_uid)))
        except TimeoutError as e:
            raise PacsUnreachable(f"{self._web.peer}: metadata that took over {WITHIN:g} s were given up") from e
        return found

    async def _ask(self, path: str, study_instance_uid: str) -> bytes:
        claim, peer = Claim(Lane.QUERY, study_instance_uid, background), self._web.peer
        content = bytearray()
        async with self._web.get(path, claim, accept=JSON, within=peer.timeouts.idle) as answer:
            async for data in self._web.chunks(answer):
                content += data
                if len(content) > MAX_ANSWER:
                    raise ProtocolViolation(f"{peer} has more than {MAX_ANSWER} bytes of metadata of one series")
        return bytes(content)

    def _read(self, content: bytes) -> dict[str, str]:
        try:
            found = json.loads(content) if content else []
            told = [a for a in found if isinstance(a, dict)] if isinstance(found, list) else []
            return {uid: detail(a) for a in told if is_usable(uid := first_value(a, tags.SOP_INSTANCE_UID))}
        except (ValueError, RecursionError) as e:
            raise ProtocolViolation(f"{self._web.peer} answers with metadata that are no JSON (PS3.18 F.2)") from e
