"""The configuration of secondary captures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.base import Section
from gateway.config.values import Duration, Size
from gateway.dicom import is_uid


def _sop_class(value: str) -> str:
    if not is_uid(value):
        raise ValueError("not a SOP Class UID: write it like 1.2.840.10008.5.1.4.1.1.7")
    return value


_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CAPTURE_CLASSES = (
    _SECONDARY_CAPTURE, *(f"{_SECONDARY_CAPTURE}.{n}" for n in range(1, 5)),  # single and multi-frame
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
    "1.2.840.10008.5.1.4.1.1.88.59",  # Key Object Selection Document
    *(f"1.2.840.10008.5.1.4.1.1.11.{n}" for n in range(1, 13)),  # Presentation States
)  # fmt: skip
"""What a viewer makes of its own accord. Structured Reports are a clinical statement: they are to be allowed."""


class CapturesConfig(Section):
    """Secondary captures: what the viewer uploads, and how it gets into the PACS."""

    enabled: bool = Field(True, description="Whether upload URLs are given out at all.")
    targets: list[str] = Field([], description="Names of the PACS that captures are stored in. Left out: the first.")
    upload_expiry: Annotated[Duration, Field(ge=60, le=86400)] = Field(
        900.0, description="How long an upload URL works."
    )
    max_size: Annotated[Size, Field(ge=1_000_000)] = Field(512_000_000, description="Largest upload that is taken.")
    allowed_sop_classes: list[Annotated[str, AfterValidator(_sop_class)]] = Field(
        list(CAPTURE_CLASSES), description="SOP Class UIDs that are taken; SR has to be added."
    )
    on_patient_mismatch: Literal["quarantine", "coerce"] = Field(
        "quarantine",
        description="What becomes of a capture whose patient is not the study's: it waits for an operator, or takes "
        "the PACS's patient attributes, which is recorded in it.",
    )
    storage_commitment: bool = Field(
        False, description="Whether the PACS has to commit itself to a capture before it counts as stored."
    )
    keep_after_stored: Duration = Field(86400.0, description="How long our copy is kept once the PACS has it.")
    retry_for: Annotated[Duration, Field(ge=60)] = Field(
        72 * 3600.0, description="How long storing is tried before an operator has to decide."
    )
