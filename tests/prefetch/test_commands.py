"""``avara-gateway prefetch``: what it lists, and how an operator has a study fetched."""

from __future__ import annotations

import json

from click.testing import CliRunner

from gateway.cli.main import main
from tests.prefetch.conftest import ON, made, stands


def called(gateway, *arguments):
    import asyncio

    path = gateway.config.state_dir.parent / f"gateway-{gateway.config.http.port}.yaml"
    return asyncio.to_thread(CliRunner().invoke, main, ["prefetch", *arguments, "-c", str(path)])


async def test_an_operator_has_a_study_prefetched_and_sees_what_became_of_it(simulator, start):
    simulator.add(*made("1.2.840.1.1", ago=30 * 86400))
    gateway = await start(simulator, prefetch=ON)
    told = await called(gateway, "now", "1.2.840.1.1")
    assert told.exit_code == 0, told.output
    await stands(gateway, "1.2.840.1.1", "done")
    told = await called(gateway, "list")
    assert told.exit_code == 0, told.output
    assert "1 done, 0 of them opened since" in told.output
    assert "1.2.840.1.1  simulator" in told.output
    assert "prefetched by operator" in told.output
    [line] = (await called(gateway, "list", "--json")).output.splitlines()
    assert json.loads(line)["state"] == "done"


async def test_what_cannot_be_prefetched_is_told_with_the_fix(simulator, start):
    gateway = await start(simulator)
    told = await called(gateway, "now", "1.2.840.1.1")
    assert told.exit_code == 1
    assert "set prefetch.enabled" in told.output
    assert "prefetch.enabled is false" in (await called(gateway, "list")).output
    gateway = await start(simulator, prefetch=ON)
    told = await called(gateway, "now", "1.2.840.1.1", "--pacs", "other")
    assert told.exit_code == 1
    assert "there are simulator" in told.output
    assert (await called(gateway, "now", "*")).exit_code == 2
