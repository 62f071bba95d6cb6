"""Statements that are compiled once: they answer what SQLAlchemy itself would."""

import pytest
from sqlalchemy import bindparam, create_engine, func, insert, select, update

from gateway.journal.prepared import Prepared
from gateway.journal.tables import events, metadata
from gateway.journal.transaction import Transaction

ONE = {"at": 1.5, "kind": "webhook", "text": "asked", "trouble": True}
OTHER = {"at": 2.5, "kind": "fetch", "text": "came", "trouble": False}


@pytest.fixture
def c():
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield Transaction(connection, 0.0)
    engine.dispose()


def test_rows_have_their_columns_by_name_and_of_the_kind_that_the_table_says(c):
    new = Prepared(insert(events).returning(events.c.id))
    assert [c.value(new, ONE), c.value(new, OTHER)] == [1, 2]
    every = Prepared(select(events).order_by(events.c.id))
    assert [row._asdict() for row in c.rows(every, {})] == [{"id": 1} | ONE, {"id": 2} | OTHER]
    assert [row.trouble for row in c.rows(every, {})] == [True, False]
    assert [type(row.trouble) for row in c.rows(every, {})] == [bool, bool]
    assert [tuple(row) for row in c.execute(select(events).order_by(events.c.id))] == c.rows(every, {})


def test_what_stands_in_the_statement_itself_need_not_be_given(c):
    c.for_each(Prepared(insert(events)), [ONE, OTHER])
    late = Prepared(select(events.c.text).where(events.c.kind == "fetch", events.c.at > bindparam("since")).limit(1))
    assert c.value(late, {"since": 0.0}) == "came"
    assert c.value(late, {"since": 3.0}) is None
    assert c.row(late, {"since": 3.0}) is None


def test_one_statement_sets_now_these_columns_and_now_those(c):
    c.for_each(Prepared(insert(events)), [ONE, OTHER])
    change = Prepared(update(events).where(events.c.id == bindparam("event_id")))
    assert c.change(change, {"event_id": 1, "text": "asked again"}) == 1
    assert c.change(change, {"event_id": 2, "trouble": True, "kind": "cache"}) == 1
    assert c.change(change, {"event_id": 3, "text": "nothing"}) == 0
    assert [(r.kind, r.text, r.trouble) for r in c.rows(Prepared(select(events).order_by(events.c.id)), {})] == [
        ("webhook", "asked again", True), ("cache", "came", True),
    ]  # fmt: skip


def test_a_value_that_is_missing_is_an_error(c):
    with pytest.raises(KeyError):
        c.rows(Prepared(select(events).where(events.c.at > bindparam("since"))), {})


def test_none_of_several_are_no_statement(c):
    c.for_each(Prepared(insert(events)), [])
    assert c.value(Prepared(select(func.count()).select_from(events)), {}) == 0
