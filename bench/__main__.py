"""Runs every measure, prints a table, writes bench/out/results.json and bench/out/results.svg.

``python -m bench [--quick] [PART …]``: all parts take some fifteen minutes on two cores; ``--quick`` is for work on
the code, with one run and less of everything. A new measure is one more function in :data:`PARTS`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import io
import itertools
import json
import os
import platform
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from rich.console import Console
from rich.table import Table

from bench.audit import audit as audit_of
from bench.browser import seen
from bench.floors import bare_puts, push_floor
from bench.large import large
from bench.plot import plot
from bench.prefetch import compared
from bench.slices import CONNECTIONS, slices
from bench.world import Gateway, cpu_of, gateway, push_large
from gateway.demo import Orthanc, small_pdf, synthetic_ct
from gateway.objects import EmbeddedStore, ObjectStore, Presigner, free_port

OUT = Path(__file__).parent / "out"
STUDIES = {"600 × 525 KB": ("1.2.826.1", 600, 512), "3,000 × 10 KB": ("1.2.826.2", 3000, 70)}
ROUNDS = 3
"""Of eight studies in a row and eight at once."""


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    runs: int = 5
    dcmtk: tuple[int, int] = (600, 300)
    """Instances of each study that DCMTK is measured on; the rest is extrapolated, it is linear."""
    pynetdicom: tuple[int, int] = (150, 200)
    sizes: tuple[int, ...] = (100, 300, 1000, 3000)
    """Instances of the studies by which the time to the first answer is shown."""
    large: tuple[int, ...] = (100_000_000, 500_000_000, 2_000_000_000)
    """Bytes of the multi-frame instances by which the memory is shown."""
    very_large: tuple[int, ...] = (3_000, 20_000, 100_000)
    """Instances of the studies by which answers out of the cache are shown to grow as these do."""
    captures: int = 60
    slices: tuple[tuple[float | None, int, int], ...] = (
        (None, 100, 512), (None, 600, 512), (None, 3000, 70), (20, 100, 512), (20, 600, 512), (5, 100, 512),
    )  # fmt: skip
    """MB a second of the link (None: no limit), instances, and pixels a side, by which slices are waited for."""
    seen: tuple[tuple[float, int, int], ...] = ((5, 100, 512), (20, 100, 512), (20, 300, 512))
    """The same of what is drawn in a browser."""
    audit: int = 40
    """Rounds by which the audit trail's cost is told."""
    day: int = 2
    """Times ten studies that a day has, by which prefetch is measured."""


QUICK = Extent(
    runs=1, dcmtk=(30, 30), pynetdicom=(30, 30), sizes=(100, 1000), large=(200_000_000,), captures=20,
    slices=((None, 600, 512), (20, 600, 512)), seen=((20, 100, 512),), audit=10, day=1,
)  # fmt: skip


async def main(parts: list[str], extent: Extent) -> None:
    """Measures *parts*, one after the other."""
    console = Console()
    results: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "load before": round(os.getloadavg()[0], 2),
        }
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        async with Orthanc() as orthanc:
            for part in parts or PARTS:
                console.print(f"{part} …")
                results |= await PARTS[part](Path(name), orthanc, extent)
                OUT.mkdir(exist_ok=True)
                (OUT / "results.json").write_text(json.dumps(results, indent=2))
                (OUT / "results.svg").write_text(plot(results))
    show(console, results)


async def cold(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """Webhook in to answer out of an empty cache, in turn with its two floors, and what others take."""
    found = {}
    for n, (title, (study, count, size)) in enumerate(STUDIES.items()):
        objects = [i.content for i in synthetic_ct(study, count, size, size)]
        await orthanc.add(*objects)
        found[f"cold {title}"] = measured = await against_floors(study, objects, orthanc, directory, extent.runs)
        for name, receive, part in (
            ("movescu + storescp", dcmtk, extent.dcmtk[n]),
            ("pynetdicom storescp", pynetdicom, extent.pynetdicom[n]),
        ):
            took = await into_another(receive, f"{study}.9", part, size, orthanc, directory) * count / part
            measured |= {
                f"{name} s": took,
                f"{name} measured on instances": part,
                f"times faster than {name}": took / measured["gateway s"],
            }
    return found


async def against_floors(
    study: str, objects: list[bytes], orthanc: Orthanc, directory: Path, runs: int
) -> dict[str, float]:
    """The gateway and its floors in turn: what the machine does meanwhile hits all three."""
    ours, pushed, put, peak, spent = [], [], [], 0.0, []
    for run in range(runs):
        async with gateway(directory / f"cold-{study}-{run}", orthanc) as running:
            before = *running.cpu(), cpu_of(str(orthanc.pid))
            answer, took = await running.ask(study)
            after = *running.cpu(), cpu_of(str(orthanc.pid))
            spent.append([a - b for b, a in zip(before, after, strict=True)])
            assert len(answer["urls"]) == len(objects)
            assert "error" not in answer
            ours.append(took)
            peak = max(peak, running.peak)
        pushed.append(await push_floor(study, len(objects), orthanc))
        put.append(await put_floor(objects, directory / f"floor-{study}-{run}"))
        shutil.rmtree(directory / f"cold-{study}-{run}", ignore_errors=True)
        shutil.rmtree(directory / f"floor-{study}-{run}", ignore_errors=True)
    return {
        "gateway s": statistics.median(ours),
        "PACS into a receiver that only answers s": statistics.median(pushed),
        "bare PUTs s": statistics.median(put),
        "times the slower floor": statistics.median(o / max(a, b) for o, a, b in zip(ours, pushed, put, strict=True)),
        "CPU of the gateway s": statistics.median(own for own, _, _ in spent),
        "CPU of its store s": statistics.median(store for _, store, _ in spent),
        "CPU of the PACS s": statistics.median(pacs for _, _, pacs in spent),
        "peak MB": peak,
    }


async def put_floor(objects: list[bytes], directory: Path) -> float:
    """Seconds of PUTs of the same bytes into the same kind of store, empty and warm as the gateway's is."""
    embedded = EmbeddedStore(directory, bucket="dicom")
    await embedded.start()
    try:
        async with ObjectStore(
            endpoint=lambda: embedded.endpoint, secure=False, region=embedded.region, bucket="dicom",
            credentials=embedded.credentials,
        ) as store:  # fmt: skip
            await store.ensure_bucket()
            await store.check()
        presigner = Presigner(
            endpoint_url=f"http://{embedded.endpoint}", region=embedded.region, bucket="dicom",
            credentials=embedded.credentials,
        )  # fmt: skip
        await asyncio.sleep(1)
        return await bare_puts(presigner, "study", objects)
    finally:
        await embedded.stop()


Receive = Callable[[str, int, Path, Orthanc], Awaitable[float]]


async def into_another(receive: Receive, study: str, part: int, size: int, orthanc: Orthanc, directory: Path) -> float:
    """Seconds in which somebody else's SCP receives a study of *part* instances as files."""
    study = f"{study}.{secrets.randbits(40)}"
    await orthanc.add(*(i.content for i in synthetic_ct(study, part, size, size)))
    into = directory / "files"
    into.mkdir()
    took = await receive(study, free_port(), into, orthanc)
    assert len(list(into.iterdir())) == part
    shutil.rmtree(into)
    return took


async def dcmtk(study: str, port: int, into: Path, orthanc: Orthanc) -> float:
    """DCMTK's movescu and storescp."""
    storescp = ["storescp", "-aet", "STORESCP", "--output-directory", str(into), str(port)]
    return await moved_into(storescp, study, port, orthanc)


async def pynetdicom(study: str, port: int, into: Path, orthanc: Orthanc) -> float:
    """The storescp that comes with pynetdicom, as it comes."""
    storescp = [sys.executable, "-m", "pynetdicom", "storescp", "-q", "-aet", "STORESCP", "-od", str(into), str(port)]
    return await moved_into(storescp, study, port, orthanc)


async def moved_into(storescp: list[str], study: str, port: int, orthanc: Orthanc) -> float:
    await orthanc.register("STORESCP", port)
    receiver = await asyncio.create_subprocess_exec(*storescp, stdout=-3, stderr=-3)
    await asyncio.sleep(3)
    began = time.perf_counter()
    moving = await asyncio.create_subprocess_exec(
        "movescu", "-S", "-aet", "STORESCP", "-aec", orthanc.ae_title, "-aem", "STORESCP",
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}", "127.0.0.1", str(orthanc.dicom_port),
        stdout=-3, stderr=-3,
    )  # fmt: skip
    assert await moving.wait() == 0
    took = time.perf_counter() - began
    receiver.terminate()
    await receiver.wait()
    return took


async def warm(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """Answers from the cache, also after a restart; and eight studies at once against eight in a row."""
    eights = [[f"1.2.826.8.{n}.{m}" for m in range(8)] for n in range(2 * ROUNDS + 1)]
    for study in itertools.chain(*eights):
        await orthanc.add(*(i.content for i in synthetic_ct(study, 60, 256, 256)))
    many = "1.2.826.6"
    await orthanc.add(*(i.content for i in synthetic_ct(many, 3000, 70, 70)))
    async with gateway(directory / "warm", orthanc) as running:
        await running.ask(many)
        answers = [(await running.ask(many))[1] for _ in range(20)]
        rows, together = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for study in eights.pop():
                await running.ask(study)
            rows.append(time.perf_counter() - began)
            began = time.perf_counter()
            await asyncio.gather(*map(running.ask, eights.pop()))
            together.append(time.perf_counter() - began)
        fetching = asyncio.gather(*map(running.ask, eights.pop()))
        during = []
        while not fetching.done():
            during.append((await running.ask(many))[1])
            await asyncio.sleep(0.25)  # a reader now and then, not a load of its own
        await fetching
        peak = running.peak
    async with gateway(directory / "warm", orthanc) as running:
        restarted = [(await running.ask(many))[1] for _ in range(2)]
    return {
        "warm, 3,000 URLs": {
            "median ms": statistics.median(answers) * 1000,
            "slowest ms": max(answers) * 1000,
            "first after a restart ms": restarted[0] * 1000,
            "second after a restart ms": restarted[1] * 1000,
        },
        "eight studies": {
            "in a row s": statistics.median(rows),
            "at once s": statistics.median(together),
            "at once to in a row": statistics.median(t / r for t, r in zip(together, rows, strict=True)),
            "slowest warm answer meanwhile ms": max(during) * 1000,
            "peak MB": peak,
        },
    }


async def first_answer(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """The first answer when a second is allowed, by the size of the study: it leaves in time, with every URL."""
    found = {}
    async with gateway(directory / "deadline", orthanc, answer_within="1s") as running:
        for count in extent.sizes:
            study = f"1.2.826.4.{count}"
            await orthanc.add(*(i.content for i in synthetic_ct(study, count, 70, 70)))
            answer, took = await running.ask(study)
            deferred = sum("/deferred/" in url for url in answer["urls"])
            found[f"first answer, {count} instances"] = {
                "instances": count, "s, of 1 s": took, "URLs": len(answer["urls"]), "deferred": deferred,
            }  # fmt: skip
            await settled(running, study, count)
    return found


async def first_slice(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """What a reader waits for, from a cold cache."""
    return await slices(directory, orthanc, extent.slices)


async def in_a_browser(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """The same as a browser sees it."""
    return await seen(directory, orthanc, extent.seen, OUT / "browser.png")


async def prefetch(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """A short day's openings with prefetch and without, out of simulated PACS."""
    return await compared(directory / "prefetch", extent.day)


async def audit(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """What the audit trail costs a warm answer."""
    return await audit_of(directory / "audit", orthanc, extent.audit)


async def settled(running: Gateway, study: str, count: int) -> None:
    """Waits until the study is in the cache."""
    while True:
        await asyncio.sleep(1)
        with contextlib.suppress(AssertionError):  # in less than a second, on a machine that is busy with the fetch
            answer, _ = await running.ask(study)
            if len(answer["urls"]) == count and not any("/deferred/" in url for url in answer["urls"]):
                return


async def very_large(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """Answers of very large studies out of the cache."""
    return await large(directory / "very-large", extent.very_large)


async def memory(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """One instance of each size pushed into a gateway: the most that its process is resident in."""
    found = {}
    for size in extent.large:
        title = f"one instance of {size // 1_000_000} MB"
        if shutil.disk_usage(directory).free < 4 * size:
            found[title] = {"not measured": "too little disk"}
            continue
        async with gateway(directory / f"large-{size}", orthanc) as running:
            before = running.peak
            took = await push_large(running.dicom_port, size, orthanc.ae_title)
            await asyncio.sleep(2 + size / 100_000_000)  # the PUT runs beside the answer
            found[title] = {
                "MB": size / 1e6,
                "answered after s": took,
                "peak MB before": before,
                "peak MB": running.peak,
            }
        shutil.rmtree(directory / f"large-{size}")
    return found


async def captures(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """Uploads by presigned URL until the PACS has them."""
    study = "1.2.826.5"
    original = next(iter(synthetic_ct(study, 1, 256, 256))).content
    await orthanc.add(original)

    async def held() -> int:
        return int(json.loads(await orthanc._ok("GET", "/statistics"))["CountInstances"])

    async with gateway(directory / "captures", orthanc) as running:
        alone = []
        for _ in range(extent.captures // 5):
            url, content, before = await running.upload_url(study), capture(original), await held()
            await running.upload(url, content)
            began = time.perf_counter()
            async with asyncio.timeout(120):
                while await held() == before:
                    await asyncio.sleep(0.005)
            alone.append(time.perf_counter() - began)
        contents = [capture(original) for _ in range(extent.captures)]
        before, began = await held(), time.perf_counter()
        urls = [await running.upload_url(study) for _ in range(extent.captures)]
        granted, spent = time.perf_counter(), running.cpu()
        left = list(zip(urls, contents, strict=True))

        async def uploads() -> None:
            while left:
                await running.upload(*left.pop())

        await asyncio.gather(*(uploads() for _ in range(CONNECTIONS)))
        uploaded = time.perf_counter()
        async with asyncio.timeout(120):
            while await held() < before + extent.captures:
                await asyncio.sleep(0.02)
        stored = time.perf_counter()
        own, store = (after - before for before, after in zip(spent, running.cpu(), strict=True))
    return {
        "captures of 132 KB": {
            "uploads": extent.captures,
            "from the end of an upload to stored in the PACS s (median)": statistics.median(alone),
            "URLs given out a second": extent.captures / (granted - began),
            f"uploaded a second, {CONNECTIONS} at a time": extent.captures / (uploaded - granted),
            "from the first upload to the last in the PACS s": stored - granted,
            "stored in the PACS a second": extent.captures / (stored - granted),
            "CPU of the gateway for each ms": own / extent.captures * 1000,
            "CPU of its store for each ms": store / extent.captures * 1000,
        }
    }


async def reports(directory: Path, orthanc: Orthanc, extent: Extent) -> dict[str, Any]:
    """Signed reports by webhook until the PACS has them."""
    study = "1.2.826.7"
    await orthanc.add(next(iter(synthetic_ct(study, 1, 256, 256))).content)
    served = web.Application()
    # Of different content each, or they would be one report; what follows the end of a PDF is allowed.
    served.router.add_get(
        "/{n}", lambda r: web.Response(body=small_pdf("A report") + f"%{r.match_info['n']}\n".encode())
    )
    allowed = {"allow_http": True, "allow_private_addresses": True}
    async with TestServer(served, host="127.0.0.1") as avara:
        options = allowed | {"allowed_hosts": [f"127.0.0.1:{avara.port}"]}
        async with gateway(directory / "reports", orthanc, reports=options) as running:
            before = len(await orthanc.instances(study))
            began, spent = time.perf_counter(), running.cpu()
            acknowledged = [
                await running.deliver(study, f"http://127.0.0.1:{avara.port}/{n}") for n in range(extent.captures)
            ]
            async with asyncio.timeout(120):
                while len(await orthanc.instances(study)) < before + extent.captures:
                    await asyncio.sleep(0.25)
            took = time.perf_counter() - began
            own, store = (after - before for before, after in zip(spent, running.cpu(), strict=True))
    return {
        "reports": {
            "reports": extent.captures,
            "acknowledged after, median ms": statistics.median(acknowledged) * 1000,
            "from the first webhook to the last in the PACS s": took,
            "stored in the PACS a second": extent.captures / took,
            "CPU of the gateway for each ms": own / extent.captures * 1000,
            "CPU of its store for each ms": store / extent.captures * 1000,
        }
    }


def capture(original: bytes) -> bytes:
    """A secondary capture of the same study and patient."""
    d = dcmread(io.BytesIO(original))
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"2.25.{secrets.randbits(100)}"
    d.SeriesInstanceUID, d.Modality, d.ConversionType = f"{d.StudyInstanceUID}.99", "OT", "WSD"
    out = io.BytesIO()
    d.save_as(out, enforce_file_format=True)
    return out.getvalue()


def show(console: Console, results: dict[str, Any]) -> None:
    """The table, as the README has it."""
    table = Table("measure", "what", "value", title=f"{results['machine']}")
    for measure, values in results.items():
        for what, value in values.items() if measure != "machine" else ():
            table.add_row(measure, what, f"{value:.2f}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"written to {OUT / 'results.json'} and {OUT / 'results.svg'}")


Part = Callable[[Path, Orthanc, Extent], Awaitable[dict[str, Any]]]

PARTS: dict[str, Part] = {
    "cold": cold,
    "warm": warm,
    "large": very_large,
    "first": first_answer,
    "slices": first_slice,
    "browser": in_a_browser,
    "memory": memory,
    "captures": captures,
    "reports": reports,
    "prefetch": prefetch,
    "audit": audit,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the gateway on this machine; the results go into bench/out. All parts take some fifteen "
        "minutes on two cores.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure, of {', '.join(PARTS)}; else all")
    parser.add_argument("--quick", action="store_true", help="one run, and less of everything; for work on the code")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    asyncio.run(main(arguments.parts, QUICK if arguments.quick else Extent()))
