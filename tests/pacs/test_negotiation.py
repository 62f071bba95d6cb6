"""What is agreed before the first message: roles, extended negotiation, who may do what, TLS (PS3.7 Annex D).

What is left out: which storage contexts are accepted, and rejections that a peer on the wire meets (test_wire.py).
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from gateway.dicom.sop_classes import VERIFICATION
from gateway.pacs.certificate_names import is_named
from gateway.pacs.errors import NoContextAccepted, PacsUnreachable, WrongCertificate
from gateway.pacs.peer import Peer, Timeouts
from gateway.pacs.scp.server import StorageScp
from gateway.pacs.scu.client import PacsClient
from gateway.pacs.upper import dimse
from gateway.pacs.upper.association import Association
from gateway.pacs.upper.negotiation import APPLICATION_CONTEXT, Context, accept, read_request
from gateway.pacs.upper.wire import data_pdus
from gateway.runtime.spools import Spools

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def role(scu, scp):
    item = SCP_SCU_RoleSelectionNegotiation()
    item.sop_class_uid, item.scu_role, item.scp_role = CT, scu, scp
    return item


def user_identity():
    item = UserIdentityNegotiation()
    item.user_identity_type, item.positive_response_requested = 2, True
    item.primary_field, item.secondary_field = b"user", b"password"
    return item


def many_operations():
    item = AsynchronousOperationsWindowNegotiation()
    item.maximum_number_operations_invoked = item.maximum_number_operations_performed = 0  # unlimited
    return item


def extended():
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = CT, b"\x02\0\0\0\0\0"
    return item


def common_extended():
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid, item.service_class_uid = CT, "1.2.840.10008.4.2"
    return item


def request(*items):
    """The content of an A-ASSOCIATE-RQ for CT that carries *items*."""
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3"
    primitive, pdu = A_ASSOCIATE(), A_ASSOCIATE_RQ()
    primitive.application_context_name = APPLICATION_CONTEXT
    primitive.calling_ae_title, primitive.called_ae_title = "THEM", "US"
    primitive.presentation_context_definition_list = [build_context(CT, EXPLICIT)]
    primitive.presentation_context_definition_list[0].context_id = 1
    primitive.user_information = [length, implementation, *items]
    pdu.from_primitive(primitive)
    return pdu.encode()[6:]


def answered(content):
    accepted, encoded = accept(read_request(content), content, lambda context: EXPLICIT)
    pdu = A_ASSOCIATE_AC()
    pdu.decode(encoded)
    return accepted, pdu.to_primitive().user_information


@pytest.mark.parametrize(
    ("scu", "scp", "told"), [(True, False, (True, False)), (True, True, (True, False)), (False, True, None)]
)
def test_a_requestor_is_never_made_the_scp_whatever_roles_it_asks_for(scu, scp, told):
    accepted, items = answered(request(role(scu, scp)))
    roles = [(i.scu_role, i.scp_role) for i in items if isinstance(i, SCP_SCU_RoleSelectionNegotiation)]
    assert roles == ([told] if told else [])
    assert accepted.contexts[1].transfer_syntaxes == (EXPLICIT,)


@pytest.mark.parametrize("item", [user_identity, many_operations, extended, common_extended], ids=lambda f: f.__name__)
def test_extended_negotiation_that_is_not_served_is_left_unanswered_and_does_no_harm(item):
    plain, asked = answered(request()), answered(request(item()))
    assert asked[0] == plain[0]
    assert [type(i) for i in asked[1]] == [type(i) for i in plain[1]]


@given(st.binary(max_size=3000), st.sampled_from([1, 2]), st.integers(16, 700))
def test_messages_are_cut_to_what_the_other_side_takes_and_nothing_is_lost(payload, context_id, max_pdu):
    pdus = data_pdus(context_id, payload, command=False, last=True, max_pdu=max_pdu)
    headers, fragments = pdus[::2], pdus[1::2]
    assert b"".join(fragments) == payload
    for header, fragment in zip(headers, fragments, strict=True):
        assert int.from_bytes(header[2:6], "big") == 6 + len(fragment) <= max_pdu
        assert (int.from_bytes(header[6:10], "big"), header[10]) == (2 + len(fragment), context_id)
    assert [header[11] for header in headers] == [0] * (len(headers) - 1) + [2]
    assert all(len(a) == max_pdu - 6 for a, _ in pairwise(fragments))


async def refuse(instance):
    raise AssertionError("nothing may come in")


def store_request():
    return {
        dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
        dimse.MESSAGE_ID: 1,
        dimse.PRIORITY: 0,
        dimse.DATA_SET_TYPE: 1,
        dimse.AFFECTED_SOP_CLASS_UID: CT,
        dimse.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
    }


@pytest.fixture
async def scp(tmp_path, request):
    made = StorageScp(
        ae_title="US",
        host="127.0.0.1",
        port=0,
        handler=refuse,
        allows=lambda ae, host: ae == "THEM",
        spools=Spools(tmp_path),
        artim=0.3,
        tls=getattr(request, "param", None) and request.getfixturevalue(request.param)[0],
    )
    await made.start()
    yield made
    await made.stop(drain_for=0.1)


def peer(port, *, calling="THEM", tls=None, names=("127.0.0.1",)):
    return Peer(
        "us", "US", "127.0.0.1", port, calling, timeouts=Timeouts(connect=5, associate=5), tls=tls,
        certificate_names=frozenset(names),
    )  # fmt: skip


async def test_under_our_own_title_the_gateway_is_echoed_and_nothing_is_stored(scp):
    ourselves = peer(scp.port, calling="US")
    await PacsClient(ourselves, advertised="US at here").echo()
    with pytest.raises(NoContextAccepted):
        await Association.open(ourselves, [Context(CT, (EXPLICIT,))])


async def test_an_instance_in_a_context_that_is_for_echoes_is_aborted(scp):
    async with await Association.open(peer(scp.port), [Context(VERIFICATION, (EXPLICIT,))]) as association:
        await association.send(1, store_request(), b"data")
        with pytest.raises(PacsUnreachable, match="aborted the association"):
            await association.receive(5)


async def test_connections_that_never_associate_take_no_associations_place(tmp_path):
    scp = StorageScp(
        ae_title="US", host="127.0.0.1", port=0, handler=refuse, allows=lambda ae, host: True,
        spools=Spools(tmp_path), max_associations=1,
    )  # fmt: skip
    await scp.start()
    silent = [await asyncio.open_connection("127.0.0.1", scp.port) for _ in range(5)]
    await PacsClient(peer(scp.port), advertised="US at here").echo()
    for _, writer in silent:
        writer.close()
    await scp.stop(drain_for=0.1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Contexts of both sides for a certificate of 127.0.0.1."""
    assert shutil.which("openssl"), "apt-get install openssl"
    directory = tmp_path_factory.mktemp("tls")
    key, chain = directory / "key.pem", directory / "chain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(chain, key)
    return server, ssl.create_default_context(cafile=chain)


@pytest.mark.parametrize("scp", ["certificate"], indirect=True)
async def test_over_tls_both_sides_speak_dicom(scp, certificate):
    await PacsClient(peer(scp.port, tls=certificate[1]), advertised="US at here").echo()


@pytest.mark.parametrize("size", [10, 20_000, 5_000_000])
async def test_over_tls_an_instance_of_any_size_arrives_as_it_was_sent(tmp_path, certificate, size):
    received = []

    async def keep(instance):
        received.append(instance.body.read(0, instance.body.size))
        instance.body.close()
        return 0

    server, client = certificate
    scp = StorageScp(
        ae_title="US", host="127.0.0.1", port=0, handler=keep, allows=lambda ae, host: True,
        spools=Spools(tmp_path), tls=server,
    )  # fmt: skip
    await scp.start()
    data = bytes(range(251)) * (size // 251 + 1)
    async with await Association.open(peer(scp.port, tls=client), [Context(CT, (EXPLICIT,))]) as association:
        for _ in range(2):
            await association.send(1, store_request(), data)
            assert (await association.receive(10)).command[dimse.STATUS] == 0
    assert received == [data, data]
    await scp.stop(drain_for=0.5)


@pytest.mark.parametrize("scp", ["certificate"], indirect=True)
async def test_a_server_whose_certificate_is_not_trusted_is_not_spoken_to(scp, certificate):
    with pytest.raises(PacsUnreachable, match="certificate"):
        await PacsClient(peer(scp.port, tls=ssl.create_default_context()), advertised="US at here").echo()


@pytest.mark.parametrize("scp", ["certificate"], indirect=True)
async def test_a_server_whose_certificate_is_another_ones_is_told_nothing(scp, certificate):
    _, client = certificate
    client.check_hostname = False
    with pytest.raises(WrongCertificate, match=r"names 127\.0\.0\.1, gateway: .*certificate_names"):
        await PacsClient(peer(scp.port, tls=client, names=("pacs.example.org",)), advertised="US at here").echo()
    assert not any(caller.title for caller in scp._callers.values())
    for names in (("gateway",), ("*",)):
        await PacsClient(peer(scp.port, tls=client, names=names), advertised="US at here").echo()


@pytest.mark.parametrize(
    ("shown", "named"),
    [
        ({"PACS.example.org"}, True), ({"*.example.org"}, True), ({"*.org"}, False), ({"*"}, False), (set(), False),
        ({"*.pacs.example.org"}, False), ({"pacs.example.org.evil.net"}, False),
    ],
)  # fmt: skip
def test_a_wildcard_stands_for_one_label(shown, named):
    assert is_named(shown, {"pacs.example.org", "main"}) is named


@pytest.mark.slow
@pytest.mark.parametrize("scp", ["certificate"], indirect=True)
async def test_who_speaks_no_tls_is_not_waited_for(scp):
    reader, writer = await asyncio.open_connection("127.0.0.1", scp.port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
