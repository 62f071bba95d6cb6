"""Answers of very large studies out of the cache: a study is put into the index, and nothing of it into the store."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway import app
from gateway.avara import sign
from gateway.config import load
from gateway.objects import free_port
from gateway.studies import Instance, StudyIndex

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CT, EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
SERIES_OF = 1000
ANSWERS = 5


async def large(directory: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """For each number of instances: ms of an answer as another process gets it, the first after a start, and others.
    The gateway's PACS is away, so that the cache alone is measured."""
    logging.getLogger("gateway").setLevel(logging.CRITICAL)  # that the PACS is away is known
    directory.mkdir()
    port = free_port()
    path = directory / "gateway.yaml"
    path.write_text(
        json.dumps(
            {
                "http": {"port": port, "public_url": f"http://127.0.0.1:{port}"},
                "avara": {"webhook_keys": [KEY], "answer_within": "60s"},
                "dicom": {"host": "127.0.0.1", "port": free_port()},
                "pacs": [{"name": "pacs", "ae_title": "AWAY", "host": "127.0.0.1", "port": 1}],
                "cache": {"min_free": "1GB"},
                "state_dir": str(directory / "state"),
            }
        )
    )
    config, found = load(path, {}), dict[str, Any]()
    studies = {f"1.2.826.11.{count}": count for count in sizes}
    async with app.serving(config) as parts:
        for study, count in studies.items():
            await parts.cache.filling(study)
            await parts.cache.filled(_index(study, count, parts.journal.clock.now()))
    for study, count in studies.items():
        async with app.serving(config):
            times, bytes_of = zip(*[await _asked(directory, port, study) for _ in range(1 + ANSWERS)], strict=True)
        found[f"out of the cache, {count:,} instances"] = {
            "first after a start ms": times[0],
            "median ms": statistics.median(times[1:]),
            "MB": bytes_of[0] / 1e6,
        }
    return found


def _index(study: str, count: int, now: float) -> StudyIndex:
    instances = (
        Instance(
            f"{study}.{n // SERIES_OF}.{n}", f"{study}.{n // SERIES_OF}", CT, EXPLICIT_LITTLE_ENDIAN, 525_000,
            modality="CT", series_number=n // SERIES_OF, instance_number=n, rows=512, columns=512,
            bits_allocated=16, bits_stored=16, high_bit=15, pixel_representation=0, samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2", rescale_slope=1.0, rescale_intercept=-1024.0,
        )
        for n in range(count)
    )  # fmt: skip
    return StudyIndex(study, {i.sop_instance_uid: i for i in instances}, True, "pacs", fetched=now, compared=now)


async def _asked(directory: Path, port: int, study: str) -> tuple[float, float]:
    """Milliseconds from the first byte out to the last in, and the answer's bytes."""
    data = {"studyId": "stu_1", "studyInstanceUid": study}
    event = {"id": f"whe_{secrets.token_hex(8)}", "type": "study.access_requested", "data": data}
    body, answer = json.dumps(event).encode(), directory / "answer"
    headers = [f"{k}: {v}" for k, v in sign(KEY, f"msg_{secrets.token_hex(8)}", body).items()]
    curl = await asyncio.create_subprocess_exec(
        "curl", "-s", "-o", str(answer), "-w", "%{time_total} %{size_download}", "--data-binary", "@-",
        *(part for header in headers for part in ("-H", header)), f"http://127.0.0.1:{port}/webhooks/avara",
        stdin=-1, stdout=-1,
    )  # fmt: skip
    told, _ = await curl.communicate(body)
    assert len(json.loads(answer.read_bytes())["urls"]) == int(study.rpartition(".")[2]), answer.read_bytes()[:1000]
    took, size = map(float, told.split())
    return took * 1000, size
