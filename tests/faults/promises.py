"""What holds after every fault: one list of promises, checked from outside by :func:`broken`.

Nothing acknowledged is lost or doubled; no index names what is not in the store; nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import time
from collections import Counter
from pathlib import Path

from pydicom import dcmread

from gateway.journal import JournalError
from gateway.objects import StoreError
from gateway.studies import index as index_file
from gateway.studies import keys

from .hospital import Hospital
from .peers import MortalOrthanc
from .process import command_of, processes

PDF_CLASS = "1.2.840.10008.5.1.4.1.1.104.1"
OURS = ("inbox/", "outbox/", "reports/", "quarantine/")
"""What the store holds only while there is work on it."""

HOUSEKEEPING = "object.clean"


async def broken(hospital: Hospital, *, heals_within: float = 90.0) -> list[str]:
    """What is not as it was promised, once all is over or *heals_within* seconds have passed; empty: all is well."""
    until = time.monotonic() + heals_within
    while True:
        # What is still under way is the first thing that is looked at, and the cheapest.
        found = _unfinished(hospital) or await _litter(hospital)
        found = found or [*await _deliveries(hospital), *await _indexes(hospital)]
        if not found:
            return []
        if time.monotonic() > until:
            return [
                *_unfinished(hospital), *await _litter(hospital), *await _deliveries(hospital),
                *await _indexes(hospital),
            ]  # fmt: skip
        await asyncio.sleep(0.3)


# -- healed without a hand


def _unfinished(hospital: Hospital) -> list[str]:
    return [
        f"not healed: job {number} {kind} is {state}: {why}"
        for number, kind, state, why, _ in hospital.gateway.jobs()
        if state in ("waiting", "running", "quarantined") and kind != HOUSEKEEPING
    ]


# -- nothing lost, nothing doubled


async def _deliveries(hospital: Hospital) -> list[str]:
    known, found = hospital.known, []
    studies = set(known.studies)
    documents: Counter[str] = Counter()
    for pacs, takes_reports in ((hospital.main, True), (hospital.second, False)):
        for study in studies:
            held = await pacs.held(study)
            captures = {c.sop_instance_uid: c for c in known.captures if c.study == study}
            lost = [u for u, c in captures.items() if c.acknowledged and u not in held]
            found += [f"capture {uid} was acknowledged and is not in {pacs.ae_title}" for uid in lost]
            strange = set(held) - set(captures) - known.studies[study]
            for uid in strange:
                document = await _document(pacs, held[uid])
                if document is None or not takes_reports:
                    found.append(f"{pacs.ae_title} has instance {uid}, which nobody sent")
                else:
                    documents[document] += 1
    for report in known.reports:
        places = {
            "the PACS": documents.pop(report.document, 0),
            "the RIS": len(hospital.ris.controls.get(report.document, ())),
            **{f"folder {f.name}": _in_folder(f, report.report_id) for f in hospital.folders},
        }
        if report.critical:
            places["mail"] = len(hospital.mail.mails.get(report.report_id, ()))
        found += [
            f"report {report.report_id} ({'' if report.acknowledged else 'not '}acknowledged) is {n} times in {place}"
            for place, n in places.items()
            if n > 1 or (n == 0 and report.acknowledged)
        ]
    found += [f"the PACS has {n} documents {d[:8]}… that nobody delivered" for d, n in documents.items()]
    for folder in hospital.folders:
        found += [f"{p.name} is left in folder {folder.name}" for p in folder.glob(".*")]
    return found


async def _document(pacs: MortalOrthanc, name: str) -> str | None:
    """SHA-256 of the PDF in an instance; None where it holds none."""
    d = dcmread(io.BytesIO(await pacs.file(name)))
    if d.SOPClassUID != PDF_CLASS:
        return None
    return hashlib.sha256(d.EncapsulatedDocument[: d.EncapsulatedDocumentLength]).hexdigest()


def _in_folder(folder: Path, report_id: str) -> int:
    """How many sidecars name the report; a sidecar that names what is not there, whole, counts as none."""
    count = 0
    for path in folder.glob(f"{report_id}_v*.json"):
        files = json.loads(path.read_text())["files"]
        with contextlib.suppress(FileNotFoundError):
            count += all(hashlib.sha256((folder / f["name"]).read_bytes()).hexdigest() == f["sha256"] for f in files)
    return count


# -- no index names what is not there


async def _indexes(hospital: Hospital) -> list[str]:
    found = []
    try:
        async with hospital.gateway.store() as store:
            sizes = {o.key: o.size async for o in store.list(keys.ROOT)}
            for key in [k for k in sizes if k.endswith("/index")]:
                index = index_file.load(await store.get(key))
                if index is None:
                    found.append(f"{key} cannot be read")
                    continue
                for instance in index.shown:
                    uid = instance.sop_instance_uid
                    there = sizes.get(keys.instance(index.study_instance_uid, uid, instance.revision))
                    if there != instance.size:
                        found.append(f"{key} names instance {uid} of {instance.size} bytes; the store has {there}")
    except (StoreError, JournalError, OSError) as e:
        found.append(f"the store cannot be looked at: {e}")
    return found


# -- nothing is left behind


async def _litter(hospital: Hospital) -> list[str]:
    gateway, found = hospital.gateway, []
    try:
        async with gateway.store() as store:
            for prefix in OURS:
                found += [f"{o.key} is left in the store" async for o in store.list(prefix)]
    except (StoreError, OSError) as e:
        found.append(f"the store cannot be looked at: {e}")
    spool = gateway.state_dir / "spool"
    if spool.is_dir():
        found += [f"{path.name} is left in the spool" for path in spool.iterdir()]
    stores = [pid for pid in gateway.children() if "mini" in command_of(pid)]
    warm = [pid for pid in gateway.children() if "reports/pdf/forker.py" in " ".join(command_of(pid))]
    others = [pid for pid in gateway.children() if pid not in (*stores, *warm)]
    if too_many := [*stores[1:], *warm[1:], *others]:
        found.append(f"child processes are left: {[command_of(p) for p in too_many]}")
    ours = str(gateway.state_dir / "store")
    running = [p for p in processes() if f"-dir={ours}" in command_of(p)]
    if len(running) > 1:
        found.append(f"{len(running)} stores run on one folder: {running}")
    return found
