"""A small PACS in memory, which stands in for Orthanc where that is not installed (PS3.4 Annexes B, C).

It is built on pynetdicom, so that the demo's two sides share no code. Only what the demo needs is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

SUCCESS, PENDING = 0x0000, 0xFF00

_UNIQUE = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_TOLD = {
    "STUDY": (
        "SpecificCharacterSet", "StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
        "AccessionNumber", "StudyID", "ReferringPhysicianName", "StudyDate", "StudyTime", "StudyDescription",
    ),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
}  # fmt: skip


class StandInPacs:
    """A Query/Retrieve and Storage SCP on a free loopback port."""

    ae_title = "STANDIN"

    def __init__(self, *, destination: tuple[str, str, int]) -> None:
        """*destination* is whom it may move to: AE title, host, port."""
        self._destination = destination
        self._instances: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._server: Any = None
        self.port = 0

    def add(self, *files: bytes) -> None:
        """Puts Part 10 files into it."""
        for content in files:
            with self._lock:
                self._instances[str(_header(content).SOPInstanceUID)] = content

    def instances(self, study_instance_uid: str) -> dict[str, bytes]:
        """What it holds of a study: SOP Instance UID → the Part 10 file."""
        with self._lock:
            held = dict(self._instances)
        return {
            uid: content for uid, content in held.items() if _header(content).StudyInstanceUID == study_instance_uid
        }

    def __enter__(self) -> StandInPacs:
        ae = AE(self.ae_title)
        ae.maximum_associations = 100
        for service in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            ae.add_supported_context(service, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_MOVE, self._move), (evt.EVT_C_STORE, self._store)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.socket.getsockname()[1]
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()

    def _matching(self, query: Dataset) -> list[bytes]:
        with self._lock:
            held = list(self._instances.values())
        for keyword in _UNIQUE.values():
            wanted = query.get(keyword)
            if wanted:
                uids = {str(uid) for uid in ([wanted] if isinstance(wanted, str) else wanted)}
                held = [content for content in held if str(_header(content)[keyword].value) in uids]
        return held

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        level = event.identifier.QueryRetrieveLevel
        groups: dict[str, list[Dataset]] = {}
        for content in self._matching(event.identifier):
            header = _header(content)
            groups.setdefault(str(header[_UNIQUE[level]].value), []).append(header)
        for members in groups.values():
            answer = Dataset()
            answer.QueryRetrieveLevel = level
            for keyword in _TOLD[level]:
                setattr(answer, keyword, members[0].get(keyword, ""))
            if level == "STUDY":
                answer.NumberOfStudyRelatedInstances = len(members)
            yield PENDING, answer

    def _move(self, event: Any) -> Iterator[Any]:
        ae_title, host, port = self._destination
        if event.move_destination != ae_title:
            yield None, None  # answered with "move destination unknown"
            return
        data_sets = [dcmread(BytesIO(content)) for content in self._matching(event.identifier)]
        kinds = {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in data_sets}
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(kinds)]
        opened: list[Any] = []  # the association that pynetdicom stores on
        handlers = [(evt.EVT_ACCEPTED, lambda e: opened.append(e.assoc))]
        yield host, port, {"contexts": contexts, "evt_handlers": handlers}
        yield len(data_sets)
        if opened:
            with without_reactor(opened[0]):
                for d in data_sets:
                    yield PENDING, d

    def _store(self, event: Any) -> int:
        self.add(event.encoded_dataset())
        return SUCCESS


def _header(content: bytes) -> Dataset:
    return dcmread(BytesIO(content), stop_before_pixels=True)


@contextmanager
def without_reactor(assoc: Any) -> Iterator[None]:
    """Keeps pynetdicom's own thread off an association while this one sends on it.

    Between two `send_*` calls that thread runs for a moment, and on a busy machine it still does when the next
    response comes in, takes it for an unexpected message and drops it: the sender then waits for its time-out.
    """
    checkpoint = assoc._reactor_checkpoint
    if assoc.is_established:
        checkpoint.clear()
        # The thread says that it pauses in each of its rounds: twice in a row, and it stands at the checkpoint.
        seen, until = 0, time.monotonic() + 10
        while seen < 2 and assoc.is_established and time.monotonic() < until:
            time.sleep(0.01)
            seen = seen + 1 if assoc._is_paused else 0
    assoc._reactor_checkpoint = threading.Event()  # what `send_*` opens and closes from here on; nobody waits at it
    try:
        yield
    finally:
        assoc._reactor_checkpoint = checkpoint
        checkpoint.set()
