"""The DICOM JSON model, in which a DICOMweb service answers (PS3.18 Annex F): studies and instances read out of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from gateway.dicom import is_usable, tags
from gateway.pacs.scu import (
    GEOMETRY,
    NOTHING_ELSE,
    InstanceRef,
    ListedGeometry,
    StudyRecord,
    fingerprint,
    whole_geometry,
)

JsonObject = Mapping[str, Any]
"""One object of it: tag in hexadecimal → VR and values (PS3.18 F.2)."""

_NOT_TELLING = frozenset(
    ("00080005", "00080054", "00080056", "00081190", f"{tags.SOP_CLASS_UID:08X}", f"{tags.SOP_INSTANCE_UID:08X}")
)
"""Attributes that differ where an instance does not: character set, retrieve AE title, availability, retrieve URL; and
what names it."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,10}")


def first_value(found: JsonObject, tag: int) -> str:
    """The first value of an attribute as text, a name as PS3.5 writes it; empty where there is none (PS3.18 F.2.3)."""
    values = values_of(found, tag)
    first = values[0] if values else None
    if isinstance(first, dict):
        groups = [first.get(group) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(g if isinstance(g, str) else "" for g in groups).rstrip("=")
    if isinstance(first, str | int | float) and not isinstance(first, bool):
        return str(first).strip()
    return ""


def values_of(found: JsonObject, tag: int) -> list[Any]:
    """All values of an attribute, as JSON has them; none where there are none (PS3.18 F.2.2)."""
    attribute = found.get(f"{tag:08X}")
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _number(found: JsonObject, tag: int) -> int | None:
    text = first_value(found, tag)
    return int(text) or None if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def instance_ref(found: JsonObject, study_instance_uid: str) -> InstanceRef | None:
    """The instance of the study that *found* describes; None where it names none that can be used."""
    series, uid, sop_class = (
        first_value(found, tag) for tag in (tags.SERIES_INSTANCE_UID, tags.SOP_INSTANCE_UID, tags.SOP_CLASS_UID)
    )
    if first_value(found, tags.STUDY_INSTANCE_UID) not in ("", study_instance_uid) or not is_usable(uid):
        return None
    if series and not is_usable(series):
        return None
    # All that it says, but what tells of the service and not of the instance.
    values = (json.dumps(found[tag], sort_keys=True) for tag in sorted(found) if tag not in _NOT_TELLING)
    return InstanceRef(
        series,
        uid,
        sop_class if is_usable(sop_class) else "",
        fingerprint(series, values),
        first_value(found, tags.MODALITY),
        first_value(found, tags.SERIES_DESCRIPTION),
        _integer(first_value(found, tags.SERIES_NUMBER)),
        _integer(first_value(found, tags.INSTANCE_NUMBER)),
        _geometry(found),
    )


def _geometry(found: JsonObject) -> ListedGeometry | None:
    photometric, *numbers = GEOMETRY
    values = [_integer(first_value(found, tag)) for tag in numbers]
    return whole_geometry(ListedGeometry(first_value(found, photometric), *values))


def detail(found: JsonObject) -> str:
    """A few letters that stand for all that *found* says of an instance, but for what tells of the service and not of
    it, and but for bulk data, of which it says an address only."""
    telling = {tag: _without_addresses(found[tag]) for tag in found if tag not in _NOT_TELLING}
    text = json.dumps(telling, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _without_addresses(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_addresses(one) for key, one in value.items() if key != "BulkDataURI"}
    return [_without_addresses(one) for one in value] if isinstance(value, list) else value


def study_record(found: JsonObject, also: Mapping[str, int] = NOTHING_ELSE) -> StudyRecord:
    """The study that *found* describes; *also* is as with the DIMSE client."""
    return StudyRecord(
        study_instance_uid=first_value(found, tags.STUDY_INSTANCE_UID),
        instances=_number(found, tags.NUMBER_OF_STUDY_RELATED_INSTANCES),
        series=_number(found, tags.NUMBER_OF_STUDY_RELATED_SERIES),
        patient_id=first_value(found, tags.PATIENT_ID),
        patient_name=first_value(found, tags.PATIENT_NAME),
        patient_birth_date=first_value(found, tags.PATIENT_BIRTH_DATE),
        patient_sex=first_value(found, tags.PATIENT_SEX),
        issuer_of_patient_id=first_value(found, tags.ISSUER_OF_PATIENT_ID),
        accession_number=first_value(found, tags.ACCESSION_NUMBER),
        study_id=first_value(found, tags.STUDY_ID),
        study_date=first_value(found, tags.STUDY_DATE),
        study_time=first_value(found, tags.STUDY_TIME),
        study_description=first_value(found, tags.STUDY_DESCRIPTION),
        referring_physician=first_value(found, tags.REFERRING_PHYSICIAN_NAME),
        modalities="\\".join(sorted({str(m).strip() for m in values_of(found, tags.MODALITIES_IN_STUDY)} - {""})),
        availability=first_value(found, tags.INSTANCE_AVAILABILITY).upper(),
        institution=first_value(found, also["institution"]) if "institution" in also else "",
        status=first_value(found, also["status"]) if "status" in also else "",
    )
