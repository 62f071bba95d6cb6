"""What the gateway answers (docs/contract.md: Answers). Absent keys are left out, never null."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class WebhookAnswer(BaseModel):
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

    @property
    def opens(self) -> bool:
        """Whether such an answer may give what a stranger must not have, so that no delivery gets two of them."""
        return True


class SopDescription(WebhookAnswer):
    """What a manifest says of an instance that many have in common. Geometry is required for image SOPs, and absent for
    others."""

    model_config = ConfigDict(alias_generator=None)

    sopClassUID: str  # noqa: N815  (the contract's spelling, here and below)
    rows: int | None = None
    columns: int | None = None
    bitsAllocated: int | None = None  # noqa: N815
    samplesPerPixel: int | None = None  # noqa: N815
    photometricInterpretation: str | None = None  # noqa: N815
    bitsStored: int | None = None  # noqa: N815
    highBit: int | None = None  # noqa: N815
    pixelRepresentation: int | None = None  # noqa: N815
    numberOfFrames: int | None = None  # noqa: N815
    rescaleSlope: float | None = None  # noqa: N815
    rescaleIntercept: float | None = None  # noqa: N815
    isFloatPixelData: bool | None = None  # noqa: N815
    isDoubleFloatPixelData: bool | None = None  # noqa: N815


class SopManifest(SopDescription):
    """An instance in a manifest."""

    sopInstanceUID: str  # noqa: N815
    instanceNumber: int | None = None  # noqa: N815


class SeriesManifest(WebhookAnswer):
    """A series in a manifest, its instances in reading order."""

    model_config = ConfigDict(alias_generator=None)

    seriesInstanceUID: str  # noqa: N815
    modality: str
    seriesDescription: str  # noqa: N815
    seriesNumber: int | str  # noqa: N815
    sops: Sequence[SopManifest]


class Manifest(WebhookAnswer):
    """What lets the viewer scroll before every file is parsed; series in reading order."""

    model_config = ConfigDict(alias_generator=None)

    studyInstanceUID: str  # noqa: N815
    series: Sequence[SeriesManifest]


class MediaUrl(WebhookAnswer):
    """Something of the study that is not DICOM."""

    mime_type: str
    url: str
    file_name: str | None = None


class StudyAccess(WebhookAnswer):
    """The answer to ``study.access_requested``."""

    authorized: bool
    urls: Sequence[str] = ()
    error: str | None = None
    media_urls: Sequence[MediaUrl] | None = None
    manifest: bytes | None = None
    """A :class:`Manifest` as it stands in the answer: written once, however often its study is asked for."""
    deferred: int = Field(0, exclude=True)
    """How many of the URLs are of instances that are still on their way."""
    cached: bool = Field(False, exclude=True)
    """Whether the study was there whole before it was asked for."""
    rule: str = Field("", exclude=True)
    """Of the hospital's policy, where that forbids it; for the hospital's own record."""

    def to_json(self) -> bytes:
        """As :class:`WebhookAnswer` has it. URLs are written as they are: nothing in one of ours is escaped in JSON,
        and there may be a hundred thousand."""
        rest = self.__pydantic_serializer__.to_json(
            self, by_alias=True, exclude_none=True, exclude={"urls", "manifest"}
        )[1:-1]
        urls = (b'"', '","'.join(self.urls).encode(), b'"') if self.urls else ()
        manifest = () if self.manifest is None else (b',"manifest":', self.manifest)
        return b"".join((b'{"urls":[', *urls, b"],", rest, *manifest, b"}"))

    @property
    def outcome(self) -> str:
        """As :class:`WebhookAnswer` has it."""
        if not self.authorized:
            return f"not authorized: {self.error}" + (f" ({self.rule})" if self.rule else "")
        urls = f"authorized, {len(self.urls)} URLs, {self.deferred} of them deferred"
        urls += ", from the cache" if self.cached else ""
        return f"{urls}: {self.error}" if self.error else urls

    @property
    def trouble(self) -> bool:
        """As :class:`WebhookAnswer` has it."""
        return self.error is not None


class SecondaryCaptureAccess(WebhookAnswer):
    """The answer to ``secondary_capture.access_requested``."""

    authorized: bool
    upload_urls: Sequence[str] = ()
    error: str | None = None
    key: str = Field("", exclude=True)
    """Of the object that the URL may write; for the hospital's own record."""
    rule: str = Field("", exclude=True)
    """As :attr:`StudyAccess.rule`."""

    @property
    def outcome(self) -> str:
        """As :class:`WebhookAnswer` has it."""
        if self.authorized:
            return f"authorized, an upload URL for {self.key}"
        return f"not authorized: {self.error}" + (f" ({self.rule})" if self.rule else "")

    @property
    def trouble(self) -> bool:
        """As :class:`WebhookAnswer` has it."""
        return not self.authorized


class ReportAcknowledged(WebhookAnswer):
    """The answer to ``report.delivered``: it is kept."""

    success: bool = True

    @property
    def opens(self) -> bool:
        """As :class:`WebhookAnswer` has it: it has no URL, and the same report again changes nothing."""
        return False

    @property
    def outcome(self) -> str:
        """As :class:`WebhookAnswer` has it."""
        return "acknowledged: it is kept"
