"""Answers to queries as PACS write them: what they say of a study and its instances is found, however it is put."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from gateway.pacs.peer import Peer
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.results import record_of, the_one
from tests.field.inputs import SERIES, STUDY, elements, encoded, held, implicit
from tests.field.raw_pacs import COUNT, LEVEL, SOP, identifier, raw_pacs
from tests.field.raw_pacs import SERIES as SERIES_UID
from tests.field.raw_pacs import STUDY as STUDY_UID

ONE = held(encoded(elements(1)))
TWO = replace(held(encoded(elements(2))), uid=f"{SERIES}.2")


def other_way(values, change):
    return identifier({tag: change(tag, value) for tag, value in values.items()})


def unasked(values):
    """With elements before, between and behind the others that nobody asked for, a sequence of undefined length too."""
    sequence = struct.pack("<HH2sxxI", 0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    group = struct.pack("<HH2sHI", 0x0008, 0, b"UL", 4, 12)
    low = identifier({tag: v for tag, v in values.items() if tag < 0x00081140})
    high = identifier({tag: v for tag, v in values.items() if tag > 0x00081140})
    private = struct.pack("<HH2sH", 0x0029, 0x0010, b"LO", 4) + b"ACME"
    return group + low + sequence + high + private


WRITTEN = {
    "in implicit VR, though explicit was agreed": lambda v: [
        b"".join(implicit(t, b"", x.encode() + b"\0" * (len(x) % 2)) for t, x in sorted(v.items()))
    ],
    "out of order": lambda v: [b"".join(identifier({t: v[t]}) for t in sorted(v, reverse=True))],
    "with a blank VR": lambda v: [identifier(v) + struct.pack("<HH2sH", 0x0088, 0x0130, b"  ", 0)],
    "with elements that nobody asked for": lambda v: [unasked(v)],
    "UIDs padded with blanks": lambda v: [other_way(v, lambda t, x: x + "  " if t not in (LEVEL, COUNT) else x)],
    "UIDs padded with NULs": lambda v: [other_way(v, lambda t, x: x + "\0\0\0" if t not in (LEVEL, COUNT) else x)],
    "counts with blanks and zeros before them": lambda v: [other_way(v, lambda t, x: f" 00{x}" if t == COUNT else x)],
    "each twice": lambda v: [identifier(v)] * 2,
    "the level left out": lambda v: [identifier({t: x for t, x in v.items() if t != LEVEL})],
    "the level in small letters": lambda v: [other_way(v, lambda t, x: x.lower() if t == LEVEL else x)],
    "an empty one before it": lambda v: [identifier({LEVEL: v[LEVEL]}), identifier(v)],
    "one of another study before it": lambda v: [
        other_way(v, lambda t, x: x + "7" if t == STUDY_UID else x),
        identifier(v),
    ],
    "the study's UID left out below its level": lambda v: [
        identifier({t: x for t, x in v.items() if t != STUDY_UID or v[LEVEL] == "STUDY"})
    ],
    "one that is no data set before it": lambda v: [b"\xff" * 20, identifier(v)],
    "of the levels below": lambda v: [identifier(v | {SERIES_UID: v.get(SERIES_UID, SERIES), SOP: v.get(SOP, "1.2")})],
    "the study's count 0": lambda v: [identifier(v | ({COUNT: "0"} if COUNT in v else {}))],
    "the study's count less than nothing": lambda v: [identifier(v | ({COUNT: "-1"} if COUNT in v else {}))],
    "the study's count no number": lambda v: [identifier(v | ({COUNT: "many"} if COUNT in v else {}))],
}


@pytest.mark.parametrize("how", WRITTEN)
async def test_a_study_and_its_instances_are_found_however_they_are_written(how):
    async with raw_pacs(ONE, TWO) as pacs:
        pacs.writes = WRITTEN[how]
        client = PacsClient(Peer("raw", "RAWPACS", "127.0.0.1", pacs.port, "US"), advertised="US")
        record = await client.find_study(STUDY)
        assert record is not None
        assert record.study_instance_uid == STUDY
        assert record.instances == (None if "the study's count" in how else 2)
        assert not record.disputed
        listed = await client.list_instances(STUDY, counted=record.instances)
        assert listed.complete
        assert [ref.sop_instance_uid for ref in listed.instances] == [ONE.uid, TWO.uid]


async def test_a_last_response_that_does_not_say_whether_a_data_set_follows_has_none():
    """PS3.7 §9.3.2.2: the last one has none."""
    async with raw_pacs(ONE) as pacs:
        pacs.says_of_data_set = False
        client = PacsClient(Peer("raw", "RAWPACS", "127.0.0.1", pacs.port, "US"), advertised="US")
        assert (await client.find_study(STUDY)).instances == 1


async def test_an_instance_that_is_listed_twice_does_not_stand_for_one_that_is_left_out():
    def writes(values):
        if values[LEVEL] == "SERIES":
            return [identifier(values | {0x00201209: "2"})]
        return [identifier(values)] * 2 if values.get(SOP, ONE.uid) == ONE.uid else []

    async with raw_pacs(ONE, TWO) as pacs:
        pacs.writes = writes
        client = PacsClient(Peer("raw", "RAWPACS", "127.0.0.1", pacs.port, "US"), advertised="US")
        listed = await client.list_instances(STUDY)
        assert [ref.sop_instance_uid for ref in listed.instances] == [ONE.uid]
        assert not listed.complete
        assert "1 of the 2 instances" in listed.reason


@pytest.mark.parametrize(
    ("answers", "disputed"),
    [
        ([("P1", "Doe^J"), ("P1", "Doe^J")], False),
        ([("P1", "Doe^J"), ("", "Doe^J")], False),
        ([("", ""), ("P1", "Doe^J")], False),
        ([("P1", "Doe^J"), ("", "")], False),
        ([("P1", "Doe^J"), ("P2", "Doe^J")], True),
        ([("P1", "Doe^J"), ("", "Roe^R")], True),
    ],
)
def test_of_several_answers_one_without_a_patient_id_disputes_nothing_but_another_name_does(answers, disputed):
    records = [
        record_of({0x0020000D: b"1.2", 0x00100020: number.encode(), 0x00100010: name.encode()})
        for number, name in answers
    ]
    one = the_one(records)
    assert one.disputed is disputed
    assert disputed or one.patient_id == "P1"


@pytest.mark.parametrize("counts", [("33", "20"), ("20", "33"), ("33", ""), ("", "33"), ("", "")])
def test_of_several_answers_the_highest_count_is_what_a_list_is_compared_with(counts):
    records = [record_of({STUDY_UID: b"1.2", COUNT: n.encode(), 0x00201206: n.encode()}) for n in counts]
    highest = 33 if "33" in counts else None
    assert (the_one(records).instances, the_one(records).series) == (highest, highest)
