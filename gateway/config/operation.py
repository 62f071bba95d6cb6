"""The configuration of what operators look at, and of how long it is kept: log, events, canary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.config.base import Origin, Section
from gateway.config.values import Duration
from gateway.dicom import is_uid


def _study(value: str) -> str:
    if not is_uid(value):
        raise ValueError("not a Study Instance UID: write it like 1.2.840.113619.2.55.3")
    return value


class CanaryConfig(Section):
    """A study that is opened again and again as Avara would, through `http.public_url`: people are told when it fails.
    Choose one that stays in the PACS, of a patient who does not exist. Or, as well, a synthetic one, which the gateway
    stores in the PACS itself, with a capture and a report (docs/operate.md)."""

    study_uid: Annotated[str, AfterValidator(_study)] | None = Field(None, description="Its Study Instance UID.")
    synthetic: bool = Field(
        False,
        description="Whether a synthetic study is stored in the PACS, opened, given a capture and a report, and taken "
        "away again.",
    )
    remove: Literal["orthanc", "dcm4chee", "dicomweb"] | None = Field(
        None,
        description="How a PACS is asked to remove the synthetic study, by the service at its `dicomweb_url`: "
        "`orthanc` by Orthanc's own interface beside that, `dcm4chee` by a rejection, `dicomweb` by DELETE. Left out: "
        "it stays there, always the same few objects.",
    )
    every: Annotated[Duration, Field(ge=60)] | None = Field(
        None, description="How often all that is done; left out: only by `avara-gateway test`."
    )
    ca_file: Path | None = Field(
        None, description="PEM file with the authority of the public URL's certificate, where that is the hospital's."
    )

    @model_validator(mode="after")
    def _has_a_study(self) -> CanaryConfig:
        if self.every is not None and self.study_uid is None and not self.synthetic:
            raise ValueError("every needs study_uid, the study that is opened, or synthetic")
        return self


class RetentionConfig(Section):
    """For how long what is over is remembered; objects have settings of their own, where they are used."""

    finished: Annotated[Duration, Field(ge=14 * 86400)] = Field(
        90 * 86400.0,
        description="How long jobs that are done or discarded, and alerts that are over, are remembered. What is "
        "forgotten counts as new where it comes again.",
    )
    reports: Annotated[Duration, Field(ge=90 * 86400)] = Field(
        3 * 365 * 86400.0,
        description="How long it is remembered which reports a study had, since the last of them, and which study "
        "of the PACS is meant by Avara's id, since it was last opened. An addendum that comes later is not known to be "
        "one, unless Avara's API says so.",
    )


class EventsConfig(Section):
    """What is remembered of what happened, for `avara-gateway trace`."""

    keep: Annotated[Duration, Field(ge=3600)] = Field(30 * 86400.0, description="How long events are kept.")


class TelemetryConfig(Section):
    """Traces for OpenTelemetry, by OTLP over HTTP; needs the extra `otel` (docs/metrics.md)."""

    otlp_endpoint: Origin | None = Field(
        None,
        description="The collector, like `http://collector.hospital.example:4318`; left out: what "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` says in the environment, and no traces without.",
    )


class LogConfig(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level that is told.")
    format: Literal["json", "text"] = Field("text", description="`json` for machines, `text` for people.")
