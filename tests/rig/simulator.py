"""A PACS that misbehaves on command: what the field notes tell of, to be met in a test and not at night.

It is built on pynetdicom, so that it shares no code with the gateway's own DICOM side.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import decode, encode
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from gateway.demo.stand_in import without_reactor
from tests.rig.storage import Storage

SUCCESS, PENDING, UNABLE, UNKNOWN_DESTINATION = 0x0000, 0xFF00, 0xC001, 0xA801
SUBOPERATIONS_FAILED, GAVE_UP = 0xB000, 0xC000

_OF_INSTANCE = ("InstanceNumber", "InstanceCreationDate", "InstanceCreationTime", "NumberOfFrames")
_GEOMETRY = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
             "PhotometricInterpretation", "NumberOfFrames")  # fmt: skip
_OF_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "ReferringPhysicianName", "StudyDate", "StudyTime", "StudyDescription", "InstitutionName", "SOPInstanceStatus",
)  # fmt: skip


@dataclass
class Behaviour:
    """How the simulator misbehaves. The numbers are those of the field notes."""

    delay_per_instance: float = 0.0
    """Seconds before each C-STORE: a slow PACS."""
    silent: bool = False
    """Takes a request and never answers it (5)."""
    silent_moves: bool = False
    """The same for C-MOVEs alone: queries are answered, and so is what is stored (5)."""
    list_limit: int | None = None
    """Answers to one query that it gives at most, with success."""
    series_limit: int | None = None
    """The same, of a query at SERIES level alone."""
    series_counts: bool = False
    """SERIES-level answers have Number of Series Related Instances."""
    study_answer: str = ""
    """STUDY-level answers are ``nameless`` (no Study Instance UID) or ``empty``; else as they should be."""
    takes_no_uid_lists: bool = False
    """Answers nothing where several Study Instance UIDs are asked for at once."""
    ignores_keys: bool = False
    """Answers every query with all that it has, whatever UIDs were asked for."""
    answers_first: float | None = None
    """Ends a C-MOVE with success, and begins to send so many seconds after that."""
    gives_up_at_a_refusal: bool = False
    """Ends a C-MOVE or C-GET with C000 at the first instance that is refused, or that is in ``fail``."""
    empty_series: int = 0
    """So many series of each study are listed, before the others, that have no instance."""
    refuse_calling_ae: bool = False
    """A-ASSOCIATE-RJ: calling AE title not recognized."""
    max_associations: int | None = None
    """Rejects what is over it with "local limit exceeded" (8)."""
    send_nothing: bool = False
    """Says success and sends nothing (1)."""
    move_elsewhere: bool = False
    """Says that it sent, to a port that nobody listens on (7)."""
    counters: str = "right"
    """``right``, ``zero``, ``absent`` or ``high``: the sub-operation counters of a C-MOVE or C-GET (1)."""
    hang_ups: dict[str, int] = field(default_factory=dict)
    """By level: so many queries end with an abort after their first answer."""
    abort_after: int | None = None
    """Aborts the association of a C-MOVE or C-GET after so many instances."""
    no_move: bool = False
    """C-MOVEs fail: a PACS that was told of no destination that it can reach."""
    refuse_scp_role: bool = False
    """Lets nobody be the receiver on an association of their own, as a C-GET needs it (9)."""
    drop: set[str] = field(default_factory=set)
    """SOP Instance UIDs that are not sent, while the answer is success (1, 2)."""
    drops_left: int = 1_000_000
    """How many C-MOVEs or C-GETs drop what is in ``drop``; then it is sent."""
    drops_only_in: str = ""
    """``MOVE`` or ``GET``: the other one drops nothing."""
    fail: set[str] = field(default_factory=set)
    """SOP Instance UIDs whose sub-operation fails, and is counted as failed (1)."""
    no_image_level: str = ""
    """How IMAGE-level queries end: ``fail``, ``empty``, or answered as they should be (3)."""
    no_series_level: bool = False
    """SERIES-level queries fail (3)."""
    no_counts: bool = False
    """STUDY-level answers lack Number of Study Related Instances (3)."""
    counts_series_alone: bool = False
    """They lack it, and have Number of Study Related Series."""
    nameless_parts: bool = False
    """Answers below STUDY level do not say which study, and which series, they are of."""
    coerced_uids: bool = False
    """Lists other UIDs than are in the files that it sends: its database was corrected, they were not (33)."""
    send_twice: bool = False
    """Every instance is sent two times (12)."""
    other_bytes_second_time: bool = False
    """The second time with another Institution Name (12)."""
    other_bytes_each_time: bool = False
    """Every instance is sent with another Institution Name each time, as by a PACS that puts in when it sent it. Not
    one of the worst PACS's habits, since what it sends is then not what it holds."""
    character_set: str | None = None
    """Put into the texts of answers that say ISO_IR 100, whatever its letters are (13)."""
    calling_ae_title: str | None = None
    """Sends under another AE title than its own."""
    send_foreign_instance: bytes | None = None
    """A Part 10 file of another study that it sends along (4)."""
    ignores_time: bool = False
    lists_geometry: bool = False
    """Takes a Study Time that is asked for for the whole day."""
    availability: dict[str, str] = field(default_factory=dict)
    """By Study Instance UID: Instance Availability, where it is not ONLINE. What is NEARLINE is brought by the first
    C-MOVE for it, which takes ``stages_for``."""
    stages_for: float = 0.0
    """Seconds."""
    stages_silently: bool = True
    """Whether a C-MOVE waits for what is being brought; else it fails until that is here."""


def worst() -> Behaviour:
    """The worst PACS in town: every habit at once that a study can still be opened in spite of."""
    return Behaviour(
        counters="zero",
        list_limit=500,
        study_answer="nameless",
        no_counts=True,
        empty_series=1,
        ignores_keys=True,
        answers_first=0.1,
        gives_up_at_a_refusal=True,
        coerced_uids=True,
        send_twice=True,
        character_set="Прочее",
    )


class PacsSimulator:
    """A Query/Retrieve SCP (Study Root) over instances in memory."""

    def __init__(self, ae_title: str = "SIMULATOR") -> None:
        self.ae_title = ae_title
        self.behaviour = Behaviour()
        self.destinations: dict[str, tuple[str, int]] = {}
        """AE title → host and port: what it knows as C-MOVE destinations."""
        self.requests: list[str] = []
        """What it was asked, in order: ``FIND STUDY``, ``MOVE IMAGE 3`` (three UIDs), ``GET SERIES``, …"""
        self.port = 0
        self.coerced: dict[bytes, bytes] = {}
        """What it sent with other UIDs (``coerced_uids``): the data set as sent → the Part 10 file as it is held."""
        self._instances: dict[str, bytes] = {}
        self._headers: dict[str, Dataset] = {}
        """The same, read once; what answers are made of, and never altered."""
        self._staging: dict[str, float] = {}
        self._open = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.storage = Storage(keep=self.add, has=lambda uid: uid in self._instances)
        self._server: Any = None

    def add(self, *files: bytes) -> None:
        """Puts Part 10 files into it."""
        for content in files:
            header = dcmread(BytesIO(content), stop_before_pixels=True)
            with self._lock:
                self._instances[str(header.SOPInstanceUID)] = content
                self._headers[str(header.SOPInstanceUID)] = header

    def remove(self, sop_instance_uid: str) -> None:
        """Takes one instance out of it."""
        with self._lock:
            del self._instances[sop_instance_uid], self._headers[sop_instance_uid]

    def clear(self) -> None:
        """Takes everything out of it."""
        with self._lock:
            self._instances.clear()
            self._headers.clear()

    def instances(self, study_instance_uid: str) -> dict[str, bytes]:
        """What it holds of a study: SOP Instance UID → the Part 10 file."""
        with self._lock:
            return {
                uid: content
                for uid, content in self._instances.items()
                if self._headers[uid].StudyInstanceUID == study_instance_uid
            }

    def as_sent(self, study_instance_uid: str) -> dict[str, bytes]:
        """The same as :meth:`instances`, as it is sent where that is with other UIDs."""
        found = self.instances(study_instance_uid)
        return {uid: coerced(held) for uid, held in found.items()} if self.behaviour.coerced_uids else found

    def start(self) -> None:
        """Listens on a free loopback port."""
        ae = AE(self.ae_title)
        ae.maximum_associations = 1000
        for abstract in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
            StudyRootQueryRetrieveInformationModelGet,
        ):
            ae.add_supported_context(abstract, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._queries = list(ae.supported_contexts)
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_CONN_OPEN, lambda e: self._count(e, 1)),
            (evt.EVT_CONN_CLOSE, lambda e: self._count(e, -1)),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_ACCEPTED, self._accepted),
            *self.storage.handlers(),
        ]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self._server.socket.getsockname()[1]

    def stop(self) -> None:
        """Listens no more, and ends what is under way."""
        self._stopping.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def __enter__(self) -> PacsSimulator:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _count(self, event: Any, by: int) -> None:
        if by >= 0:
            event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open += by

    def _requested(self, event: Any) -> None:
        storage = self.storage.contexts()
        for context in storage:
            context.scu_role, context.scp_role = True, not self.behaviour.refuse_scp_role
        event.assoc.acceptor.supported_contexts = [*self._queries, *storage]
        limit = self.behaviour.max_associations
        rejection = None
        if self.behaviour.refuse_calling_ae:
            rejection = (1, 1, 3)
        elif limit is not None and self._open > limit:
            rejection = (2, 3, 2)
        if rejection is not None:
            event.assoc.acse.send_reject(*rejection)
            event.assoc.kill()

    def _be_silent(self) -> None:
        while self.behaviour.silent and not self._stopping.is_set():
            time.sleep(0.02)

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query, b = event.identifier, self.behaviour
        level = query.QueryRetrieveLevel
        self.requests.append(f"FIND {level}")
        self._be_silent()
        if b.takes_no_uid_lists and not isinstance(query.get("StudyInstanceUID", ""), str):
            return
        if (level == "IMAGE" and b.no_image_level == "fail") or (level == "SERIES" and b.no_series_level):
            yield UNABLE, None
            return
        if level == "IMAGE" and b.no_image_level == "empty":
            return
        most = b.series_limit if level == "SERIES" and b.series_limit is not None else b.list_limit
        for answer in self._answers(query, level)[:most]:
            yield PENDING, answer
            if b.hang_ups.get(level, 0) > 0:
                b.hang_ups[level] -= 1
                event.assoc.abort()
                return

    def _answers(self, query: Dataset, level: str) -> list[Dataset]:
        matching = self._matching(query, finding=True)
        if level == "STUDY":
            groups: dict[str, list[Dataset]] = {}
            for d in matching:
                groups.setdefault(d.StudyInstanceUID, []).append(d)
            answers = [self._study_answer(members) for members in groups.values()]
            how = self.behaviour.study_answer
            for answer in answers:
                if how == "nameless":
                    del answer.StudyInstanceUID
            if how == "empty":  # but for the level, since pynetdicom sends no data set without an element
                answers = [Dataset() for _ in answers]
                for answer in answers:
                    answer.QueryRetrieveLevel = "STUDY"
            return answers
        keyword = "SeriesInstanceUID" if level == "SERIES" else "SOPInstanceUID"
        first: dict[tuple[str, str], Dataset] = {}
        for d in matching:
            first.setdefault((d.StudyInstanceUID, d[keyword].value), d)
        answers = [self._answer(d, level) for d in first.values()]
        return [*self._empty_series(answers), *answers] if level == "SERIES" else answers

    def _empty_series(self, answers: list[Dataset]) -> list[Dataset]:
        empty = [deepcopy(answers[0]) for _ in range(self.behaviour.empty_series)] if answers else []
        for number, answer in enumerate(empty, 1):
            answer.SeriesInstanceUID = f"{answer.StudyInstanceUID}.{number}"[-64:].lstrip(".0")
        return empty

    def _matching(self, query: Dataset, *, finding: bool = False) -> list[Dataset]:
        with self._lock:
            held = list(self._headers.values())
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            wanted = query.get(keyword)
            if wanted and not (self.behaviour.ignores_keys and finding):
                uids = {str(u) for u in ([wanted] if isinstance(wanted, str) else wanted)}
                held = [d for d in held if str(d[keyword].value) in uids]
        if finding and query.QueryRetrieveLevel == "STUDY" and not self.behaviour.ignores_keys:
            held = [d for d in held if self._is_asked_for(d, query)]
        number = query.get("InstanceNumber")
        if finding and number is not None and not self.behaviour.ignores_keys:
            held = [d for d in held if d.get("InstanceNumber") == number]
        return held

    def _is_asked_for(self, d: Dataset, query: Dataset) -> bool:
        """Whether it is of the day, the time of the day and the patient that a query names."""
        for keyword in ("StudyDate", "StudyTime"):
            first, dash, last = str(query.get(keyword) or "").partition("-")
            said = str(d.get(keyword) or "")
            if not first + last or (keyword == "StudyTime" and self.behaviour.ignores_time):
                continue
            if not (first <= said <= last if dash else said == first):
                return False
        return not query.get("PatientID") or query.PatientID == d.get("PatientID")

    def _staged(self, study_instance_uid: str) -> bool:
        """Whether a study is on-line by now; the first who asks for it has it brought."""
        if self.behaviour.availability.get(study_instance_uid) != "NEARLINE":
            return True
        begun = self._staging.setdefault(study_instance_uid, time.monotonic())
        if self.behaviour.stages_silently:
            self._stopping.wait(max(begun + self.behaviour.stages_for - time.monotonic(), 0))
        if time.monotonic() < begun + self.behaviour.stages_for:
            return False
        del self.behaviour.availability[study_instance_uid]
        return True

    def _study_answer(self, members: list[Dataset]) -> Dataset:
        answer = self._answer(members[0], "STUDY")
        answer.ModalitiesInStudy = sorted({d.Modality for d in members})
        answer.InstanceAvailability = self.behaviour.availability.get(answer.StudyInstanceUID, "ONLINE")
        if not self.behaviour.no_counts:
            if not self.behaviour.counts_series_alone:
                answer.NumberOfStudyRelatedInstances = len(members)
            answer.NumberOfStudyRelatedSeries = len({d.SeriesInstanceUID for d in members})
        return answer

    def _answer(self, d: Dataset, level: str) -> Dataset:
        answer = Dataset()
        answer.QueryRetrieveLevel = level
        answer.StudyInstanceUID = d.StudyInstanceUID
        if level != "STUDY":
            answer.SeriesInstanceUID = d.SeriesInstanceUID
        if level == "SERIES" and self.behaviour.series_counts:
            members = [e for e in self._matching(Dataset()) if e.SeriesInstanceUID == d.SeriesInstanceUID]
            answer.NumberOfSeriesRelatedInstances = len(members)
        of_series = ("Modality", "SeriesNumber", "SeriesDescription", "StationName", "InstitutionName",
                     "BodyPartExamined")  # fmt: skip
        of_level = {"SERIES": of_series, "IMAGE": ("InstanceNumber",)}
        for keyword in of_level.get(level, ()):
            if keyword in d:
                setattr(answer, keyword, d[keyword].value)
        if level == "IMAGE":
            answer.SOPInstanceUID, answer.SOPClassUID = d.SOPInstanceUID, d.SOPClassUID
            answer.InstanceNumber = d.get("InstanceNumber")
            if self.behaviour.nameless_parts:
                del answer.SeriesInstanceUID
            for keyword in (*_OF_INSTANCE, *(_GEOMETRY if self.behaviour.lists_geometry else ())):
                setattr(answer, keyword, d.get(keyword))
        if level != "STUDY" and self.behaviour.nameless_parts:
            del answer.StudyInstanceUID
        if level == "STUDY":
            answer.SpecificCharacterSet = d.get("SpecificCharacterSet", "")
            for keyword in _OF_STUDY:
                setattr(answer, keyword, d.get(keyword, ""))
            if self.behaviour.character_set is not None:
                # Bytes that no declared character set explains.
                answer.SpecificCharacterSet = "ISO_IR 100"
                answer.PatientName = f"{d.get('PatientName', '')}^Renée"
                answer.StudyDescription = f"{d.get('StudyDescription', '')} {self.behaviour.character_set}"
        return answer

    def _accepted(self, event: Any) -> None:
        # pynetdicom's own C-MOVE and C-GET services are too well-behaved: they count, connect and answer by themselves.
        assoc, serve = event.assoc, event.assoc._serve_request

        def serve_request(message: Any, context_id: int) -> None:
            if isinstance(message, C_MOVE | C_GET) and message.is_valid_request:
                self._retrieve(assoc, message, context_id)
            else:
                serve(message, context_id)

        assoc._serve_request = serve_request

    def _retrieve(self, assoc: Any, request: C_MOVE | C_GET, context_id: int) -> None:
        b, moving = self.behaviour, isinstance(request, C_MOVE)
        what = "MOVE" if moving else "GET"
        syntax = next(c.transfer_syntax[0] for c in assoc.accepted_contexts if c.context_id == context_id)
        query = decode(request.Identifier, syntax.is_implicit_VR, syntax.is_little_endian)
        uids = query.get("SOPInstanceUID")
        named = 0 if not uids else 1 if isinstance(uids, str) else len(uids)
        self.requests.append(f"{what} {query.QueryRetrieveLevel}" + (f" {named}" if named else ""))
        self._be_silent()
        while moving and b.silent_moves and not self._stopping.is_set():
            time.sleep(0.02)
        response = type(request)()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.AffectedSOPClassUID
        destination = self.destinations.get(request.MoveDestination) if isinstance(request, C_MOVE) else None
        if moving and (destination is None or b.no_move):
            response.Status = UNABLE if b.no_move else UNKNOWN_DESTINATION
            assoc.dimse.send_msg(response, context_id)
            return
        if not self._staged(str(query.StudyInstanceUID)):
            response.Status = 0xA702
            assoc.dimse.send_msg(response, context_id)
            return
        dropping = b.drop if b.drops_left > 0 and b.drops_only_in in ("", what) else set()
        b.drops_left -= 1
        matching = {str(d.SOPInstanceUID) for d in self._matching(query)}
        chosen = [uid for uid in self._instances if uid in matching]
        failed = [uid for uid in chosen if uid in b.fail]
        gives_up = bool(failed) and b.gives_up_at_a_refusal
        if gives_up:
            chosen = chosen[: chosen.index(failed[0])]
        if not b.send_nothing:
            sending = [uid for uid in chosen if uid not in dropping and uid not in b.fail]
            files = [self._instances[uid] for uid in sending]
            if b.answers_first is not None and destination and isinstance(request, C_MOVE):
                self._send_later(b.answers_first, request, destination, files)
                files = []
            done = self._send(request, destination, files) if destination else self._send_back(assoc, request, files)
            if not done:
                assoc.abort()
                return
        self._count_into(response, len([uid for uid in chosen if uid not in b.fail]), len(failed))
        response.Status = SUBOPERATIONS_FAILED if failed and b.counters == "right" else SUCCESS
        if gives_up:
            response.Status = GAVE_UP
        elif failed and b.counters == "right":
            identifier = Dataset()
            identifier.FailedSOPInstanceUIDList = failed
            response.Identifier = BytesIO(encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian) or b"")
        assoc.dimse.send_msg(response, context_id)

    def _send_later(self, seconds: float, request: C_MOVE, destination: tuple[str, int], files: list[bytes]) -> None:
        def send() -> None:
            if not self._stopping.wait(seconds):
                self._send(request, destination, files)

        threading.Thread(target=send, daemon=True).start()

    def push(self, port: int, files: Iterable[bytes], called: str = "AVARAGW") -> set[int]:
        """Sends Part 10 files unasked; the statuses that were answered."""
        datasets = [dcmread(BytesIO(content)) for content in files]
        ae = AE(self.behaviour.calling_ae_title or self.ae_title)
        ae.requested_contexts = _contexts_for(files)
        assoc = ae.associate("127.0.0.1", port, ae_title=called)
        assert assoc.is_established
        try:
            with without_reactor(assoc):
                return {assoc.send_c_store(d).Status for d in datasets}
        finally:
            assoc.release()

    def _count_into(self, response: C_MOVE | C_GET, completed: int, failed: int) -> None:
        counters = self.behaviour.counters
        if counters == "absent":
            return
        if counters == "zero":
            completed = failed = 0
        if counters == "high":
            completed += 1000
        response.NumberOfCompletedSuboperations = completed
        response.NumberOfFailedSuboperations = failed
        response.NumberOfWarningSuboperations = 0

    def _send(self, request: C_MOVE, destination: tuple[str, int], files: list[bytes]) -> bool:
        """C-STOREs Part 10 files to a destination; False where it is to abort."""
        b = self.behaviour
        if b.send_foreign_instance is not None:
            files.append(b.send_foreign_instance)
        host, port = ("127.0.0.1", 1) if b.move_elsewhere else destination
        if not files:
            return True
        ae = AE(b.calling_ae_title or self.ae_title)
        ae.requested_contexts = _contexts_for(files)
        nodelay = [(evt.EVT_CONN_OPEN, lambda e: self._count(e, 0))]
        assoc = ae.associate(host, port, ae_title=request.MoveDestination, evt_handlers=nodelay)
        try:
            with without_reactor(assoc):
                origin = {"originator_aet": self.ae_title, "originator_id": request.MessageID}
                return self._store_all(assoc, files, origin)
        finally:
            if assoc.is_established:
                assoc.release()

    def _send_back(self, assoc: Any, request: C_GET, files: list[bytes]) -> bool:
        """C-STOREs Part 10 files on the association that they were asked for on; False where it is to abort."""
        assoc._is_paused = True  # we are its own thread
        return self._store_all(assoc, files, {})

    def _store_all(self, assoc: Any, files: list[bytes], origin: dict[str, Any]) -> bool:
        b = self.behaviour
        for sent, content in enumerate(files):
            d = dcmread(BytesIO(content))
            if not assoc.is_established or self._stopping.is_set():
                break
            if b.abort_after is not None and sent >= b.abort_after:
                assoc.abort()
                return False
            time.sleep(b.delay_per_instance)
            if b.other_bytes_each_time:
                d.InstitutionName = f"Sent at {time.time_ns()}"
            try:
                with self._as_coerced(assoc, d, content) if b.coerced_uids else nullcontext():
                    status = assoc.send_c_store(d, **origin)
                    if b.send_twice and "Status" in status:
                        if b.other_bytes_second_time:
                            d.InstitutionName = "Sent again"
                        assoc.send_c_store(d)
            except ValueError:  # there is no context for it
                continue
            except RuntimeError:  # the association went while this one slept
                break
            if "Status" not in status:  # the association is gone
                break
        return True

    @contextmanager
    def _as_coerced(self, assoc: Any, dataset: Dataset, held: bytes) -> Iterator[None]:
        """Lets *dataset* have other UIDs than the C-STORE request says that it is of."""
        listed, send = dataset.SOPInstanceUID, assoc.dimse.send_msg

        def send_as_listed(primitive: Any, context_id: int) -> None:
            primitive.AffectedSOPInstanceUID = listed
            with self._lock:
                self.coerced[primitive.DataSet.getvalue()] = held
            send(primitive, context_id)

        _coerce(dataset)
        assoc.dimse.send_msg = send_as_listed
        try:
            yield
        finally:
            assoc.dimse.send_msg = send


COERCED = ".99"
"""What the files' UIDs end with, and those that are listed do not."""


def coerced(part10: bytes) -> bytes:
    """A Part 10 file as it is sent with other UIDs (PS3.10 §7.1: the length of the meta group)."""
    d = dcmread(BytesIO(part10))
    _coerce(d)
    syntax = d.file_meta.TransferSyntaxUID
    data = encode(d, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    return part10[: 144 + int.from_bytes(part10[140:144], "little")] + (data or b"")


def _contexts_for(files: Iterable[bytes]) -> list[PresentationContext]:
    """What an association that sends these Part 10 files asks for."""
    headers = (dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=["SOPClassUID"]) for content in files)
    contexts = dict.fromkeys((d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in headers)
    return [build_context(sop_class, syntax) for sop_class, syntax in contexts]


def _coerce(dataset: Dataset) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, dataset[keyword].value[-60:].lstrip(".0") + COERCED)
