"""Conditions and ranges as RFC 9110 has them, each case with its section; what servers make of them is compared in
test_faces.py."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.conditions import Content, Verdict, judge, judge_range

THEN = "Thu, 01 Jan 2026 12:00:00 GMT"
BEFORE, AFTER = "Thu, 01 Jan 2026 11:59:59 GMT", "Thu, 01 Jan 2026 12:00:01 GMT"
CONTENT = Content(10, '"tag"', datetime(2026, 1, 1, 12, tzinfo=UTC))
WHOLE, PART = Verdict(200, 0, 10), Verdict(206, 2, 5)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", (200, 0, 10)), ("bytes=2-4", (206, 2, 5)), ("bytes=2-", (206, 2, 10)), ("bytes=-3", (206, 7, 10)),
        ("bytes=0-99", (206, 0, 10)), ("bytes=-99", (206, 0, 10)), ("bytes=10-", (416, 0, 0)),
        ("bytes=-0", (416, 0, 0)), ("BYTES=2-4", (206, 2, 5)),  # §14.1: range units are case-insensitive
        ("bytes=5-4", (200, 0, 10)),  # §14.1.1: invalid, so it is none
        ("bytes=0-1,3-4", (200, 0, 10)), ("lines=1-2", (200, 0, 10)), ("bytes=-", (200, 0, 10)),
        ("bytes=" + "9" * 5000 + "-", (416, 0, 0)), ("bytes=2-" + "9" * 5000, (206, 2, 10)),
        ("bytes=-" + "9" * 5000, (206, 0, 10)), ("bytes=000000000000000000002-4", (206, 2, 5)),
        ("bytes=٣-٤", (200, 0, 10)),
    ],
)  # fmt: skip
def test_ranges_are_read_as_http_has_them(header, expected):
    assert judge_range(header, 10) == Verdict(*expected)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"If-Match": '"tag"'}, WHOLE),
        ({"If-Match": '"other", "tag"'}, WHOLE),
        ({"If-Match": "*"}, WHOLE),
        ({"If-Match": '"other"'}, Verdict(412)),
        ({"If-Match": 'W/"tag"'}, Verdict(412)),  # §13.1.1: strong comparison
        ({"If-None-Match": '"tag"'}, Verdict(304)),
        ({"If-None-Match": 'W/"tag"'}, Verdict(304)),  # §13.1.2: weak comparison
        ({"If-None-Match": "*"}, Verdict(304)),
        ({"If-None-Match": '"other"'}, WHOLE),
        ({"If-None-Match": '"other"', "If-Modified-Since": AFTER}, WHOLE),  # §13.1.3: the date is ignored then
        ({"If-Modified-Since": THEN}, Verdict(304)),
        ({"If-Modified-Since": BEFORE}, WHOLE),
        ({"If-Modified-Since": "yesterday"}, WHOLE),
        ({"If-Unmodified-Since": BEFORE}, Verdict(412)),
        ({"If-Unmodified-Since": THEN}, WHOLE),
        ({"If-Match": '"tag"', "If-Unmodified-Since": BEFORE}, WHOLE),  # §13.1.4
        ({"If-Match": '"tag"', "If-None-Match": '"tag"'}, Verdict(304)),  # §13.2.2: in this order
        ({"Range": "bytes=2-4", "If-Range": '"tag"'}, PART),
        ({"Range": "bytes=2-4", "If-Range": '"other"'}, WHOLE),  # §13.1.5
        ({"Range": "bytes=2-4", "If-Range": 'W/"tag"'}, WHOLE),
        ({"Range": "bytes=2-4", "If-Range": THEN}, PART),
        ({"Range": "bytes=2-4", "If-Range": AFTER}, WHOLE),
        ({"Range": "bytes=2-4", "If-Range": "yesterday"}, WHOLE),
        ({"Range": "bytes=99-", "If-Range": '"other"'}, WHOLE),
        ({"Range": "bytes=2-4", "If-None-Match": '"tag"'}, Verdict(304)),
    ],
)
def test_conditions_come_in_the_order_of_the_standard(headers, expected):
    assert judge("GET", headers, CONTENT) == expected


def test_a_head_has_no_ranges():
    assert judge("HEAD", {"Range": "bytes=2-4"}, CONTENT) == WHOLE
    assert judge("HEAD", {"If-None-Match": '"tag"'}, CONTENT) == Verdict(304)


@given(
    st.dictionaries(
        st.sampled_from(["Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"]),
        st.text(max_size=60),
    )
)
def test_whatever_is_asked_is_judged(headers):
    verdict = judge("GET", headers, CONTENT)
    assert verdict.status in (200, 206, 304, 412, 416)
    if verdict.status in (200, 206):
        assert 0 <= verdict.start < verdict.end <= 10
