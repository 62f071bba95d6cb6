"""The simulator's storage side: takes C-STOREs, or does not, and commits itself to what it has (PS3.4 B, J)."""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, build_context, build_role, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"


@dataclass
class StorageBehaviour:
    """How it misbehaves when it is to store."""

    statuses: list[int] = field(default_factory=list)
    """What the next C-STOREs are answered with; after them success. What is not a success is not kept."""
    aborts: int = 0
    """So many C-STOREs are received and answered by an abort."""
    keeps_then_aborts: int = 0
    """So many C-STOREs are kept, and their answers never leave."""
    refuses: set[str] = field(default_factory=set)
    """SOP classes that no context is accepted for."""
    syntaxes: set[str] | None = None
    """Transfer syntaxes that are accepted; None is all."""
    delay: float = 0.0
    """Seconds before the answer to a C-STORE."""
    commitment: str = "new"
    """Storage commitment reports come on a ``new`` association, on the ``same`` one, ``never``, or ``fail``."""


class Storage:
    """What a PACS simulator does as Storage and Storage Commitment SCP."""

    def __init__(self, keep: Callable[[bytes], None], has: Callable[[str], bool]) -> None:
        self.behaviour = StorageBehaviour()
        self.received: list[tuple[str, str]] = []
        """SOP Instance UID and transfer syntax of every C-STORE that came in whole, in order."""
        self.reports_to: tuple[str, str, int] | None = None
        """AE title, host and port that commitment reports go to."""
        self.transactions: list[str] = []
        self._keep, self._has = keep, has

    def contexts(self) -> list[PresentationContext]:
        """What it accepts now."""
        b = self.behaviour
        syntaxes = AllTransferSyntaxes if b.syntaxes is None else sorted(b.syntaxes)
        storage = [copy.copy(c) for c in _contexts(tuple(syntaxes)) if c.abstract_syntax not in b.refuses]
        return [*storage, build_context(StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]

    def handlers(self) -> list[Any]:
        """For pynetdicom."""
        return [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._commit)]

    def _store(self, event: Any) -> int:
        b, request = self.behaviour, event.request
        uid = str(request.AffectedSOPInstanceUID)
        self.received.append((uid, str(event.context.transfer_syntax)))
        time.sleep(b.delay)
        if b.aborts > 0:
            b.aborts -= 1
            event.assoc.abort()
            return 0x0110
        status = b.statuses.pop(0) if b.statuses else 0
        if status == 0 or 0xB000 <= status <= 0xBFFF:
            out = BytesIO()
            d = event.dataset
            d.file_meta = event.file_meta
            dcmwrite(out, d, enforce_file_format=True)
            self._keep(out.getvalue())
        if b.keeps_then_aborts > 0:
            b.keeps_then_aborts -= 1
            event.assoc.abort()
        return status

    def _commit(self, event: Any) -> tuple[int, Dataset | None]:
        asked = event.action_information
        self.transactions.append(str(asked.TransactionUID))
        how = self.behaviour.commitment
        if how != "never":
            report = self._report(asked, fails=how == "fail")
            threading.Thread(target=self._send, args=(event.assoc, report, how == "same"), daemon=True).start()
        return 0, None

    def _report(self, asked: Dataset, *, fails: bool) -> Dataset:
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        good, bad = [], []
        for item in asked.ReferencedSOPSequence:
            if self._has(item.ReferencedSOPInstanceUID) and not fails:
                good.append(item)
            else:
                item.FailureReason = 0x0112
                bad.append(item)
        if good:
            report.ReferencedSOPSequence = Sequence(good)
        if bad:
            report.FailedSOPSequence = Sequence(bad)
        return report

    def _send(self, assoc: Any, report: Dataset, same: bool) -> None:
        time.sleep(0.1)
        event_type = 2 if "FailedSOPSequence" in report else 1
        if same:
            assoc.send_n_event_report(report, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            return
        assert self.reports_to is not None
        title, host, port = self.reports_to
        ae = AE("SIMULATOR")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        out = ae.associate(host, port, ae_title=title, ext_neg=[role])
        if out.is_established:
            out.send_n_event_report(report, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            out.release()


@functools.cache
def _contexts(syntaxes: tuple[str, ...]) -> list[PresentationContext]:
    """Of every storage class. Kept: to build them takes longer than an association."""
    return [build_context(c.abstract_syntax, list(syntaxes)) for c in StoragePresentationContexts if c.abstract_syntax]
