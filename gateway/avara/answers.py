"""What the gateway answers (docs/contract.md: Answers). Absent keys are left out, never null."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, validate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> bytes:
        """The body to send."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)

    @property
    def outcome(self) -> str:
        """What it comes to, in words for an operator."""
        return "answered"

    @property
    def trouble(self) -> bool:
        """Whether somebody may want to know why it is no better."""
        return False


class SopManifest(Answer):
    """An instance in a manifest. Geometry is required for image SOPs, and absent for others."""

    model_config = ConfigDict(alias_generator=None)

    sopInstanceUID: str  # noqa: N815  (the contract's spelling, here and below)
    sopClassUID: str  # noqa: N815
    rows: int | None = None
    columns: int | None = None
    bitsAllocated: int | None = None  # noqa: N815
    samplesPerPixel: int | None = None  # noqa: N815
    photometricInterpretation: str | None = None  # noqa: N815
    bitsStored: int | None = None  # noqa: N815
    highBit: int | None = None  # noqa: N815
    pixelRepresentation: int | None = None  # noqa: N815
    instanceNumber: int | None = None  # noqa: N815
    numberOfFrames: int | None = None  # noqa: N815
    rescaleSlope: float | None = None  # noqa: N815
    rescaleIntercept: float | None = None  # noqa: N815
    isFloatPixelData: bool | None = None  # noqa: N815
    isDoubleFloatPixelData: bool | None = None  # noqa: N815


class SeriesManifest(Answer):
    """A series in a manifest, its instances in reading order."""

    model_config = ConfigDict(alias_generator=None)

    seriesInstanceUID: str  # noqa: N815
    modality: str
    seriesDescription: str  # noqa: N815
    seriesNumber: int | str  # noqa: N815
    sops: Sequence[SopManifest]


class Manifest(Answer):
    """What lets the viewer scroll before every file is parsed; series in reading order."""

    model_config = ConfigDict(alias_generator=None)

    studyInstanceUID: str  # noqa: N815
    series: Sequence[SeriesManifest]

    @cached_property
    def as_json(self) -> bytes:
        """As it stands in an answer; made once, however often its study is asked for."""
        return self.to_json()


class MediaUrl(Answer):
    """Something of the study that is not DICOM."""

    mime_type: str
    url: str
    file_name: str | None = None


class StudyAccess(Answer):
    """The answer to ``study.access_requested``."""

    authorized: bool
    urls: Sequence[str] = ()
    error: str | None = None
    media_urls: Sequence[MediaUrl] | None = None
    manifest: Manifest | None = None
    deferred: int = Field(0, exclude=True)
    """How many of the URLs are of instances that are still on their way."""
    cached: bool = Field(False, exclude=True)
    """Whether the study was there whole before it was asked for."""

    def to_json(self) -> bytes:
        """As :class:`Answer` has it."""
        rest: bytes = self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True, exclude={"manifest"})
        return rest if self.manifest is None else b'%b,"manifest":%b}' % (rest[:-1], self.manifest.as_json)

    @property
    def outcome(self) -> str:
        """As :class:`Answer` has it."""
        if not self.authorized:
            return f"not authorized: {self.error}"
        urls = f"authorized, {len(self.urls)} URLs, {self.deferred} of them deferred"
        urls += ", from the cache" if self.cached else ""
        return f"{urls}: {self.error}" if self.error else urls

    @property
    def trouble(self) -> bool:
        """As :class:`Answer` has it."""
        return self.error is not None


class SecondaryCaptureAccess(Answer):
    """The answer to ``secondary_capture.access_requested``."""

    authorized: bool
    upload_urls: Sequence[str] = ()
    error: str | None = None

    @property
    def outcome(self) -> str:
        """As :class:`Answer` has it."""
        return f"{len(self.upload_urls)} upload URL" if self.authorized else f"not authorized: {self.error}"

    @property
    def trouble(self) -> bool:
        """As :class:`Answer` has it."""
        return not self.authorized


class ReportAcknowledged(Answer):
    """The answer to ``report.delivered``: it is kept."""

    success: bool = True

    @property
    def outcome(self) -> str:
        """As :class:`Answer` has it."""
        return "acknowledged: it is kept"
