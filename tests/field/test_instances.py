"""Instances as the field has them: a study of every kind opens, complete, and byte-equal to what the PACS sent.

By every method, from a PACS that sends bytes as they are (raw_pacs.py). What a header reader makes of each is in
test_headers.py; what a PACS does wrong in its lists is in tests/studies.
"""

from __future__ import annotations

import dataclasses
import logging
from urllib.parse import quote

import pytest

from gateway.admin.control import GatewayGone, ask
from gateway.studies import keys
from gateway.studies.outcome import Complete, NotSent
from tests.field.inputs import CT, KINDS, SERIES, STUDY, elements, encoded, held
from tests.field.raw_pacs import EXPLICIT, Held, part10, raw_pacs

METHODS = ("c-move", "c-get", "wado-rs")


async def opened(start, pacs, method, study=STUDY, **sections):
    """A gateway before *pacs*, the answer for the study, and the objects behind its URLs."""
    gateway = await start(pacs.described(method), **sections)
    pacs.destination = ("127.0.0.1", gateway.parts.scp.port)
    ended = await gateway.parts.fetcher.fetch(study).ended(60)
    answer = await gateway.ask(study)
    return gateway, ended, answer, [await gateway.open(url) for url in answer["urls"]]


def data_set(part10):
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_opens_complete_and_as_it_was_sent(start, kind, method):
    odd = KINDS[kind].instance
    plain = Held(STUDY, SERIES, f"{SERIES}.2", encoded(elements(2)))
    async with raw_pacs(odd, plain) as pacs:
        gateway, ended, answer, objects = await opened(start, pacs, method)
        assert isinstance(ended, Complete), ended
        assert "error" not in answer
        assert sorted(map(data_set, objects)) == sorted((odd.data, plain.data))
        listed = {s["sopInstanceUID"]: s for series in answer["manifest"]["series"] for s in series["sops"]}
        assert (odd.uid in listed) == KINDS[kind].described
        if KINDS[kind].described:
            assert (listed[odd.uid]["rows"], listed[odd.uid]["columns"]) == (2, 2)
        else:
            assert data_set(objects[-1]) == odd.data, "what could not be read is listed last"
            assert ended.index.instances[odd.uid].note
        again = await gateway.ask(STUDY)  # from the cache
        assert [data_set(await gateway.open(url)) for url in again["urls"]] == [data_set(o) for o in objects]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("study", ["1.2.3.STUDY-A", "1.2.826.0.1.3680043.8.498.9001.", "1.2.826." + "1" * 62])
async def test_a_study_whose_uid_is_none_opens_where_the_pacs_has_it(start, method, study):
    """PS3.5 §9.1 has digits and dots, 64 at most; what the PACS calls it is what has to be asked for."""
    one = Held(study, SERIES, f"{SERIES}.1", encoded(elements(study=study)))
    async with raw_pacs(one) as pacs:
        gateway, ended, answer, objects = await opened(start, pacs, method, study)
        assert isinstance(ended, Complete)
        assert answer["manifest"]["studyInstanceUID"] == study
        assert list(map(data_set, objects)) == [one.data]
        await gateway.parts.cache.sweep()
        assert await gateway.parts.cache.index(study)


@pytest.mark.parametrize("in_file", ["", SERIES + ".5"])
@pytest.mark.parametrize("method", METHODS)
async def test_an_instance_that_is_listed_without_a_series_uid_counts_and_opens(start, method, in_file):
    """PS3.4 C.6.2.1: the series' unique key has a value. One without is no reason to lose its instances."""
    nameless = Held(STUDY, "", f"{SERIES}.1", encoded(elements(series=in_file)))
    plain = Held(STUDY, SERIES, f"{SERIES}.2", encoded(elements(2)))
    async with raw_pacs(nameless, plain) as pacs:
        gateway, ended, answer, objects = await opened(start, pacs, method)
        assert isinstance(ended, Complete), ended
        assert "error" not in answer
        assert sorted(map(data_set, objects)) == sorted((nameless.data, plain.data))
        listing = await gateway.parts.pacs[0].finder.list_instances(STUDY)
        assert listing.complete
        assert {r.sop_instance_uid: r.series_instance_uid for r in listing.instances} == {
            nameless.uid: "", plain.uid: SERIES
        }  # fmt: skip
        assert all(i.unlisted_since == 0 for i in ended.index.instances.values())


async def test_what_cannot_be_read_is_noted_in_the_log(start, caplog):
    caplog.set_level(logging.WARNING)
    odd = KINDS["no header at all"].instance
    async with raw_pacs(odd) as pacs:
        await opened(start, pacs, "c-move")
    assert any(odd.uid in r.getMessage() and "cannot be read" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("affected", ["", "1.2*", "x" * 100])
async def test_an_affected_sop_instance_uid_that_is_none_costs_nothing(start, affected):
    """PS3.7 §9.1.1.1.4: Affected SOP Instance UID; the data set has it, too."""
    one = held(encoded(elements()), affected=affected)
    async with raw_pacs(one) as pacs:
        _, ended, _, objects = await opened(start, pacs, "c-move")
        assert isinstance(ended, Complete)
        assert list(map(data_set, objects)) == [one.data]


class TestTheAssociationTells:
    """Item 7: the database was corrected, the file was not (pynetdicom and dcm4chee users have it after each merge)."""

    @pytest.mark.parametrize("method", METHODS)
    async def test_another_study_uid_in_the_file_is_attributed_by_the_list(self, start, method):
        old = held(encoded(elements(study="1.2.3.4.5")))
        async with raw_pacs(old) as pacs:
            _, ended, answer, objects = await opened(start, pacs, method)
            assert isinstance(ended, Complete)
            assert list(map(data_set, objects)) == [old.data]
            assert "1.2.3.4.5" in ended.index.instances[old.uid].note
            assert answer["manifest"]["series"][0]["sops"]

    @pytest.mark.parametrize("method", METHODS)
    async def test_another_sop_instance_uid_in_the_file_counts_as_the_listed_one(self, start, method):
        old = held(encoded(elements(sop="1.2.3.4.5.6")))
        async with raw_pacs(old) as pacs:
            _, ended, answer, objects = await opened(start, pacs, method)
            assert isinstance(ended, Complete)
            assert list(map(data_set, objects)) == [old.data]
            assert list(ended.index.instances) == [old.uid]
            [series] = answer["manifest"]["series"]
            assert [s["sopInstanceUID"] for s in series["sops"]] == ["1.2.3.4.5.6"], "a viewer reads this in the file"

    @pytest.mark.parametrize("method", METHODS)
    async def test_all_three_uids_may_differ(self, start, method):
        old = held(encoded(elements(study="1.2.3", series="1.2.3.4", sop="1.2.3.4.5.6")))
        async with raw_pacs(old) as pacs:
            _, ended, _, objects = await opened(start, pacs, method)
            assert isinstance(ended, Complete)
            assert list(map(data_set, objects)) == [old.data]

    async def test_an_old_command_uid_does_not_rename_what_the_list_has(self, start):
        """Some C-STORE requests of old images name another instance than their data set is."""
        one = held(encoded(elements()), affected="1.2.3.4.5.6")
        async with raw_pacs(one) as pacs:
            _, ended, _, _ = await opened(start, pacs, "c-move")
            assert list(ended.index.instances) == [one.uid]

    async def test_without_a_list_the_only_flight_of_that_pacs_is_the_one_that_is_meant(self, start):
        odd = KINDS["no header at all"].instance
        async with raw_pacs(odd) as pacs:
            pacs.lists = False
            _, ended, _, objects = await opened(start, pacs, "c-move")
            assert isinstance(ended, Complete)
            assert list(map(data_set, objects)) == [odd.data]

    async def test_without_a_list_a_data_set_of_another_study_is_not_taken(self, start):
        """It could be another patient's."""
        foreign = held(encoded(elements(study="1.2.3.4.5")))
        async with raw_pacs(foreign) as pacs:
            pacs.lists = False
            gateway, ended, answer, _ = await opened(start, pacs, "c-move")
            assert isinstance(ended, NotSent)
            assert answer["urls"] == []
            assert [o async for o in gateway.parts.store.list(keys.ROOT)] == []

    async def test_an_instance_of_nobody_s_is_refused(self, start):
        mine, foreign = held(encoded(elements())), Held("1.2.9", "1.2.9.1", "1.2.9.1.1", b"\xff" * 64)
        async with raw_pacs(mine, foreign) as pacs:
            gateway, ended, _, _ = await opened(start, pacs, "c-move")
            assert isinstance(ended, Complete)
            assert await pacs._move([foreign]) == 0
            assert pacs.statuses[-1] == 0x0124
            assert [o async for o in gateway.parts.store.list(keys.study("1.2.9"))] == []


@pytest.mark.parametrize(
    ("says", "content"),
    [
        ("no preamble (PS3.10 §7.1 has 128 bytes)", lambda h: part10(h)[132:]),
        (
            "no Media Storage UIDs (PS3.10 Table 7.1-1: Type 1)",
            lambda h: part10(dataclasses.replace(h, sop_class="", affected="")),
        ),
        (
            "no Transfer Syntax UID: explicit VR little endian (PS3.18 §8.7.3.5.2)",
            lambda h: part10(dataclasses.replace(h, syntax="")),
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
async def test_a_part_whose_file_meta_information_is_lacking_is_an_instance(start, says, content):
    one = held(encoded(elements()))
    one.part10 = content(one)
    async with raw_pacs(one) as pacs:
        _, ended, answer, objects = await opened(start, pacs, "wado-rs")
        assert isinstance(ended, Complete), says
        assert list(map(data_set, objects)) == [one.data]
        assert answer["manifest"]["series"][0]["sops"][0]["sopClassUID"] == CT
        assert ended.index.instances[one.uid].transfer_syntax_uid == EXPLICIT


@pytest.mark.parametrize("uid", ["1.2.826.0.1." + "3" * 66, "1.2/3 A%2F#b", "1.2.840.x."])
async def test_a_command_asks_for_a_study_by_whatever_a_pacs_calls_it(start, simulator, uid):
    """PS3.5 §9.1 has digits and dots, 64 at most; an operator has to reach the study under the name that it has."""
    gateway = await start(simulator)
    socket = gateway.config.state_dir / "control.sock"
    *_, last = [line async for line in ask(socket, f"/fetch/{quote(uid, safe='')}")]
    assert last["outcome"] == "not found"
    with pytest.raises(GatewayGone):
        [line async for line in ask(socket, f"/fetch/{quote('1.*', safe='')}")]


@pytest.mark.parametrize(
    "names", [(2, 1), (1, 1), (2, 2)], ids=["each other's", "both the first's", "both the second's"]
)
@pytest.mark.parametrize("method", ["c-move", "c-get"])
async def test_a_file_with_the_uid_of_another_listed_instance_is_the_one_that_the_command_set_names(
    start, method, names
):
    """Copies that only the database tells apart: the Affected SOP Instance UID (PS3.7 §9.1.1) is the PACS's word."""
    first, second = (
        Held(STUDY, SERIES, f"{SERIES}.{n}", encoded([*elements(of)[:-1], (0x7FE00010, b"OB", b"%d-px" % n)]))
        for n, of in enumerate(names, 1)
    )
    async with raw_pacs(first, second) as pacs:
        gateway, ended, answer, _ = await opened(start, pacs, method)
        assert isinstance(ended, Complete), ended
        assert "error" not in answer
        for one in (first, second):
            [url] = [url for url in answer["urls"] if f"{one.uid}.dcm" in url]
            assert data_set(await gateway.open(url)) == one.data
