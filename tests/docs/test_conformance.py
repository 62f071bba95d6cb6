"""The DICOM Conformance Statement says what the code does."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydicom.uid import UID, JPEGLosslessSV1

from gateway.dicom.sop_classes import SECONDARY_CAPTURE, STORAGE_COMMITMENT, VERIFICATION, is_storage_class
from gateway.dicom.syntaxes import COMMONEST_FIRST, IMPLICIT_LITTLE_ENDIAN
from gateway.pacs.errors import AssociationRejected
from gateway.pacs.lanes import Claim, Lane
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.receiver import IncomingInstance, Sender, Status
from gateway.pacs.scp.server import StorageScp
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.scu.commitment import CommitmentResult, request_commitment
from gateway.pacs.scu.get import GetRetriever
from gateway.pacs.scu.move import MoveRetriever
from gateway.pacs.scu.retrieve import Selection
from gateway.pacs.upper.association import Association
from gateway.pacs.upper.negotiation import Context, Rejected, read_request, reject_pdu
from gateway.runtime.spools import Spools

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts/write-conformance"
JPEG = str(JPEGLosslessSV1)
STATEMENT = (ROOT / "docs/conformance.md").read_text()


def _check(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)


def _table(name: str) -> list[list[str]]:
    text = STATEMENT.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


def _uids(name: str) -> list[str]:
    return [uid for row in _table(name) for cell in row for uid in re.findall(r"`([\d.]+)`", cell)]


@pytest.mark.slow
def test_the_tables_are_those_of_the_code():
    checked = _check(SCRIPT)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "now"),
    [("262144 bytes", "16384 bytes"), ("| CT Image Storage |", "| Other Storage |"), ("<!-- keys -->\n", "")],
)
def test_a_statement_that_says_otherwise_is_told(tmp_path, was, now):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    script = tmp_path / "scripts/write-conformance"
    script.write_text(SCRIPT.read_text())
    assert was in STATEMENT
    (tmp_path / "docs/conformance.md").write_text(STATEMENT.replace(was, now))
    checked = _check(script)
    assert checked.returncode == 1
    assert "docs/conformance.md" in checked.stderr


def test_it_names_every_transfer_syntax_and_only_storage_classes_as_received():
    assert _uids("syntaxes") == list(COMMONEST_FIRST)
    received = _uids("classes")
    assert len(received) == len(set(received)) > 150
    assert all(is_storage_class(uid) for uid in received)
    assert VERIFICATION not in received


def _peer(port: int) -> Peer:
    return Peer("pacs", "PACS", "127.0.0.1", port, "AVARAGW", timeouts=Timeouts(connect=10, associate=10))


async def refuse(incoming: IncomingInstance) -> int:
    incoming.body.close()
    return Status.NOT_AUTHORIZED


@pytest.fixture
async def scp(tmp_path):
    async def unknown(result: CommitmentResult, sender: Sender) -> bool:
        return False

    made = StorageScp(
        ae_title="PACS", host="127.0.0.1", port=0, handler=refuse, allows=lambda title, host: True,
        spools=Spools(tmp_path), on_commitment=unknown,
    )  # fmt: skip
    await made.start()
    yield made
    await made.stop(drain_for=0.1)


async def _accepted(port: int, contexts: list[Context]) -> list[tuple[str, str]]:
    """Abstract and transfer syntax of what is accepted of *contexts*."""
    found = []
    for at in range(0, len(contexts), 100):
        async with await Association.open(_peer(port), contexts[at : at + 100]) as association:
            found += [(c.abstract_syntax, c.transfer_syntaxes[0]) for c in association.contexts.values()]
    return found


async def test_our_listener_accepts_every_class_and_syntax_that_the_statement_names(scp):
    classes = [Context(uid, (JPEG, IMPLICIT_LITTLE_ENDIAN)) for uid in _uids("classes")]
    assert await _accepted(scp.port, classes) == [(c.abstract_syntax, JPEG) for c in classes]
    each = [Context(SECONDARY_CAPTURE, (uid,)) for uid in _uids("syntaxes")]
    assert await _accepted(scp.port, each) == [(SECONDARY_CAPTURE, c.transfer_syntaxes[0]) for c in each]


async def test_our_listener_is_the_scp_of_what_the_overview_says_and_of_nothing_else(scp):
    served = {uid.strip("`"): as_scp for _, uid, _, as_scp in _table("overview") if uid}
    # Of a storage commitment it takes the result, in the role of the SCU.
    taken = {uid for uid, as_scp in served.items() if as_scp == "yes"} | {STORAGE_COMMITMENT}
    accepted = await _accepted(scp.port, [Context(uid, (IMPLICIT_LITTLE_ENDIAN,)) for uid in served])
    assert {uid for uid, _ in accepted} == taken == {VERIFICATION, STORAGE_COMMITMENT}


async def test_what_we_propose_is_what_the_statement_says(tmp_path):
    proposed: list[Context] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(6)
        request = read_request(await reader.readexactly(int.from_bytes(head[2:])))
        proposed.extend(request.contexts.values())
        roles.update(request.roles)
        writer.write(reject_pdu(Rejected(1, 1, 1)))
        await writer.drain()
        writer.close()

    async def no_report(result: CommitmentResult) -> bool:
        return False

    roles: dict[str, tuple[bool, bool]] = {}
    listening = await asyncio.start_server(listen, "127.0.0.1", 0)
    client = PacsClient(_peer(listening.sockets[0].getsockname()[1]), advertised="AVARAGW at here")
    turn, study = Claim(Lane.RETRIEVE, "1.2.3"), Selection("1.2.3")
    got = GetRetriever(client, spools=Spools(tmp_path))
    for asked in (
        client.echo(),
        client.find_study("1.2.3"),
        MoveRetriever(client, destination="AVARAGW").move(study, turn=turn, last_arrival=lambda: 0, total_limit=10),
        got.get(study, turn=turn, deliver=refuse, total_limit=10),
        request_commitment(client, "1.2.4", SECONDARY_CAPTURE, "1.2.5", on_report=no_report),
    ):
        with pytest.raises(AssociationRejected):
            await asked
    listening.close()
    storage = [c for c in proposed if is_storage_class(c.abstract_syntax)]
    others = [c for c in proposed if c not in storage]
    said = {uid.strip("`"): syntaxes.split(", ") for _, uid, syntaxes, *_ in _table("proposed")}
    assert {c.abstract_syntax: [UID(s).name for s in c.transfer_syntaxes] for c in others} == said
    counted = {uid.strip("`"): int(contexts) for _, uid, contexts, _ in _table("get")}
    assert Counter(c.abstract_syntax for c in storage) == counted
    assert roles == dict.fromkeys(counted, (False, True))
