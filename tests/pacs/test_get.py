"""C-GET: what is proposed, what comes back on our own association, and PACS that do not play along (PS3.4 C.4.3).

Against the simulator (pynetdicom) and DCMTK; Orthanc has its turn in tests/studies/test_retrieve.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.sample import sample_study
from gateway.dicom.sop_classes import COMMON_STORAGE_CLASSES, STUDY_ROOT_GET
from gateway.pacs.errors import NoContextAccepted, OperationFailed, PacsUnreachable
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.get import MAX_CONTEXTS, GetRetriever, contexts_for
from gateway.pacs.scu.retrieve import Selection
from gateway.pacs.upper.negotiation import accept, read_answer, read_request, request_pdu
from gateway.runtime.spools import Spools
from tests.conftest import data_set
from tests.rig.ports import free_port

STUDY, SAMPLE = sample_study()
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
RLE = "1.2.840.10008.1.2.5"

uids = st.lists(st.integers(1, 10**6).map(lambda n: f"1.2.{n}"), max_size=200, unique=True)


@given(uids, st.booleans())
def test_an_association_never_has_more_contexts_than_the_standard_allows(classes, uncompressed_only):
    contexts = contexts_for(classes, uncompressed_only=uncompressed_only)
    assert len(contexts) <= MAX_CONTEXTS
    assert contexts[0].abstract_syntax == STUDY_ROOT_GET
    assert all(c.as_scp and len(c.transfer_syntaxes) == 1 for c in contexts[1:])
    proposed = Counter(c.abstract_syntax for c in contexts[1:])
    assert set(proposed) == set((classes or COMMON_STORAGE_CLASSES)[: MAX_CONTEXTS - 1])
    assert max(proposed.values()) - min(proposed.values()) <= 1  # no class is favoured


def test_few_classes_are_proposed_in_every_transfer_syntax_and_uncompressed_only_is_kept():
    syntaxes = {c.transfer_syntaxes[0] for c in contexts_for([CT, MR], uncompressed_only=False)[1:]}
    assert {RLE, "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.1.99"} <= syntaxes
    plain = {c.transfer_syntaxes[0] for c in contexts_for([CT], uncompressed_only=True)[1:]}
    assert plain == {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}


@pytest.mark.parametrize("refuses", [True, False])
def test_only_a_clear_no_to_the_scp_role_counts_as_one(refuses):
    """PS3.7 D.3.3.4; some PACS leave the answer out, and send all the same."""
    contexts = contexts_for([CT], uncompressed_only=True)
    content = request_pdu("US", "PACS", contexts)[6:]
    proposal = read_request(content)
    assert proposal.roles == {CT: (False, True)}
    if refuses:  # `accept` answers who would be both that it may be an SCU
        proposal = replace(proposal, roles={CT: (True, True)})
    _, answer = accept(proposal, content, lambda context: context.transfer_syntaxes[0])
    accepted = read_answer(answer[0], answer[6:], contexts)
    assert {c.as_scp for c in accepted.contexts.values() if c.abstract_syntax == CT} == {not refuses}


class Taken:
    """What was delivered."""

    def __init__(self, pause=0.0):
        self.data, self.syntaxes, self.pause, self.spooled = {}, {}, pause, set()

    async def __call__(self, instance):
        await asyncio.sleep(self.pause)
        uid = instance.sop_instance_uid
        self.data[uid] = instance.body.read(0, instance.body.size)
        self.syntaxes[uid] = instance.transfer_syntax_uid
        if instance.body.spooled:
            self.spooled.add(uid)
        instance.body.close()
        return 0


def retriever(port, tmp_path, *, title="SIMULATOR", **options):
    timeouts = Timeouts(**{"idle": 10.0, **options.pop("timeouts", {})})
    client = PacsClient(Peer("main", title, "127.0.0.1", port, "US", timeouts=timeouts), advertised="US at here")
    return GetRetriever(client, spools=Spools(tmp_path, **options.pop("spools", {})), **options)


async def get(retriever, selection, taken, total_limit=30.0):
    await retriever.retrieve(
        selection, turn=Claim(Lane.RETRIEVE), deliver=taken, last_arrival=lambda: 0.0, total_limit=total_limit
    )


def series_of(sop_class):
    """The Series Instance UID of the sample's instances of a class, and their SOP Instance UIDs."""
    import io

    from pydicom import dcmread

    read = [dcmread(io.BytesIO(i.content), stop_before_pixels=True) for i in SAMPLE]
    chosen = [d for d in read if d.SOPClassUID == sop_class]
    return str(chosen[0].SeriesInstanceUID), [str(d.SOPInstanceUID) for d in chosen]


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


async def test_a_series_comes_back_on_our_own_association_as_it_is_held(pacs, tmp_path):
    series, held = series_of(MR)
    taken = Taken()
    await get(retriever(pacs.port, tmp_path), Selection(STUDY, series, (), (MR,)), taken)
    assert taken.data == {uid: HELD[uid] for uid in held}
    assert set(taken.syntaxes.values()) == {RLE}
    assert pacs.requests == ["GET SERIES"]


async def test_instances_are_asked_for_by_uid(pacs, tmp_path):
    series, held = series_of(CT)
    taken = Taken()
    await get(retriever(pacs.port, tmp_path), Selection(STUDY, series, tuple(held[2:5]), (CT,)), taken)
    assert taken.data == {uid: HELD[uid] for uid in held[2:5]}
    assert pacs.requests == ["GET IMAGE 3"]


async def test_a_study_whose_classes_are_not_known_is_asked_for_with_the_common_ones(pacs, tmp_path):
    taken = Taken()
    await get(retriever(pacs.port, tmp_path), Selection(STUDY), taken)
    assert {uid for uid in HELD if uid not in taken.data} <= set(series_of(MR)[1])  # RLE finds no room among 31


async def test_a_large_instance_goes_through_a_file(pacs, tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.pacs.upper.association.SPOOL_ABOVE", 1000)
    series, held = series_of(CT)
    taken = Taken()
    await get(retriever(pacs.port, tmp_path), Selection(STUDY, series, (), (CT,)), taken)
    assert taken.spooled == set(held)
    assert taken.data == {uid: HELD[uid] for uid in held}


async def test_an_instance_that_is_larger_than_what_is_taken_is_refused_and_costs_no_other(pacs, tmp_path, caplog):
    series, held = series_of(CT)
    taken, largest = Taken(), max(len(HELD[uid]) for uid in held) - 1
    limited = retriever(pacs.port, tmp_path, spools={"largest": largest})
    await get(limited, Selection(STUDY, series, (), (CT,)), taken)
    assert taken.data == {uid: HELD[uid] for uid in held if len(HELD[uid]) <= largest}
    assert len(taken.data) < len(held)
    assert any("raise dicom.max_instance_size" in r.getMessage() for r in caplog.records)


async def test_while_an_instance_is_taken_in_the_next_one_is_not_sent_and_this_is_no_silence(pacs, tmp_path):
    series, held = series_of(CT)
    taken = Taken(pause=0.3)
    chosen = tuple(held[:4])
    await get(retriever(pacs.port, tmp_path, timeouts={"idle": 0.25}), Selection(STUDY, series, chosen, (CT,)), taken)
    assert set(taken.data) == set(chosen)


async def test_a_pacs_that_refuses_us_the_scp_role_is_a_clear_error(pacs, tmp_path):
    pacs.behaviour.refuse_scp_role = True
    with pytest.raises(NoContextAccepted, match=r"serves C-GET and .*: allow our AE title to retrieve by C-GET"):
        await get(retriever(pacs.port, tmp_path), Selection(STUDY, "1.2", (), (CT,)), Taken())


async def test_failed_sub_operations_are_told(pacs, tmp_path):
    series, held = series_of(CT)
    pacs.behaviour.fail = {held[0]}
    taken = Taken()
    with pytest.raises(OperationFailed, match="ended the C-GET with status B000"):
        await get(retriever(pacs.port, tmp_path), Selection(STUDY, series, (), (CT,)), taken)
    assert set(taken.data) == set(held[1:])


async def test_an_abort_in_the_middle_keeps_what_had_come(pacs, tmp_path):
    series, held = series_of(CT)
    pacs.behaviour.abort_after = 3
    taken = Taken()
    with pytest.raises(PacsUnreachable, match="was lost"):
        await get(retriever(pacs.port, tmp_path), Selection(STUDY, series, (), (CT,)), taken)
    assert set(taken.data) == set(held[:3])


async def test_a_silent_pacs_and_an_endless_transfer_are_given_up(pacs, tmp_path):
    series, _ = series_of(CT)
    selection = Selection(STUDY, series, (), (CT,))
    pacs.behaviour.delay_per_instance = 0.2
    with pytest.raises(PacsUnreachable, match=r"took over 0\.5 s"):
        await get(retriever(pacs.port, tmp_path), selection, Taken(), total_limit=0.5)
    pacs.behaviour.silent = True
    with pytest.raises(PacsUnreachable, match=r"silent for 0\.3 s"):
        await get(retriever(pacs.port, tmp_path, timeouts={"idle": 0.3}), selection, Taken())


@pytest.mark.slow
async def test_dcmtk_sends_what_it_holds_as_it_holds_it(tmp_path):
    port, storage = free_port(), tmp_path / "storage"
    storage.mkdir()
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMTK {storage} RW (100, 1024mb) ANY\nAETable END\n"
    )
    server = await asyncio.create_subprocess_exec("dcmqrscp", "-c", config, "+xe", stdout=-3, stderr=-3)
    try:
        dcmtk = retriever(port, tmp_path, title="DCMTK")
        async with asyncio.timeout(15):
            while True:
                try:
                    await dcmtk._client.echo()
                    break
                except PacsUnreachable:
                    await asyncio.sleep(0.05)
        series, held = series_of(CT)
        paths = []
        for number, i in enumerate(SAMPLE[:5]):
            assert i.sop_instance_uid in held
            paths.append(tmp_path / f"{number}.dcm")
            paths[-1].write_bytes(i.content)
        store = await asyncio.create_subprocess_exec(
            "storescu", "-xe", "-aec", "DCMTK", "127.0.0.1", str(port), *paths, stdout=-3, stderr=-3
        )
        assert await asyncio.wait_for(store.wait(), 30) == 0
        taken = Taken()
        await get(dcmtk, Selection(STUDY, series, (), (CT,)), taken)
        assert taken.data == {i.sop_instance_uid: HELD[i.sop_instance_uid] for i in SAMPLE[:5]}
    finally:
        server.terminate()
        await server.wait()
