"""Traces of what the gateway does, sent by OpenTelemetry where the configuration or the environment names a collector.

Only here is a library of OpenTelemetry's used, and only then is it loaded. A span has the ids that the log has
(webhook, event, study, association, job) and never what an error said: that may quote the other side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.app.errors import Misconfigured
from gateway.config import Config
from gateway.runtime import PARENT, Part, in_thread, trace_by

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

NAMED_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables of OpenTelemetry's own that name a collector."""

STOPS_WITHIN = 2.0
"""Seconds in which the last spans may still be sent."""


def telemetry(config: Config) -> list[Part]:
    """What sends traces; nothing where none are wanted. Raises Misconfigured."""
    endpoint = config.telemetry.otlp_endpoint
    if endpoint is None and not any(os.environ.get(name) for name in NAMED_BY):
        return []
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as e:
        raise Misconfigured(
            "telemetry.otlp_endpoint: traces need the extra otel: pip install 'avara-gateway[otel]', or leave this out"
        ) from e
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces") if endpoint else OTLPSpanExporter()
    provider = traced(BatchSpanProcessor(exporter))

    async def stop() -> None:
        trace_by(None)
        await in_thread(provider.shutdown)

    return [Part("traces", stop=stop, within=STOPS_WITHIN)]


def traced(processor: SpanProcessor) -> TracerProvider:
    """From now on *processor* is given each span."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "avara-gateway"), "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("avara-gateway", __version__)
    propagator = TraceContextTextMapPropagator()

    @contextmanager
    def begin(name: str, ids: Mapping[str, str]) -> Iterator[str]:
        # What was begun elsewhere knows its parent by what is bound; what goes on in the same task by itself.
        within = trace.get_current_span().get_span_context().is_valid
        context = propagator.extract({PARENT: ids[PARENT]}) if PARENT in ids and not within else None
        attributes = {f"avara_gateway.{key}": value for key, value in ids.items() if key != PARENT}
        with tracer.start_as_current_span(
            name, context, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            carrier: dict[str, str] = {}
            propagator.inject(carrier)
            try:
                yield carrier[PARENT]
            except BaseException as e:
                span.set_status(trace.Status(trace.StatusCode.ERROR, type(e).__name__))
                raise

    trace_by(begin)
    return provider
