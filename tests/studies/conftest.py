"""Study access twice: a test that takes the simulator runs against a usual PACS, and against the worst one in town
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

WHOLE = {
    "test_permission.py",
    "test_prompt.py",
    "test_refusals.py",
    "test_rejection.py",
    "test_retrieve.py",
}
"""Files of which every test meets the worst PACS, but for what says why not."""

OF_OTHERS = {
    "test_the_second_pacs_serves_what_the_first_has_not",
    "test_a_pacs_that_is_down_does_not_hide_the_next_one",
    "test_a_cached_study_is_served_while_its_pacs_is_down",
    "test_deferred_urls_wait_and_give_the_same_bytes",
    "test_an_altered_or_expired_url_is_refused",
    "test_an_instance_that_does_not_come_in_time_is_a_504",
    "test_success_with_nothing_sent_is_not_believed",
    "test_counters_of_a_move_prove_nothing",
    "test_what_was_silently_dropped_is_asked_for_again_by_instance",
    "test_missing_counts_alone_do_no_harm",
    "test_an_instance_of_another_study_is_not_taken_in",
    "test_two_studies_at_once_from_one_pacs_do_not_mix",
    "test_a_slow_move_without_pending_responses_is_not_given_up",
    "test_a_silent_pacs_is_given_up",
    "test_a_pacs_that_falls_silent_in_a_move_is_given_up",
    "test_an_unknown_destination_names_what_to_register",
    "test_a_move_to_nowhere_is_not_believed",
    "test_what_was_corrected_in_the_pacs_is_what_is_given",
    "test_instances_that_moved_to_another_study_leave_this_one",
    "test_a_store_that_does_not_delete_is_asked_again_and_nothing_old_is_answered",
}
"""By name, those of the other files that were tried against it often enough to be relied upon."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "simulator" in metafunc.fixturenames and _meets_the_worst(metafunc.definition):
        metafunc.parametrize("simulator", [USUAL, WORST], indirect=True)


def _meets_the_worst(definition: pytest.Function) -> bool:
    if definition.get_closest_marker("own_habits") is not None:
        return False
    return definition.path.name in WHOLE or definition.name in OF_OTHERS


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
