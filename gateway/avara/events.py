"""Events that Avara sends (docs/contract.md: Events).

camelCase on the wire, snake_case here. Fields that nobody here knows are ignored, since Avara may add some
at any time; identifiers are opaque. UIDs are checked, since they become keys and queries.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from gateway.dicom import is_uid, is_usable

MAX_ID = 256
"""Characters of an identifier; Avara's have 36."""


def _uid(value: str) -> str:
    if not is_uid(value):
        raise ValueError("not a DICOM UID: digits and dots, 64 characters at most (PS3.5 §9.1)")
    return value


def _optional_uid(value: str | None) -> str | None:
    return _uid(value) if value else None


_STUDY_UID = re.compile(r"[0-9A-Za-z._-]+")


def _study_uid(value: str) -> str:
    if not is_usable(value) or _STUDY_UID.fullmatch(value) is None:
        raise ValueError("not a Study Instance UID, nor usable as one: letters, digits, dots, hyphens, 80 at most")
    return value


def _optional_study_uid(value: str | None) -> str | None:
    return _study_uid(value) if value else None


Uid = Annotated[str, AfterValidator(_uid)]
OptionalUid = Annotated[str | None, AfterValidator(_optional_uid)]
StudyUid = Annotated[str, AfterValidator(_study_uid)]
"""Of a study that is in the PACS: what that has in the place of a UID, letters too, is what has to be asked for."""
OptionalStudyUid = Annotated[str | None, AfterValidator(_optional_study_uid)]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True, validate_by_name=True)


class StudyAccessData(_Wire):
    """Which study somebody wants to read."""

    study_id: Identifier
    study_instance_uid: StudyUid


class StudyAccessRequested(_Wire):
    """``study.access_requested``: to be answered with URLs of every instance."""

    id: Identifier
    type: Literal["study.access_requested"]
    data: StudyAccessData


class SecondaryCaptureAccessData(_Wire):
    """Which object the viewer is about to upload, and to which study."""

    study_id: Identifier
    study_instance_uid: Uid
    series_instance_uid: OptionalUid = None
    sop_instance_uid: OptionalUid = None


class SecondaryCaptureAccessRequested(_Wire):
    """``secondary_capture.access_requested``: to be answered with upload URLs."""

    id: Identifier
    type: Literal["secondary_capture.access_requested"]
    data: SecondaryCaptureAccessData


class ReportDeliveredData(_Wire):
    """A signed report, and where its PDF can be fetched."""

    study_id: Identifier
    report_id: Identifier
    is_critical: bool
    presigned_url: Annotated[str, Field(min_length=1, max_length=8192)]
    plain_text: str | None = None
    study_instance_uid: OptionalStudyUid = None
    external_patient_id: str | None = None


class ReportDelivered(_Wire):
    """``report.delivered``: to be acknowledged once it is kept."""

    id: Identifier
    type: Literal["report.delivered"]
    data: ReportDeliveredData


Event = StudyAccessRequested | SecondaryCaptureAccessRequested | ReportDelivered

_MODELS: dict[str, TypeAdapter[Event]] = {
    "study.access_requested": TypeAdapter(StudyAccessRequested),
    "secondary_capture.access_requested": TypeAdapter(SecondaryCaptureAccessRequested),
    "report.delivered": TypeAdapter(ReportDelivered),
}

TYPES = tuple(_MODELS)
"""The event types that this gateway handles."""


class NotJson(ValueError):
    """The body is no JSON."""


class DoesNotFit(ValueError):
    """The body is JSON and no event of the contract. The text says where, and repeats no value."""


def parse_event(body: bytes) -> Event:
    """The event in a webhook's body. Raises NotJson, DoesNotFit."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise NotJson("the body is not JSON") from e
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(kind, str):
        raise DoesNotFit("an event is an object with id, type and data")
    model = _MODELS.get(kind)
    if model is None:
        raise DoesNotFit(f"this gateway does not handle events of this type; it handles {', '.join(TYPES)}")
    try:
        return model.validate_python(content)
    except ValidationError as e:
        places = (f"{'.'.join(map(str, error['loc'])) or 'event'}: {error['msg']}" for error in e.errors())
        raise DoesNotFit("; ".join(places)) from e
