"""Sequences, lengths and value representations as writers leave them: what the top level says is read all the same, and
nothing of an item is ever taken for it. Pure; that what cannot be read at all opens is in test_instances.py.

Each oddity is put in four places: before all that is wanted, before the UIDs, before the geometry, and behind it.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicom.elements import MalformedDataSet
from gateway.pacs.receiver import IncomingInstance
from gateway.pacs.upper.spool import MemoryBody
from gateway.studies.header import read_header, read_header_tolerantly
from tests.field.inputs import CT, IMPLICIT, SERIES, STUDY, elements, encoded, explicit, implicit, short, uid
from tests.field.raw_pacs import EXPLICIT

UNDEFINED = 0xFFFFFFFF
ITEM_END, SEQUENCE_END = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
PLACES = (0x00080010, 0x00091010, 0x00211010, 0x00551010)
PRIVATE = 0x00091001
ODD_VRS = (b"ZZ", b"  ", b"\0\0", b"??")


def item(content, length=None):
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content) if length is None else length) + content


def long_form(tag, vr, content, length=None, reserved=b"\0\0"):
    length = len(content) if length is None else length
    return struct.pack("<HH2s2sI", tag >> 16, tag & 0xFFFF, vr, reserved, length) + content


def short_form(tag, vr, content):
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(content)) + content


def bare(tag, content, length=None):
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(content) if length is None else length) + content


NOT_MINE = (
    (0x00080018, b"UI", uid("9.9.1")), (0x0020000D, b"UI", uid("9.9.2")), (0x0020000E, b"UI", uid("9.9.3")),
    (0x00280010, b"US", short(99)), (0x00280011, b"US", short(98)),
)  # fmt: skip
"""What an item says, of something else than the instance."""


def sequences(tag, write, head):
    """In either encoding, as *head* (content, length) and *write* have it (PS3.5 §7.5)."""
    inner = encoded(NOT_MINE, write)
    one, open_one = item(inner), item(inner + ITEM_END, UNDEFINED)
    nested = item(head(open_one + SEQUENCE_END, UNDEFINED) + ITEM_END, UNDEFINED)
    yield "items of defined length", head(one * 2)
    yield "sequence of undefined length", head(one * 2 + SEQUENCE_END, UNDEFINED)
    yield "item of undefined length", head(open_one)
    yield "both of undefined length", head(open_one + SEQUENCE_END, UNDEFINED)
    yield "nested", head(nested + SEQUENCE_END, UNDEFINED)
    yield "no items", head(SEQUENCE_END, UNDEFINED)
    yield "empty items", head(item(b"") + item(ITEM_END, UNDEFINED) + one + SEQUENCE_END, UNDEFINED)
    yield "a delimiter behind a defined length", head(one) + SEQUENCE_END
    yield "an item's delimiter behind a defined length", head(one + ITEM_END)
    yield "a delimiter with a length", head(open_one + SEQUENCE_END[:4] + b"\4\0\0\0", UNDEFINED)
    yield "no delimiter of the sequence", head(one, UNDEFINED)
    yield "no delimiter of the item", head(item(inner, UNDEFINED) + SEQUENCE_END, UNDEFINED)
    for off in (-2, 2, 8, 100):
        yield f"an item's length is wrong by {off}", head(item(inner, len(inner) + off))
        yield f"the same, of undefined length, by {off}", head(item(inner, len(inner) + off) + SEQUENCE_END, UNDEFINED)
    for lonely in (SEQUENCE_END, ITEM_END, item(b"")):
        yield f"{lonely[2:4].hex()} by itself", lonely
    yield "an odd length", head(b"abc")


def of_explicit(tag):
    """What only explicit VR can have wrong (PS3.5 §7.1.2, §6.2.2)."""
    inner, hidden = encoded(NOT_MINE), encoded(NOT_MINE, implicit)
    for off in (-8, -2, 2, 4, 8):
        yield f"a sequence's length is wrong by {off}", long_form(tag, b"SQ", item(inner), len(item(inner)) + off)
    yield "UN of undefined length has implicit items", long_form(
        tag, b"UN", item(bare(0x00081140, item(hidden + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED) + ITEM_END,
        UNDEFINED) + SEQUENCE_END, UNDEFINED,
    )  # fmt: skip
    yield "UN of defined length has implicit items", long_form(tag, b"UN", item(hidden))
    yield (
        "UN of undefined length has explicit items",
        long_form(tag, b"UN", item(inner + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED),
    )
    yield (
        "a sequence has implicit items",
        long_form(tag, b"SQ", item(hidden + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED),
    )
    yield "a private element has fragments", long_form(tag, b"OB", item(b"") + item(b"abcd") + SEQUENCE_END, UNDEFINED)
    yield "reserved bytes that are not zero", long_form(tag, b"OB", b"abcd", reserved=b"\x20\x20")
    yield (
        "the same, of a sequence",
        long_form(tag, b"SQ", item(inner + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED, b"\1\2"),
    )
    for vr in (b"UN", b"UT", b"OB", b"UC", b"SQ"):
        yield f"{vr.decode()} in the short form", short_form(tag, vr, item(inner) if vr == b"SQ" else b"abcdef")
    for vr in (b"LO", b"UL", b"DS"):
        yield f"{vr.decode()} in the long form", long_form(tag, vr, b"1234")
    yield "a group length that lies", short_form(tag & 0xFFFF0000, b"UL", b"\xff\xff\xff\xff")
    yield "a VR in small letters", short_form(tag, b"lo", b"abcd")
    for vr in ODD_VRS:
        yield (
            f"{vr!r} of undefined length",
            long_form(tag, vr, item(inner + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED),
        )
        for odd in (short_form(PRIVATE, vr, b"abcd"), long_form(PRIVATE, vr, b"abcd")):
            yield (
                f"{vr!r} in an item, header of {len(odd) - 4}",
                long_form(tag, b"SQ", item(odd + inner + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED),
            )
    yield (
        "an implicit element in an item",
        long_form(tag, b"SQ", item(bare(PRIVATE, b"abcd") + inner + ITEM_END, UNDEFINED) + SEQUENCE_END, UNDEFINED),
    )


def oddities(tag, syntax):
    if syntax == IMPLICIT:
        yield from sequences(tag, implicit, lambda c, length=None: bare(tag, c, length))
    else:
        yield from sequences(tag, explicit, lambda c, length=None: long_form(tag, b"SQ", c, length))
        yield from of_explicit(tag)


def instance(raws, syntax):
    """The image with *raws*, encoded elements by tag, in their places."""
    write = implicit if syntax == IMPLICIT else explicit
    parts = [(e[0], write(*e)) for e in elements()] + list(raws)
    return b"".join(raw for _, raw in sorted(parts, key=lambda p: p[0]))


def read(data, syntax):
    incoming = IncomingInstance(CT, f"{SERIES}.1", syntax, "THEM", "US", "", MemoryBody(data))
    try:
        return read_header(incoming)
    except MalformedDataSet:
        return read_header_tolerantly(incoming)


CASES = [(syntax, name) for syntax in (EXPLICIT, IMPLICIT) for name, _ in oddities(PLACES[0], syntax)]


@pytest.mark.parametrize(
    ("syntax", "name"), CASES, ids=[f"{n}, {'implicit' if s == IMPLICIT else ''}" for s, n in CASES]
)
def test_what_is_odd_in_one_element_hides_no_other(syntax, name):
    for place in PLACES:
        data = instance([(place, dict(oddities(place, syntax))[name])], syntax)
        study, found = read(data, syntax)
        assert (study, found.series_instance_uid, found.sop_instance_uid) == (STUDY, SERIES, f"{SERIES}.1"), hex(place)
        assert (found.modality, found.instance_number) == ("CT", 1)
        assert (found.rows, found.columns, found.bits_allocated) == (2, 2, 8), hex(place)
        assert found.photometric_interpretation == "MONOCHROME2"


@given(st.data(), st.sampled_from((EXPLICIT, IMPLICIT)))
def test_whatever_is_odd_nothing_of_an_item_is_taken_for_the_instance_s(data, syntax):
    """Several at once, one cut short: less may be found then, never something else."""
    names = [name for s, name in CASES if s == syntax]
    chosen = data.draw(st.dictionaries(st.sampled_from(PLACES), st.sampled_from(names), min_size=1))
    raws = [(place, dict(oddities(place, syntax))[name]) for place, name in chosen.items()]
    whole = instance(raws, syntax)
    study, found = read(whole[: data.draw(st.integers(0, len(whole)))], syntax)
    assert study in ("", STUDY)
    assert found.series_instance_uid in ("", SERIES)
    assert found.sop_instance_uid in ("", f"{SERIES}.1")
    assert found.rows in (None, 2)
    assert found.columns in (None, 2)


@pytest.mark.parametrize(
    "charset",
    [b"ISO_IR 999", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"UTF8", b"ISO_IR 192\\ISO_IR 100", b"\xff\xfe",
     b"\\" * 20, b"GB18030\\ISO 2022 IR 58", b"ISO_IR 192"],
)  # fmt: skip
@pytest.mark.parametrize(
    "text", [b"\xc4\xd6\xdc", "Über".encode(), b"\x1b$B\x25\x1b(B", b"\x1b$)Czz\xff", b"\x1b", b"\0\xff"]
)
def test_a_character_set_that_lies_costs_a_legible_text_at_most(charset, text):
    """PS3.3 C.12.1.1.2; field note 13."""
    raws = [(0x00080005, explicit(0x00080005, b"CS", charset)), (0x0008103E, explicit(0x0008103E, b"LO", text))]
    study, found = read(instance(raws, EXPLICIT), EXPLICIT)
    assert (study, found.sop_instance_uid, found.rows) == (STUDY, f"{SERIES}.1", 2)
    assert found.series_description.isprintable()
