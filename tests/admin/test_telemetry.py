"""Traces: what a webhook causes is one trace, with ids and nothing of a patient; without a collector there is none.
Not here: a collector, of which only the request to it is looked at."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.app.errors import Misconfigured
from gateway.app.telemetry import telemetry, traced
from gateway.config import Config
from gateway.demo.sample import sample_study
from gateway.journal import Jobs
from gateway.runtime import bound, current, span, trace_by
from gateway.runtime.log_ids import PARENT, begun_by
from tests.conftest import ended

STUDY, SAMPLE = sample_study()


@pytest.fixture
def spans():
    """What was traced."""
    exporter = InMemorySpanExporter()
    provider = traced(SimpleSpanProcessor(exporter))
    yield exporter.get_finished_spans
    trace_by(None)
    provider.shutdown()


async def test_what_a_webhook_causes_is_one_trace_with_ids_and_nothing_of_a_patient(simulator, start, spans):
    simulator.add(*(i.content for i in SAMPLE))
    gateway = await start(simulator)
    await gateway.ask(STUDY)
    await gateway.quiet()
    [root] = [s for s in spans() if s.name == "study.access_requested"]
    of_it = [s for s in spans() if s.context.trace_id == root.context.trace_id]
    assert {s.name for s in of_it} == {"study.access_requested", "find", "list", "retrieve", "put", "index"}
    assert sum(s.name == "put" for s in of_it) == len(SAMPLE)
    known = {f"avara_gateway.{key}" for key in ("webhook", "event", "study", "association", "job")}
    for one in of_it:
        assert one.attributes["avara_gateway.study"] == STUDY
        assert one.attributes.keys() <= known
        assert not one.events


async def test_a_job_goes_on_with_the_trace_of_the_webhook_that_began_it(simulator, start, spans):
    gateway = await start(simulator)
    data = {
        "studyId": "stu_1", "reportId": "rep_1", "isCritical": False, "presignedUrl": "https://elsewhere.example/r.pdf",
        "studyInstanceUid": STUDY,
    }  # fmt: skip
    await gateway.post({"id": f"whe_{secrets.token_hex(16)}", "type": "report.delivered", "data": data})
    [job] = await ended(Jobs(gateway.parts.journal), "report.fetch", "quarantined")
    [webhook] = [s for s in spans() if s.name == "report.delivered"]
    [worked] = [s for s in spans() if s.name == "report.fetch"]
    assert worked.context.trace_id == webhook.context.trace_id
    assert worked.parent.span_id == webhook.context.span_id
    assert worked.attributes["avara_gateway.job"] == str(job.id)


async def test_one_webhook_is_not_in_the_trace_of_the_one_before_on_its_connection(simulator, start, spans):
    gateway = await start(simulator)
    await gateway.ask("1.2.3")
    await gateway.ask("1.2.4")
    first, second = [s for s in spans() if s.name == "study.access_requested"]
    assert first.context.trace_id != second.context.trace_id


def test_an_error_is_told_by_its_kind_and_not_by_what_it_says(spans):
    with pytest.raises(ValueError, match="Doe"), span("find"):
        raise ValueError("the patient is Doe^Jane")
    [one] = spans()
    assert (one.status.is_ok, one.status.description) == (False, "ValueError")
    assert "Doe" not in one.to_json()


def test_what_says_where_a_trace_goes_on_is_kept_with_jobs_and_never_in_the_log(spans):
    with bound(webhook="msg_1"), span("a"):
        assert current() == {"webhook": "msg_1"}
        assert begun_by().keys() == {"webhook", PARENT}
    assert PARENT not in begun_by()


@pytest.mark.slow
def test_without_a_collector_there_are_no_traces_and_their_library_is_not_loaded():
    trace_by(None)
    assert span("find") is span("put")
    config = Config.model_validate({"pacs": [{"name": "main", "ae_title": "A", "host": "h", "port": 1}]})
    assert telemetry(config) == []
    program = "import sys, gateway.app.run; sys.exit(any('opentelemetry' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


async def test_spans_are_sent_to_the_collector_and_the_last_ones_before_the_end():
    got = []

    async def take(request):
        got.append(await request.read())
        return web.Response()

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    async with TestServer(application) as server:
        [part] = telemetry(collected(f"http://127.0.0.1:{server.port}"))
        with span("find"):
            await asyncio.sleep(0)
        await part.stop()
    [body] = got
    assert b"find" in body
    assert b"avara-gateway" in body


def test_a_variable_of_opentelemetrys_names_the_collector_too(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    config = Config.model_validate({"pacs": [{"name": "main", "ae_title": "A", "host": "h", "port": 1}]})
    assert len(telemetry(config)) == 1
    trace_by(None)


def test_who_wants_traces_without_the_extra_is_told_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Misconfigured, match=r"pip install 'avara-gateway\[otel\]'"):
        telemetry(collected("http://127.0.0.1:4318"))


def collected(endpoint):
    return Config.model_validate({
        "pacs": [{"name": "main", "ae_title": "A", "host": "h", "port": 1}], "telemetry": {"otlp_endpoint": endpoint},
    })  # fmt: skip
