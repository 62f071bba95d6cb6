"""Runs every measure, prints a table, writes bench/out/results.json. Some five minutes on two cores."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.floors import OnlyAnswers, bare_puts
from bench.world import AE_TITLE, Gateway, gateway, push_large
from gateway.demo.orthanc import Orthanc
from gateway.demo.sample import synthetic_ct
from gateway.objects import ObjectStore, Presigner
from gateway.objects.embedded import EmbeddedStore, free_port
from gateway.pacs.client import PacsClient
from gateway.pacs.move import MoveRetriever
from gateway.pacs.peer import Peer
from gateway.pacs.retrieve import Selection

RUNS = 3
OUT = Path(__file__).parent / "out"
STUDIES = {"600 × 525 KB": ("1.2.826.1", 600, 512), "3,000 × 10 KB": ("1.2.826.2", 3000, 70)}
DCMTK_PART = {"600 × 525 KB": 600, "3,000 × 10 KB": 300}
LARGE = 2_000_000_000


async def main() -> None:
    """Measures everything, one after the other."""
    console, results = Console(), {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        async with Orthanc() as orthanc:
            console.print("filling Orthanc with the studies …")
            files = {}
            for title, (study, count, size) in STUDIES.items():
                files[title] = [i.content for i in synthetic_ct(study, count, size, size)]
                await orthanc.add(*files[title])
            for title in STUDIES:
                console.print(f"cold: {title} …")
                results[f"cold {title}"] = await cold(title, files[title], orthanc, directory)
            console.print("warm, first answer, eight at once, memory …")
            results |= await warm_and_together(orthanc, directory)
            results["first answer"] = await first_answer(orthanc, directory)
            results["2 GB instance"] = await large(orthanc, directory)
    results["machine"] = {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "results.json").write_text(json.dumps(results, indent=2))
    show(console, results)


async def cold(title: str, objects: list[bytes], orthanc: Orthanc, directory: Path) -> dict[str, Any]:
    """Webhook in to answer out of an empty cache, in turn with its two floors."""
    study = STUDIES[title][0]
    ours, pushed, put = [], [], []
    for run in range(RUNS):
        async with gateway(directory / f"cold-{study}-{run}", orthanc) as running:
            answer, took = await running.ask(study)
            assert len(answer["urls"]) == len(objects)
            assert "error" not in answer
            ours.append(took)
            peak = running.peak
        pushed.append(await push_floor(study, len(objects), orthanc))
        put.append(await put_floor(objects, directory / f"floor-{study}-{run}"))
        shutil.rmtree(directory / f"cold-{study}-{run}", ignore_errors=True)
        shutil.rmtree(directory / f"floor-{study}-{run}", ignore_errors=True)
    part = DCMTK_PART[title]
    dcmtk = await movescu(f"{study}.9{part}" if part != len(objects) else study, part, objects, orthanc, directory)
    return {
        "gateway s": statistics.median(ours),
        "PACS into a receiver that only answers s": statistics.median(pushed),
        "bare PUTs s": statistics.median(put),
        "times the slower floor": statistics.median(o / max(a, b) for o, a, b in zip(ours, pushed, put, strict=True)),
        "movescu + storescp s": dcmtk * len(objects) / part,
        "movescu measured on instances": part,
        "times faster than movescu": dcmtk * len(objects) / part / statistics.median(ours),
        "peak MB": peak,
    }


async def push_floor(study: str, count: int, orthanc: Orthanc) -> float:
    """Seconds of a C-MOVE into a receiver that only answers."""
    receiver = OnlyAnswers()
    await orthanc.register("FLOOR", receiver.port)
    peer = Peer("pacs", orthanc.ae_title, "127.0.0.1", orthanc.dicom_port, AE_TITLE)
    began = time.perf_counter()
    retriever = MoveRetriever(PacsClient(peer, advertised=""), destination="FLOOR")
    await retriever.move(Selection(study), last_arrival=time.monotonic, total_limit=300)
    took = time.perf_counter() - began
    assert receiver.instances == count
    receiver.close()
    return took


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


async def movescu(study: str, part: int, objects: list[bytes], orthanc: Orthanc, directory: Path) -> float:
    """Seconds of DCMTK's movescu, with its storescp as the destination."""
    if part != len(objects):
        await orthanc.add(*(i.content for i in synthetic_ct(study, part, 70, 70)))
    port, into = free_port(), directory / "dcmtk"
    into.mkdir(exist_ok=True)
    await orthanc.register("STORESCP", port)
    storescp = await asyncio.create_subprocess_exec(
        "storescp", "-aet", "STORESCP", "--output-directory", str(into), str(port), stdout=-3, stderr=-3
    )
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    moving = await asyncio.create_subprocess_exec(
        "movescu", "-S", "-aet", "STORESCP", "-aec", orthanc.ae_title, "-aem", "STORESCP",
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}", "127.0.0.1", str(orthanc.dicom_port),
        stdout=-3, stderr=-3,
    )  # fmt: skip
    assert await moving.wait() == 0
    took = time.perf_counter() - began
    storescp.terminate()
    await storescp.wait()
    assert len(list(into.iterdir())) == part
    shutil.rmtree(into)
    return took


async def warm_and_together(orthanc: Orthanc, directory: Path) -> dict[str, Any]:
    """Answers from the cache, and eight studies at once against eight in a row."""
    eight = [f"1.2.826.8.{n}" for n in range(16)]
    for study in eight:
        await orthanc.add(*(i.content for i in synthetic_ct(study, 60, 256, 256)))
    many = STUDIES["3,000 × 10 KB"][0]
    async with gateway(directory / "warm", orthanc) as running:
        await running.ask(many)
        warm = [(await running.ask(many))[1] for _ in range(20)]
        began = time.perf_counter()
        for study in eight[:8]:
            await running.ask(study)
        row = time.perf_counter() - began
        began = time.perf_counter()
        fetching = asyncio.gather(*(running.ask(study) for study in eight[8:]))
        during = []
        while not fetching.done():
            during.append((await running.ask(many))[1])
            await asyncio.sleep(0.25)  # a reader now and then, not a load of its own
        await fetching
        together = time.perf_counter() - began
        return {
            "warm, 3,000 URLs": {"median ms": statistics.median(warm) * 1000, "slowest ms": max(warm) * 1000},
            "eight studies": {
                "in a row s": row,
                "at once s": together,
                "at once to in a row": together / row,
                "slowest warm answer meanwhile ms": max(during) * 1000,
                "peak MB": running.peak,
            },
        }


async def first_answer(orthanc: Orthanc, directory: Path) -> dict[str, Any]:
    """The answer when the time for it is shorter than the fetch: it leaves in time, with every URL."""
    found = {}
    async with gateway(directory / "deadline", orthanc, answer_within="1s") as running:
        for title, (study, count, _) in STUDIES.items():
            answer, took = await running.ask(study)
            deferred = sum("/deferred/" in url for url in answer["urls"])
            found[title] = {"s, of 1 s": took, "URLs": len(answer["urls"]), "of": count, "deferred": deferred}
            await settled(running, study, count)
    return found


async def settled(running: Gateway, study: str, count: int) -> None:
    """Waits until the study is in the cache."""
    while True:
        answer, _ = await running.ask(study)
        if len(answer["urls"]) == count and not any("/deferred/" in url for url in answer["urls"]):
            return


async def large(orthanc: Orthanc, directory: Path) -> dict[str, Any]:
    """One 2 GB instance pushed into the gateway: the most that its process is resident."""
    if shutil.disk_usage(directory).free < 4 * LARGE:
        return {"not measured": "too little disk"}
    async with gateway(directory / "large", orthanc) as running:
        before = running.peak
        took = await push_large(running.dicom_port, LARGE, orthanc.ae_title)
        await asyncio.sleep(20)  # the PUT runs beside the answer
        return {"answered after s": took, "peak MB before": before, "peak MB": running.peak}


def show(console: Console, results: dict[str, Any]) -> None:
    """The table, as the README has it."""
    table = Table("measure", "what", "value", title=f"{results['machine']}")
    for measure, values in results.items():
        for what, value in values.items() if measure != "machine" else ():
            table.add_row(measure, what, f"{value:.2f}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"written to {OUT / 'results.json'}")


asyncio.run(main())
