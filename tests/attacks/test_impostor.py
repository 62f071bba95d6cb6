"""A host on the network that says the PACS's AE title: what it sends reaches no study, whenever it comes.

The impostor is pynetdicom on another loopback address. Honest work goes on beside it.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import subprocess

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from gateway.demo.sample import sample_study, synthetic_ct
from gateway.demo.stand_in import without_reactor
from gateway.studies.outcome import Complete, Partial
from tests.conftest import data_set

STUDY = generate_uid(None)
SAMPLE = list(synthetic_ct(STUDY, 40, 16, 16))
HELD = {i.sop_instance_uid: data_set(i.content) for i in SAMPLE}
UIDS = list(HELD)
IMPOSTOR, PACS = "127.0.0.66", "127.0.0.1"


def forged(*uids):
    """Instances of the study with other pixels, under these UIDs."""
    for uid in uids:
        d = dcmread(io.BytesIO(SAMPLE[0].content))
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = uid
        d.PixelData = b"\x66" * len(d.PixelData)
        yield d


async def send(gateway, title, address, *instances, called="AVARAGW", tls=None):
    """C-STOREs from *address* under *title*: their statuses; None where the association is rejected."""

    def store():
        ae = AE(title)
        ae.add_requested_context(CTImageStorage)
        ae.add_requested_context(Verification)
        assoc = ae.associate(
            "127.0.0.1", gateway.parts.scp.port, ae_title=called, bind_address=(address, 0),
            tls_args=(tls, None) if tls else None,
        )  # fmt: skip
        if not assoc.is_established:
            return None
        with without_reactor(assoc):
            statuses = [assoc.send_c_store(d).Status for d in instances] or [assoc.send_c_echo().Status]
        assoc.release()
        return statuses

    return await asyncio.to_thread(store)


async def stored(gateway):
    index = await gateway.parts.cache.index(STUDY)
    answer = await gateway.ask(STUDY)
    assert "error" not in answer
    return dict(zip(index.instances, await gateway.data_sets(answer), strict=True))


@pytest.fixture
def pacs(simulator):
    simulator.add(*(i.content for i in SAMPLE))
    return simulator


async def some_are_there(flight):
    async with asyncio.timeout(20):
        while len(flight.stored) < 5:
            await asyncio.sleep(0.01)


async def all_is_listed(flight):
    async with asyncio.timeout(20):
        while not flight.listed.is_set():
            await asyncio.sleep(0.01)


async def test_during_a_cold_fetch_nothing_is_altered_and_nothing_is_added(pacs, start):
    pacs.behaviour.delay_per_instance = 0.03
    gateway = await start(pacs)
    flight = gateway.parts.fetcher.fetch(STUDY)
    await some_are_there(flight)
    for uids in (UIDS[:1], UIDS[-1:], [generate_uid(None)]):
        assert await send(gateway, pacs.ae_title, IMPOSTOR, *forged(*uids)) is None
    assert flight.outcome is None, "the attack came too late to be one"
    assert isinstance(await flight.ended(60), Complete)
    assert await stored(gateway) == HELD


async def test_during_a_revalidation_a_cached_study_stays_as_it_is(pacs, start):
    gateway = await start(pacs, cache={"revalidate_after": "0s"})
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(60), Complete)
    pacs.behaviour.silent = True
    flight = gateway.parts.fetcher.fetch(STUDY)
    assert await send(gateway, pacs.ae_title, IMPOSTOR, *forged(UIDS[0])) is None
    # Not even the PACS itself, where nobody asked it.
    assert await send(gateway, pacs.ae_title, PACS, *forged(UIDS[1], generate_uid(None))) == [0x0124, 0x0124]
    pacs.behaviour.silent = False
    assert isinstance(await flight.ended(60), Complete)
    assert await stored(gateway) == HELD


async def test_one_pacs_does_not_add_to_what_another_one_is_asked_for(pacs, start):
    pacs.behaviour.delay_per_instance = 0.03
    other = {"name": "other", "ae_title": "OTHER", "host": IMPOSTOR, "port": 1}
    gateway = await start(pacs, other)
    flight = gateway.parts.fetcher.fetch(STUDY)
    await some_are_there(flight)
    assert await send(gateway, "OTHER", IMPOSTOR, *forged(UIDS[-1], generate_uid(None))) == [0x0124, 0x0124]
    assert isinstance(await flight.ended(60), Complete)
    assert await stored(gateway) == HELD


async def test_what_the_pacs_sends_and_does_not_list_leaves_with_an_alarm(pacs, start, caplog):
    pacs.behaviour.delay_per_instance = 0.03
    gateway = await start(pacs)
    flight = gateway.parts.fetcher.fetch(STUDY)
    await some_are_there(flight)
    unlisted = generate_uid(None)
    # What was sent once is not altered by a second body that nobody asked for: it is acknowledged, and not taken.
    assert await send(gateway, pacs.ae_title, PACS, *forged(unlisted, next(iter(flight.stored)))) == [0, 0]
    assert isinstance(await flight.ended(60), Complete)
    assert await stored(gateway) == HELD
    assert f"ALARM: instance {unlisted}" in caplog.text
    assert gateway.parts.fetcher.unlisted == 1
    assert not [o.key async for o in gateway.parts.store.list("studies/") if unlisted in o.key]


async def test_beside_what_a_cut_list_leaves_out_only_what_the_pacs_does_not_have_leaves(pacs, start, caplog):
    pacs.behaviour.delay_per_instance = 0.03
    pacs.behaviour.no_counts, pacs.behaviour.list_limit = True, 37
    gateway = await start(pacs)
    flight = gateway.parts.fetcher.fetch(STUDY)
    await some_are_there(flight)
    strangers = [generate_uid(None) for _ in range(9)]
    assert await send(gateway, pacs.ae_title, PACS, *forged(*strangers)) == [0] * 9
    outcome = await flight.ended(60)
    assert set(outcome.index.instances) == set(UIDS)
    assert caplog.text.count("ALARM: instance") == gateway.parts.fetcher.unlisted == 9


async def test_what_the_pacs_cannot_be_asked_about_is_not_given_and_alarms_nobody(pacs, start, caplog):
    pacs.behaviour.delay_per_instance = 0.03
    pacs.behaviour.no_counts = True
    gateway = await start(pacs)
    flight = gateway.parts.fetcher.fetch(STUDY)
    await some_are_there(flight)
    await all_is_listed(flight)
    pacs.behaviour.refuse_calling_ae = True
    assert await send(gateway, pacs.ae_title, PACS, *forged(generate_uid(None))) == [0]
    outcome = await flight.ended(60)
    assert isinstance(outcome, Partial)
    assert "cannot be asked whether it has what it sent and did not list" in outcome.reason
    assert list(outcome.index.instances) == UIDS
    assert "ALARM" not in caplog.text
    pacs.behaviour.refuse_calling_ae = False
    assert isinstance(await gateway.parts.fetcher.fetch(STUDY).ended(60), Complete)
    assert await stored(gateway) == HELD


async def test_what_was_added_to_the_study_while_it_was_fetched_stays(pacs, start):
    pacs.behaviour.delay_per_instance = 0.03
    gateway = await start(pacs)
    flight = gateway.parts.fetcher.fetch(STUDY)
    await some_are_there(flight)
    await all_is_listed(flight)
    [new] = forged(generate_uid(None))
    out = io.BytesIO()
    new.save_as(out, enforce_file_format=True)
    pacs.add(out.getvalue())
    assert await send(gateway, pacs.ae_title, PACS, new) == [0]
    assert isinstance(await flight.ended(60), Complete)
    assert len(await stored(gateway)) == len(SAMPLE) + 1
    assert gateway.parts.fetcher.unlisted == 0


async def test_check_and_metrics_say_who_was_rejected_and_what_to_add(pacs, start):
    gateway = await start(pacs)
    for _ in range(3):
        assert await send(gateway, pacs.ae_title, IMPOSTOR) is None
    assert await send(gateway, "NOBODY", PACS) is None
    told = [r.text async for r in gateway.checked() if r.name == "DICOM callers"]
    assert "AE NOBODY at 127.0.0.1 was rejected 1 times" in told[0]
    assert f"AE {pacs.ae_title} at 127.0.0.66 was rejected 3 times" in told[1]
    assert "add 127.0.0.66 to its pacs[].sending_addresses" in told[1]
    assert gateway.parts.senders.rejections == 4
    second = await start(pacs, pacs_options={"sending_addresses": ["127.0.0.64/28"]})
    assert await send(second, pacs.ae_title, IMPOSTOR) == [0]
    assert await send(second, pacs.ae_title, PACS) is None


async def test_our_own_title_is_echoed_for_this_machine_and_stores_nothing(pacs, start):
    gateway = await start(pacs)
    await gateway.parts.echo_self()
    study, _ = sample_study()
    gateway.parts.fetcher.fetch(study)
    assert await send(gateway, "AVARAGW", PACS) == [0]
    with pytest.raises(ValueError, match="No presentation context"):
        await send(gateway, "AVARAGW", PACS, *forged(UIDS[0]))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and what it has certified: the gateway, the PACS, and somebody else of the hospital."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30, cwd=directory)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new, "-subj", "/CN=Hospital CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("AVARAGW", "SIMULATOR", "printer"):
        openssl("req", *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem")  # fmt: skip
    return directory


def client(certificates, name):
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


async def test_with_tls_the_certificate_has_to_be_the_pacss_own(pacs, start, certificates):
    tls = {
        "certificate_file": str(certificates / "AVARAGW.pem"),
        "key_file": str(certificates / "AVARAGW.key"),
        "ca_file": str(certificates / "ca.pem"),
    }
    gateway = await start(pacs, dicom={"tls": tls})
    await gateway.parts.echo_self()
    assert await send(gateway, pacs.ae_title, PACS, tls=client(certificates, "SIMULATOR")) == [0]
    assert await send(gateway, pacs.ae_title, PACS, tls=client(certificates, "printer")) is None
    told = [r.text async for r in gateway.checked() if r.name == "DICOM callers"]
    assert "names printer" in told[0]
    assert "pacs[].certificate_names" in told[0]
    second = await start(pacs, dicom={"tls": tls}, pacs_options={"certificate_names": ["Printer"]})
    assert await send(second, pacs.ae_title, PACS, tls=client(certificates, "printer")) == [0]
