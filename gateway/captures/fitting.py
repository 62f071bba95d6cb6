"""Makes an upload an object of its study, by what the PACS says of that; or says that it is none (PS3.3 C.12.1)."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.captures import amend, identity
from gateway.captures.accept import OTHER_PATIENT
from gateway.captures.envelope import Unacceptable
from gateway.captures.examine import Upload
from gateway.journal import TryLater
from gateway.pacs import PacsError
from gateway.pacs.scu import Records, StudyRecord
from gateway.runtime import Clock

STATED_FOR = 2.0
"""Seconds for which the PACS's word on a study is not asked for again, while captures of the study come in a row."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """What the PACS said of a study."""

    record: StudyRecord
    at: float
    """Monotonic seconds, from before it was asked."""


class Fitting:
    """What the PACS say of studies, and what becomes of uploads by it."""

    def __init__(self, records: Records, clock: Clock, *, coerce_patient: bool) -> None:
        """*coerce_patient*: a capture of another patient takes the PACS's patient attributes; else it is held."""
        self._records = records
        self._clock = clock
        self._coerce_patient = coerce_patient
        self._statements: dict[str, _Statement] = {}

    async def make_fit(self, upload: Upload, study_instance_uid: str, *, accepted: bool) -> list[str]:
        """Makes an object one of its study; what was changed, by keyword. *accepted*: an operator has decided that it
        is the study's patient's. Raises TryLater, Unacceptable.

        What it said for another capture of the study less than :data:`STATED_FOR` ago counts for this one where that is
        of the same patient. None is held by it, nor given another patient: before that the PACS is asked anew."""
        now = self._clock.monotonic()
        known = self._statements.get(study_instance_uid)
        if known is not None and now - known.at < STATED_FOR and not accepted and _of_one_patient(upload, known.record):
            return self._amend(upload, known.record, accepted=False)
        asked = await self._record(study_instance_uid)
        self._statements = {uid: r for uid, r in self._statements.items() if now - r.at < STATED_FOR}
        self._statements[study_instance_uid] = _Statement(asked, now)
        return self._amend(upload, asked, accepted=accepted)

    async def _record(self, study_instance_uid: str) -> StudyRecord:
        """What the PACS says of the study. Raises TryLater, Unacceptable."""
        try:
            record = await self._records.find(study_instance_uid)
        except PacsError as e:
            raise TryLater(f"whose study it is cannot be asked: {e}") from e
        if record is None:
            raise Unacceptable("its study is in no PACS any more")
        return record

    def _amend(self, upload: Upload, record: StudyRecord, *, accepted: bool) -> list[str]:
        """As :meth:`make_fit`, by what the PACS said. Raises Unacceptable."""
        attributes = upload.attributes
        try:
            different = identity.differences(amend.patient_of(attributes), amend.patient_in(record))
            coerced = []
            if different:
                if not (self._coerce_patient or accepted):
                    raise Unacceptable(f"{OTHER_PATIENT}: {', '.join(different)} differ")
                coerced = amend.coerce_patient(attributes, record)
            filled = amend.fill(attributes, record)
            changed = [*upload.mended, *(f"set {k} from the PACS" for k in (*coerced, *filled))]
            if changed:
                amend.sign(attributes, "; ".join(changed))
        except Unacceptable:
            raise
        except Exception as e:  # pydicom meets a stranger's values
            raise Unacceptable(f"its attributes cannot be read ({type(e).__name__})") from e
        return changed


def _of_one_patient(upload: Upload, record: StudyRecord) -> bool:
    try:
        return not identity.differences(amend.patient_of(upload.attributes), amend.patient_in(record))
    except Exception:  # pydicom meets a stranger's values; what is wrong is told when they are amended
        return False
