"""Facts: which of Avara's studies is which of the PACS's."""

from __future__ import annotations

import logging

from sqlalchemy import bindparam, insert, select, update

from gateway.journal.prepared import Prepared
from gateway.journal.tables import studies
from gateway.journal.transaction import Transaction

log = logging.getLogger(__name__)

_STUDY_OF = Prepared(select(studies.c.study_instance_uid).where(studies.c.study_id == bindparam("avara_id")))
_STUDY_SEEN = Prepared(update(studies).where(studies.c.study_id == bindparam("avara_id")))
_NEW_STUDY = Prepared(insert(studies))


def remember_study(c: Transaction, study_id: str, study_instance_uid: str, now: float) -> None:
    """Avara's *study_id* is this study since *now* (unix seconds). Where it was another one before, the latest word
    counts."""
    known = study_of(c, study_id)
    if known is None:
        c.change(
            _NEW_STUDY,
            {"study_id": study_id, "study_instance_uid": study_instance_uid, "first_seen": now, "last_seen": now},
        )
        return
    if known != study_instance_uid:
        log.warning("study %s was %s and is now %s, as Avara says", study_id, known, study_instance_uid)
    c.change(_STUDY_SEEN, {"avara_id": study_id, "study_instance_uid": study_instance_uid, "last_seen": now})


def study_of(c: Transaction, study_id: str) -> str | None:
    """The Study Instance UID of what Avara calls *study_id*; None where it never asked for it."""
    found: str | None = c.value(_STUDY_OF, {"avara_id": study_id})
    return found
