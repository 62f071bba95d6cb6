"""WADO-RS: instances by HTTP, streamed out of a multipart answer (PS3.18 §10.4, §8.7.4).

Each part is a Part 10 file. Its file meta information says how the data set is encoded; the data set goes on
unaltered, in memory while it is small and through an unnamed file above that, as what a C-STORE brings does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from urllib.parse import quote

from gateway.dicom import (
    EXPLICIT_LITTLE_ENDIAN,
    FileMeta,
    MalformedDataSet,
    is_uid,
    is_usable,
    read_elements,
    read_file_meta,
    string,
    tags,
)
from gateway.pacs import (
    Body,
    Claim,
    IncomingInstance,
    InstanceHandler,
    OnRefused,
    PacsError,
    PacsUnreachable,
    ProtocolViolation,
    Sender,
)
from gateway.pacs.dicomweb.multipart import MalformedMultipart, Mark, MultipartReader
from gateway.pacs.dicomweb.service import DicomWeb
from gateway.pacs.scp import log_refused
from gateway.pacs.scu import Selection
from gateway.pacs.upper import SPOOL_ABOVE, DataSetTooLarge, Spool
from gateway.runtime import Spools

log = logging.getLogger(__name__)

ANY_SYNTAX = "*"


START = 64 * 1024
"""Bytes of a data set; its SOP class is among its first elements."""


class WadoRetriever:
    """Fetches from a DICOMweb service."""

    method = "WADO-RS"
    comes_apart = False
    remedy = "see that dicomweb_url is the root of its DICOMweb service and that our user may read studies"

    def __init__(
        self,
        web: DicomWeb,
        *,
        sender: Sender,
        spools: Spools,
        uncompressed_only: bool = False,
        on_refused: OnRefused = log_refused,
    ) -> None:
        """*sender* names the two of us as DIMSE does; *spools* takes large instances, and says how large; *on_refused*
        is told of those that are larger."""
        self._on_refused = on_refused
        self._web = web
        self._sender = sender
        self._spools = spools
        syntax = EXPLICIT_LITTLE_ENDIAN if uncompressed_only else ANY_SYNTAX
        self._accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'

    async def retrieve(
        self,
        selection: Selection,
        *,
        turn: Claim,
        deliver: InstanceHandler,
        last_arrival: Callable[[], float],
        total_limit: float,
    ) -> None:
        """As :class:`~gateway.pacs.scu.retrieve.Retriever` has it."""
        path = f"/studies/{_quoted(selection.study_instance_uid)}"
        paths = [path]  # of the whole study, too, for a series without a UID: no other path leads to it (PS3.18 §10.4)
        if selection.series_instance_uid:
            path += f"/series/{_quoted(selection.series_instance_uid)}"
            paths = [f"{path}/instances/{_quoted(uid)}" for uid in selection.sop_instance_uids] or [path]
        sender = replace(self._sender, answers=selection.study_instance_uid, by=self.method)
        try:
            async with asyncio.timeout(total_limit):
                # One that fails says nothing of the others.
                ended = await asyncio.gather(
                    *(self._fetch(p, turn, sender, deliver) for p in paths), return_exceptions=True
                )
        except TimeoutError as e:
            raise PacsUnreachable(f"{self._web.peer}: what took over {total_limit:g} s was given up") from e
        for failure in ended:
            if failure is not None:
                raise failure

    async def _fetch(self, path: str, turn: Claim, sender: Sender, deliver: InstanceHandler) -> None:
        peer = self._web.peer
        async with self._web.get(path, turn, accept=self._accept, within=peer.timeouts.idle) as answer:
            boundary = _boundary(answer.headers.get("Content-Type", ""))
            if not boundary:
                raise ProtocolViolation(
                    f"{peer} answers a retrieve with {answer.content_type} instead of multipart/related: is "
                    "dicomweb_url the root of its DICOMweb service, such as https://pacs/dicom-web?"
                )
            reader = MultipartReader(boundary)
            part = _Part(self._spools)
            unreadable = 0
            try:
                async for data in self._web.chunks(answer):
                    for event in reader.feed(data):
                        if event is Mark.BEGIN:
                            part = _Part(self._spools)
                        elif event is Mark.END:
                            unreadable += not await self._take(part, sender, deliver)
                        else:
                            await part.add(event)
            except MalformedMultipart as e:
                raise ProtocolViolation(f"{peer}: an answer that is no multipart body: {e}") from e
            finally:
                part.close()
        if not reader.finished:
            raise PacsUnreachable(f"{peer} ended its answer before it was whole")
        if unreadable:
            raise ProtocolViolation(f"{peer} sent {unreadable} parts that are no DICOM files")

    async def _take(self, part: _Part, sender: Sender, deliver: InstanceHandler) -> bool:
        """Hands a whole part on, unless it is larger than what is taken; False where it is no instance. Raises
        PacsError where there is no room for it."""
        meta = part.meta
        if meta is None:
            log.warning("%s: a part is no DICOM file: %s", self._web.peer, part.fault or "it ends too early")
            return False
        try:
            body = await part.body()
        except DataSetTooLarge as e:
            uid = meta.sop_instance_uid if is_usable(meta.sop_instance_uid) else ""
            self._on_refused(sender, uid, f"{e.strerror}: raise dicom.max_instance_size where it is to be taken")
            return True
        except OSError as e:
            raise NoSpoolSpace(f"what {self._web.peer} sends cannot be written to state_dir/spool: {e.strerror}") from e
        # Without one, it can only be the syntax that WADO-RS has where none is asked for (PS3.18 §8.7.3.5.2).
        syntax = meta.transfer_syntax_uid if is_uid(meta.transfer_syntax_uid) else EXPLICIT_LITTLE_ENDIAN
        await deliver(
            IncomingInstance(
                sop_class_uid=meta.sop_class_uid if is_usable(meta.sop_class_uid) else _sop_class(body, syntax),
                sop_instance_uid=meta.sop_instance_uid if is_usable(meta.sop_instance_uid) else "",
                transfer_syntax_uid=syntax,
                calling_ae_title=sender.calling_ae_title,
                called_ae_title=sender.called_ae_title,
                peer_host=sender.host,
                body=body,
                answers=sender.answers,
                by=sender.by,
            )
        )
        return True


class NoSpoolSpace(PacsError):
    """A large instance found no room on our own disk."""


class _Part:
    """One part on its way: its file meta information is read, its data set collected."""

    def __init__(self, spools: Spools) -> None:
        self._head = bytearray()
        self._spool = Spool(spools, spool_above=SPOOL_ABOVE)
        self._left, self._largest = spools.largest, spools.largest
        self.meta: FileMeta | None = None
        self.fault = ""
        """Why it is no Part 10 file."""

    async def add(self, data: memoryview) -> None:
        """Takes the next bytes. Raises MalformedMultipart where they have no end."""
        if self.fault:
            return
        if self.meta is None:
            self._head += data
            try:
                self.meta = read_file_meta(memoryview(bytes(self._head)), needs_preamble=False)
            except MalformedDataSet as e:
                self.fault = str(e)
            if self.meta is None:
                return
            data = memoryview(self._head)[self.meta.data_offset :]
        self._left -= len(data)
        if self._left < -self._largest:
            raise MalformedMultipart("an instance without an end")
        if self._left < 0:
            self._spool.refuse(DataSetTooLarge(self._largest))
        elif self._spool.add(data):
            await self._spool.flush()

    async def body(self) -> Body:
        """The data set. Raises OSError where it could not be written."""
        if self._spool.in_file:
            await self._spool.flush()
        return self._spool.body()

    def close(self) -> None:
        """Throws away what was not handed out."""
        self._spool.close()


def _sop_class(body: Body, transfer_syntax_uid: str) -> str:
    """The SOP Class UID that the data set has, where the file meta information lacks it."""
    try:
        found = read_elements(body.head(START), transfer_syntax_uid, {tags.SOP_CLASS_UID})
    except MalformedDataSet:
        return ""
    return string(found.get(tags.SOP_CLASS_UID))


def _quoted(uid: str) -> str:
    return quote(uid, safe="")


def _boundary(content_type: str) -> str:
    """The boundary parameter of a multipart/related Content-Type; empty where it is none, or has none fit for use."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary("")
    fits = message.get_content_type() == "multipart/related" and 0 < len(boundary) <= 200 and boundary.isascii()
    return boundary if fits else ""
