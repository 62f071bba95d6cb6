"""What is held, compared with what a PACS lists and says: pure, with inputs of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pacs.scu.results import StudyRecord, fingerprint, the_one
from gateway.studies.compare import LISTED_WITHIN, differences
from gateway.studies.index import Instance, rejected, shown
from gateway.studies.statement import IDENTITY, corrected, statement_of

NOW = 1_800_000_000.0
uids = st.sampled_from([f"1.{n}" for n in range(12)])
letters = st.sampled_from(["", "a", "b"])


def instance(uid, **attributes):
    return Instance(uid, "1", "1.2", "1.2.840.10008.1.2", 1, **attributes)


held_ones = st.dictionaries(
    uids,
    st.builds(
        lambda print_, since, rejects: instance(
            "?", fingerprint=print_, unlisted_since=since, rejection="113001" if rejects else "", rejects=tuple(rejects)
        ),
        letters,
        st.sampled_from([0.0, NOW - LISTED_WITHIN - 1, NOW - 1, NOW + 9e9]),
        st.lists(uids, max_size=3),
    ),
).map(lambda found: {uid: i._replace(sop_instance_uid=uid) for uid, i in found.items()})


@given(held_ones, st.sets(uids), st.dictionaries(uids, letters), st.sets(uids))
def test_only_what_a_list_lacks_is_withdrawn_and_what_came_since_never(held, listed, prints, came):
    found = differences(held, listed, prints, came, now=NOW)
    assert found.withdrawn <= held.keys() - listed - came
    assert found.replaced <= (held.keys() & listed) - came
    assert not found.withdrawn & found.replaced
    for uid in held.keys() - listed - came - found.withdrawn:
        assert 0 <= NOW - held[uid].unlisted_since < LISTED_WITHIN
    for uid in found.replaced:
        assert held[uid].fingerprint
        assert prints[uid] != held[uid].fingerprint


@given(held_ones, st.dictionaries(uids, letters))
def test_what_a_list_has_as_it_was_stays(held, prints):
    same = {uid: i.fingerprint for uid, i in held.items() if i.fingerprint}
    assert not differences(held, held.keys(), same, (), now=NOW).any
    assert not differences(held, held.keys(), {}, (), now=NOW).any


@given(held_ones, st.sets(uids))
def test_what_no_note_rejects_any_more_is_to_come_again(held, listed):
    found = differences(held, listed, {}, (), now=NOW)
    left = {uid: i for uid, i in held.items() if uid not in found.withdrawn}
    assert found.readmitted == (rejected(held) & left.keys()) - rejected(left)


@given(held_ones)
def test_nothing_rejected_is_shown_and_no_rejection_note(held):
    hidden = {uid for i in held.values() if i.rejection for uid in (i.sop_instance_uid, *i.rejects)}
    assert {i.sop_instance_uid for i in shown(held)} == held.keys() - hidden


RECORD = StudyRecord(
    "1.2.3", 3, 1, "PID", "Doe^Jane", "19700101", "F", "HOSPITAL", "ACC", "1", "20260101", "1200", "Thorax", "Ref"
)


@pytest.mark.parametrize("name", IDENTITY)
@given(st.text(max_size=8))
def test_every_attribute_of_identity_counts_and_padding_does_not(name, value):
    field = "patient_birth_date" if name == "patient_birth_date" else name
    padded = replace(RECORD, **{field: f"  {getattr(RECORD, field)} \0"})
    assert corrected(statement_of(RECORD), statement_of(padded)) == ()
    other = statement_of(replace(RECORD, **{field: value}))
    assert set(corrected(statement_of(RECORD), other)) <= {name}
    if not value.strip(" \t\r\n\0^=") or value.isalnum():
        assert corrected(statement_of(RECORD), other) == ((name,) if value != getattr(RECORD, field) else ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Doe^Jane", "Doe^Jane^^^"), ("Doe^Jane", "Doe^Jane=="), ("Müller^Renée", "Mu\u0308ller^Rene\u0301e"),
        ("Doe^Jane", "Doe ^ Jane"),
    ],
)  # fmt: skip
def test_two_ways_of_writing_a_name_are_one_name(one, other):
    assert (
        corrected(statement_of(replace(RECORD, patient_name=one)), statement_of(replace(RECORD, patient_name=other)))
        == ()
    )


def test_a_pacs_that_says_nothing_says_nothing_different():
    nothing = statement_of(StudyRecord("1.2.3", 3, None, *[""] * 11))
    assert nothing is None
    assert corrected(statement_of(RECORD), nothing) == corrected(nothing, statement_of(RECORD)) == ()


def test_a_study_under_two_patients_is_disputed_and_one_told_twice_is_not():
    assert the_one([RECORD, replace(RECORD, patient_id="OTHER")]).disputed
    assert not the_one([RECORD, RECORD]).disputed
    assert the_one([]) is None


@given(st.lists(st.text(max_size=4), min_size=4, max_size=4), st.lists(st.text(max_size=4), min_size=4, max_size=4))
def test_a_fingerprint_tells_lists_apart(one, other):
    if any(one) and any(other) and not any("\0" in value for value in one + other):
        assert (fingerprint("1", one) == fingerprint("1", other)) == (one == other)
    assert fingerprint("1", ["", ""]) == ""
