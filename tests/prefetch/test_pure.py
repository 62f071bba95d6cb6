"""What prefetch decides: rules, windows, the cursor, priors; by themselves, without a PACS."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.windows import Window, Windows
from gateway.pacs.scu import SeriesTraits, StudyTraits
from gateway.prefetch.cursor import AHEAD, OVERLAP, Cursor, Span, spans
from gateway.prefetch.priors import earlier, relevant, same_patient
from gateway.prefetch.rules import Decision, Rule, decide, moment

NOW = datetime.datetime(2026, 3, 12, 10, 0)
moments = st.datetimes(datetime.datetime(2024, 1, 1), datetime.datetime(2027, 12, 31)).map(
    lambda at: at.replace(microsecond=0)
)


def study(uid="1.2.1", modalities=("CT",), date="20260312", time="0900", **more):
    return StudyTraits(uid, frozenset(modalities), study_date=date, study_time=time, **more)


# -- rules


def test_without_a_rule_every_study_is_wanted():
    assert decide([], study(), NOW) == Decision(True, "every study")


def test_the_first_rule_that_fits_decides():
    rules = [Rule("no heads", descriptions=("*head*",), fetch=False), Rule("CT", frozenset(("CT",)))]
    assert decide(rules, study(description="CT Head native"), NOW) == Decision(False, "no heads")
    assert decide(rules, study(description="Thorax"), NOW) == Decision(True, "CT")
    assert decide(rules, study(modalities=("MR",)), NOW) == Decision(False)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (Rule("r", frozenset(("MR", "CT"))), True),
        (Rule("r", frozenset(("MR",))), False),
        (Rule("r", descriptions=("abdomen",)), False),
        (Rule("r", descriptions=("abdomen*",)), True),
        (Rule("r", descriptions=("ABDOMEN [?]",)), True),
        (Rule("r", max_age=7200.0), True),
        (Rule("r", max_age=60.0), False),
    ],
)
def test_what_a_rule_names_has_to_be_so(rule, fits):
    one = study(description="Abdomen [1] ", time="0900")
    assert decide([rule], one, NOW) == Decision(fits, "r" if fits else "")


def test_a_study_without_a_date_is_not_young():
    assert decide([Rule("r", max_age=1e8)], study(date=""), NOW) == Decision(False)


def test_series_are_asked_for_only_where_a_rule_that_fits_else_needs_them():
    rules = [Rule("er", frozenset(("CT",)), stations=("ER*",)), Rule("all")]
    assert decide(rules, study(modalities=("MR",)), NOW) == Decision(True, "all")
    assert decide(rules, study(), NOW) is None
    assert decide(rules, study(), NOW, SeriesTraits(frozenset(("er_ct1",)))) == Decision(True, "er")
    assert decide(rules, study(), NOW, SeriesTraits(frozenset(("CT9",)))) == Decision(True, "all")


def test_an_institution_is_told_by_series():
    rules = [Rule("here", institutions=("*mitte",))]
    assert decide(rules, study(), NOW, SeriesTraits(institutions=frozenset(("Klinikum Mitte",)))) == Decision(
        True, "here"
    )
    assert decide(rules, study(), NOW, SeriesTraits()) == Decision(False)


@pytest.mark.parametrize(
    ("date", "time", "told"),
    [
        ("20260312", "093015.123456", datetime.datetime(2026, 3, 12, 9, 30, 15)),
        ("20260312", "0930", datetime.datetime(2026, 3, 12, 9, 30)),
        ("2026.03.12", "09:30", datetime.datetime(2026, 3, 12, 9, 30)),
        ("20260312", "", datetime.datetime(2026, 3, 12)),
        ("20260312", "235960", datetime.datetime(2026, 3, 12, 23, 59, 59)),
        ("20260312", "9999", datetime.datetime(2026, 3, 12)),
        ("20261332", "0930", None),
        ("", "0930", None),
    ],
)
def test_dates_and_times_as_pacs_write_them(date, time, told):
    assert moment(date, time) == told


@given(st.text(), st.text())
def test_no_date_or_time_is_too_odd(date, time):
    moment(date, time)


# -- windows


@pytest.mark.parametrize(
    ("text", "at", "is_open"),
    [
        ("19:00-06:30", "2026-03-12 23:00", True),
        ("19:00-06:30", "2026-03-13 06:29", True),
        ("19:00-06:30", "2026-03-13 06:30", False),
        ("19:00-06:30", "2026-03-13 12:00", False),
        ("00:00-24:00", "2026-03-13 23:59", True),
        ("Sat,Sun 00:00-24:00", "2026-03-14 12:00", True),
        ("Sat,Sun 00:00-24:00", "2026-03-13 12:00", False),
        ("Fri 22:00-04:00", "2026-03-14 03:59", True),  # begun on Friday
        ("Fri 22:00-04:00", "2026-03-13 03:59", False),
        ("Sat-Mon 08:00-09:00", "2026-03-15 08:30", True),
    ],
)
def test_a_window_is_open_at_its_hours(text, at, is_open):
    assert Window.parse(text).covers(datetime.datetime.fromisoformat(at)) is is_open


@pytest.mark.parametrize(
    "text", ["", "19-6", "25:00-26:00", "19:00", "19:60-20:00", "08:00-08:00", "Someday 1:00-2:00"]
)
def test_what_is_no_window_is_refused(text):
    with pytest.raises(ValueError, match="window"):
        Window.parse(text)


@given(st.integers(0, 1439), st.integers(1, 1440), st.integers(0, 7 * 1440 - 1))
def test_a_window_and_the_rest_of_the_day_share_every_minute_between_them(begins, ends, at):
    if begins in (ends, ends % 1440):
        return

    def clock(minutes):
        return f"{minutes // 60:02}:{minutes % 60:02}"

    when = datetime.datetime(2026, 3, 9) + datetime.timedelta(minutes=at)
    rest = Window.parse(f"{clock(ends % 1440)}-{clock(begins or 1440)}")
    assert Window.parse(f"{clock(begins)}-{clock(ends)}").covers(when) != rest.covers(when)


def test_windows_follow_the_clock_on_the_wall_when_it_is_set():
    berlin = ZoneInfo("Europe/Berlin")
    windows = Windows.parse(["02:15-02:45"], berlin)

    def open_minutes(day):
        began = datetime.datetime(*day, tzinfo=berlin).timestamp()
        return sum(windows.open_at(began + minute * 60) for minute in range(24 * 60))

    assert open_minutes((2026, 3, 28)) == 30
    assert open_minutes((2026, 3, 29)) == 0  # that hour is not there
    assert open_minutes((2026, 10, 25)) == 60  # it comes twice
    night = Windows.parse(["19:00-06:30"], berlin)
    assert night.open_at(datetime.datetime(2026, 3, 29, 6, 29, tzinfo=berlin).timestamp())
    assert not night.open_at(datetime.datetime(2026, 3, 29, 6, 30, tzinfo=berlin).timestamp())


# -- the cursor


@given(moments, st.integers(0, 10 * 86400), st.integers(0, 10 * 86400))
def test_every_study_between_the_cursor_and_now_is_asked_for(since, until_now, after):
    now = since + datetime.timedelta(seconds=until_now)
    at = since + datetime.timedelta(seconds=min(after, until_now + int(AHEAD.total_seconds())))
    assert any(span.covers(at) for span in spans(since, now))


@given(moments, st.integers(0, 86400))
def test_hours_are_asked_for_and_not_the_whole_day(since, until_now):
    first, *others = spans(since, since + datetime.timedelta(seconds=until_now))
    before = since - datetime.timedelta(seconds=1)
    assert not any(span.covers(before) for span in (first, *others))
    assert len(others) <= 2


@given(moments, moments)
def test_a_range_in_two_parts_is_the_same_range(since, at):
    whole = spans(since, since)[0]
    parts = whole.halves()
    if parts is not None:
        assert whole.covers(at) == any(part.covers(at) for part in parts)


@given(moments, st.lists(st.integers(-3 * 86400, 3 * 86400), max_size=8), st.integers(-7200, 7200))
def test_no_clock_that_is_off_by_two_hours_loses_a_study(start, arrivals, skew):
    """Studies appear one after the other, dated by a clock that is *skew* ahead of ours."""
    look_back = datetime.timedelta(days=1)
    cursor = Cursor(start - look_back)
    for step in range(48):
        now = start + step * datetime.timedelta(minutes=30)
        dated = now + datetime.timedelta(seconds=skew)
        found = [span for span in spans(cursor.since(now, look_back), now) if span.covers(dated)]
        assert found, (now, dated, cursor)
        # What some clocks say of other studies makes no difference.
        wrong = [now + datetime.timedelta(seconds=s) for s in arrivals]
        cursor = Cursor.load(cursor.after([dated, *wrong], now).dump(), start)


def test_a_study_from_the_future_does_not_make_all_others_old():
    day = datetime.timedelta(days=1)
    cursor = Cursor(NOW).after([NOW + 400 * day], NOW)
    assert cursor.since(NOW, day) == NOW - OVERLAP
    assert Cursor(NOW + 400 * day).since(NOW, day) == NOW - OVERLAP


@pytest.mark.parametrize("kept", [None, "", "nonsense", "{}", '{"latest": 7}', '{"latest": "2026"}'])
def test_a_cursor_that_cannot_be_read_begins_anew(kept):
    assert Cursor.load(kept, NOW) == Cursor(NOW)


def test_days_are_asked_for_as_dicom_has_them():
    assert spans(datetime.datetime(2026, 3, 11, 22, 30), datetime.datetime(2026, 3, 12, 10, 0)) == [
        Span("20260311", "223000-235959"),
        Span("20260312"),
    ]


# -- priors


def test_a_patient_id_means_something_within_its_issuer_or_its_pacs_alone():
    mine, other = study(patient_id="7", issuer="A"), study("1.2.2", patient_id="7", issuer="B")
    nameless = study("1.2.3", patient_id="7")
    assert not same_patient(mine, other, same_pacs=True)
    assert same_patient(mine, nameless, same_pacs=True)
    assert not same_patient(mine, nameless, same_pacs=False)
    assert same_patient(mine, study("1.2.4", patient_id="7", issuer="A"), same_pacs=False)
    assert not same_patient(study(), study("1.2.2"), same_pacs=True), "no Patient ID is nobody's"


def test_priors_are_earlier_ones_the_newest_first():
    others = [
        study("1.2.9", date="20190101"),
        study("1.2.2", date="20250101"),
        study("1.2.3", date="20260101"),
        study("1.2.4", date="20260313"),
        study("1.2.1"),
        study("1.2.5", date=""),
    ]
    found = earlier(study(patient_id="7"), others, max_age=5 * 365 * 86400)
    assert [one.study_instance_uid for one in found] == ["1.2.3", "1.2.2"]
    assert earlier(study(date=""), others, max_age=1e9) == []


async def test_priors_are_of_the_same_modality_or_body_part():
    asked = []

    async def body_parts(one):
        asked.append(one.study_instance_uid)
        return frozenset(("CHEST",)) if one.study_instance_uid in ("1.2.1", "1.2.3") else frozenset(("HEAD",))

    candidates = [
        study("1.2.2", ("MR",)), study("1.2.3", ("CR", "SR")), study("1.2.4", ("CT", "SR")), study("1.2.5"),
    ]  # fmt: skip
    found = await relevant(study(modalities=("CT", "SR")), candidates, 2, body_parts)
    assert [one.study_instance_uid for one in found] == ["1.2.3", "1.2.4"]
    assert asked == ["1.2.1", "1.2.2", "1.2.3"], "each costs a query"
