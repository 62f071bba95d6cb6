"""Figures for Prometheus: the documentation names each and no other, rules and board ask for what there is, and what
happened is what they say. Not here: those of reports (tests/reports) and of strangers (tests/attacks)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from gateway.admin.measures import Measures
from gateway.avara.endpoint import Answered, Refused
from gateway.journal import jobs
from gateway.studies.outcome import Complete, NotFound
from tests.rig.ports import free_port
from tests.untyped import Untyped

ROOT = Path(__file__).parents[2]
RULES, BOARD = ROOT / "config/prometheus-rules.yaml", ROOT / "config/grafana.json"
DOCUMENTED = set(re.findall(r"`(avara_gateway_\w+)`", (ROOT / "docs/metrics.md").read_text()))


def asked_for(expression):
    """Names of metrics in an expression, without what histograms add to theirs."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"avara_gateway_\w+", expression)}


def values(measures):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in measures.registry.collect() for sample in family.samples
    }  # fmt: skip


def test_a_webhook_is_counted_by_type_status_and_trouble_and_a_stranger_by_no_address():
    measures = Measures()
    event = SimpleNamespace(type="study.access_requested")
    measures.webhook(Answered(event, "msg", "192.0.2.9", 200, "answered", False, 40.0, 0))
    measures.webhook(Answered(event, "msg", "192.0.2.9", 503, "not in time", True, 9500.0, 0))
    measures.webhook(Refused("192.0.2.9", "", "no", unproven=True))
    measures.webhook(Refused("192.0.2.9", "", "no"))
    found = values(measures)
    assert found["avara_gateway_webhook_seconds_sum", "200", "no", event.type] == pytest.approx(0.04)
    assert found["avara_gateway_webhook_seconds_count", "503", event.type, "yes"] == 1
    assert found["avara_gateway_webhooks_refused_total", "signature"] == 1
    assert found["avara_gateway_webhooks_refused_total", "form"] == 1
    assert "192.0.2.9" not in str(found)


def flight(**differs):
    made = {"pacs": "main", "held": None, "brought": {"C-MOVE": (1, 1000)}, "asked_again": {"C-GET": 2}}
    return SimpleNamespace(**made | {"began": 10.0, "first_arrival": 10.5} | differs)


def test_a_fetch_is_counted_by_pacs_outcome_and_whether_the_study_was_held():
    measures = Measures()
    measures.fetch(flight(), Complete(None), 2.0)
    measures.fetch(flight(held="an index", brought={"push": (2, 30)}, asked_again={}), Complete(None), 0.1)
    measures.fetch(flight(pacs="", brought={}, asked_again={}, first_arrival=None), NotFound(), 0.2)
    found = values(measures)
    assert found["avara_gateway_fetch_seconds_sum", "Complete", "cold", "main"] == 2.0
    assert found["avara_gateway_fetch_seconds_count", "Complete", "main", "warm"] == 1
    assert found["avara_gateway_fetch_seconds_count", "NotFound", "cold", "none"] == 1
    assert found["avara_gateway_fetched_bytes_total", "C-MOVE", "main"] == 1000
    assert found["avara_gateway_instances_fetched_total", "C-MOVE", "main"] == 1
    assert found["avara_gateway_instances_fetched_total", "main", "push"] == 2
    assert found["avara_gateway_retrieve_retries_total", "C-GET", "main"] == 2
    assert found["avara_gateway_first_instance_seconds_sum", "main"] == 0.5
    assert ("avara_gateway_first_instance_seconds_count", "none") not in found


def test_a_request_to_the_store_is_timed_by_what_it_asks_for_and_counted_where_it_is_repeated():
    measures = Measures()
    for seconds in (0.02, None, 0.5):
        measures.store_request("put", seconds)
    found = values(measures)
    assert found["avara_gateway_store_seconds_sum", "put"] == pytest.approx(0.52)
    assert found["avara_gateway_store_seconds_count", "put"] == 2
    assert found["avara_gateway_store_retries_total", "put"] == 1


async def test_the_documentation_names_every_figure_and_no_other(orthanc, start):
    port = free_port()
    gateway = await start(orthanc, metrics={"port": port})
    await gateway.ask("1.2.3.4.5")
    await gateway.parts.journal.run(lambda c: jobs.add(c, "report.hl7", "it", Untyped({"target": "ris"}), after=3600))
    async with gateway.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    families = list(text_string_to_metric_families(text))
    found = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert found == DOCUMENTED
    samples = {(s.name, s.labels.get("kind") or s.labels.get("pacs")): s.value for f in families for s in f.samples}
    assert samples["avara_gateway_pacs_answers", "orthanc"] == 1
    assert samples["avara_gateway_jobs_oldest_seconds", "report.hl7"] >= 0
    assert "1.2.3.4.5" not in text


def test_rules_and_board_ask_for_figures_that_there_are():
    rules = YAML(typ="safe").load(RULES)["groups"][0]["rules"]
    board = json.loads(BOARD.read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in [rule["expr"] for rule in rules] + shown:
        assert asked_for(expression) <= DOCUMENTED, expression
    assert all(rule["annotations"]["description"] for rule in rules)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert DOCUMENTED - {name for expression in shown for name in asked_for(expression)} == {
        "avara_gateway_last_webhook_timestamp_seconds", "avara_gateway_jobs_failed_attempts",
    }  # fmt: skip


def test_prometheus_understands_the_rules_and_what_the_board_asks(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on PATH (Debian: prometheus)")
    board = json.loads(BOARD.read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {"groups": [{"name": "board", "rules": [{"record": f"r:{n}", "expr": e} for n, e in enumerate(shown)]}]}
    (tmp_path / "board.yaml").write_text(json.dumps(asked))
    checked = subprocess.run(
        [promtool, "check", "rules", RULES, tmp_path / "board.yaml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr + checked.stdout
