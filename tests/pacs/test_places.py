"""Who makes room for whom on our DICOM port. That it holds on the wire is in tests/attacks/test_dicom.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.pacs.scp.places import (
    FROM_ONE_PACS,
    FROM_ONE_STRANGER,
    QUIET,
    STALLED,
    STRANGERS,
    UNUSED,
    Caller,
    associated_to_go,
    unassociated_to_go,
)

NOW = 10_000.0


def caller(household="10.0.0.1", *, silent=0.0, age=5.0, known=True, in_message=False, writing=False, **more):
    link = SimpleNamespace(last_received=NOW - silent, in_message=in_message, writing=writing)
    made = Caller(link, household, household, known, since=NOW - age)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def goes(*standing, newcomer=None, most=None):
    newcomer = newcomer or caller("10.0.0.9")
    return associated_to_go(standing, newcomer, most=most or 10, now=NOW)


def test_the_one_that_was_silent_for_longest_makes_room():
    quiet, quieter = caller(silent=QUIET + 1), caller(silent=QUIET + 2)
    assert goes(caller(), quiet, quieter) is quieter


def test_who_has_stored_goes_after_those_who_have_not():
    stored = caller(silent=900, stored_at=NOW - 900)
    unused = caller(silent=QUIET)
    assert goes(stored, unused) is unused
    assert goes(stored, caller()) is stored


def test_who_was_asked_to_send_goes_last():
    assert goes(caller(silent=900, awaited=True), quiet := caller(silent=QUIET)) is quiet


@pytest.mark.parametrize(
    "busy",
    [
        caller(silent=900, handling=True),
        caller(silent=900, in_message=True, writing=True),
        caller(silent=STALLED - 1, in_message=True, stored_at=1.0),
        caller(silent=QUIET - 1, age=UNUSED + 1, stored_at=1.0),
        caller(),
    ],
    ids=["we are at work on it", "our disk is", "in the middle of an instance", "between two", "just associated"],
)
def test_who_is_at_work_keeps_its_place(busy):
    assert goes(busy) is None


def test_half_an_instance_keeps_no_place_for_ever():
    assert goes(stalled := caller(silent=STALLED, in_message=True)) is stalled


def test_whom_we_asked_finds_a_place_however_busy_strangers_are():
    busy = [caller("10.0.0.2", silent=n / 10) for n in range(4)]
    assert goes(*busy, newcomer=caller("10.0.0.9", awaited=True)) is busy[-1]
    assert goes(*(caller(awaited=True) for _ in range(4)), newcomer=caller(awaited=True)) is None


def test_echoes_keep_no_place_for_ever():
    assert goes(echoing := caller(age=UNUSED)) is echoing


def test_one_address_with_more_than_half_of_the_places_makes_room_for_others_and_not_for_itself():
    crowd, other = [caller("10.0.0.2") for _ in range(3)], caller("10.0.0.3")
    assert goes(*crowd, other, newcomer=caller("10.0.0.4"), most=4) in crowd
    assert goes(*crowd, other, newcomer=caller("10.0.0.2"), most=4) is None


def test_of_those_that_never_ask_a_flood_takes_its_own_places_and_strangers_none_of_a_pacs():
    pacs = [caller("10.0.0.1") for _ in range(3)]
    same = [caller("10.9.9.9", known=False) for _ in range(FROM_ONE_STRANGER)]
    assert unassociated_to_go(pacs + same, "10.9.9.9", known=False, most=128) is same[0]
    assert unassociated_to_go(pacs + same, "10.9.9.8", known=False, most=128) is None
    strangers = [caller(f"10.9.9.{n}", known=False) for n in range(STRANGERS)]
    assert unassociated_to_go(pacs + strangers, "10.8.8.8", known=False, most=128) is strangers[0]
    assert unassociated_to_go(pacs + strangers, "10.0.0.1", known=True, most=35) is strangers[0]
    flood = [caller("10.0.0.1") for _ in range(FROM_ONE_PACS)]
    assert unassociated_to_go(flood, "10.0.0.1", known=True, most=128) is flood[0]
    assert unassociated_to_go(flood, "10.0.0.2", known=True, most=128) is None
    assert unassociated_to_go(pacs, "10.0.0.2", known=True, most=3) is pacs[0]
