"""Study access twice: every test that takes the simulator runs against a usual PACS, and against the worst one in town
(tests/rig/simulator.py), which lists other UIDs than it sends, cuts its lists, and answers before it sends.

What a test says of its PACS comes on top of the habits that this one has from the start. Of a test with several cases
the first is run so. A test whose premise one of the habits contradicts says so, with the reason:

- ``@pytest.mark.own_habits("…")`` runs against the usual PACS alone;
- ``@pytest.mark.worst_but_for("…", coerced_uids=False)`` lacks some of the habits.
"""

from __future__ import annotations

import dataclasses

import pytest

from tests.rig.simulator import PacsSimulator, worst

USUAL, WORST = "usual", "worst"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "simulator" in metafunc.fixturenames and _meets_the_worst(metafunc.definition):
        metafunc.parametrize("simulator", [USUAL, WORST], indirect=True)


def _meets_the_worst(definition: pytest.Function) -> bool:
    return definition.get_closest_marker("own_habits") is None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several cases of a test only the first one meets the worst PACS: each costs a second and more."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for item in items:
        if isinstance(item, pytest.Function) and _is_of_the_worst(item):
            if (item.path, item.originalname) in seen:
                continue
            seen.add((item.path, item.originalname))
        kept.append(item)
    items[:] = kept


def _is_of_the_worst(item: pytest.Function) -> bool:
    return hasattr(item, "callspec") and item.callspec.params.get("simulator") == WORST


@pytest.fixture
def simulator(simulator: PacsSimulator, request: pytest.FixtureRequest) -> PacsSimulator:
    """A PACS that misbehaves on command, or the one that does from the start."""
    if getattr(request, "param", USUAL) == WORST:
        marker = request.node.get_closest_marker("worst_but_for")
        simulator.behaviour = dataclasses.replace(worst(), **({} if marker is None else marker.kwargs))
    return simulator
