"""What is measured: a gateway in a process of its own, a real Orthanc, and a sender of one very large instance."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.avara import sign
from gateway.demo import Orthanc, dies_with_us
from gateway.objects import free_port
from gateway.pacs.upper import Context, data_pdus, dimse, request_pdu

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AE_TITLE = "AVARAGW"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"


class Gateway:
    """A running gateway, from outside."""

    def __init__(self, http: aiohttp.ClientSession, port: int, dicom_port: int, pid: int) -> None:
        self._http = http
        self.port, self.dicom_port, self.pid = port, dicom_port, pid

    async def ask(self, study: str) -> tuple[dict[str, Any], float]:
        """The answer to a signed study.access_requested, and the seconds from the first byte out to the last in."""
        return await self._post("study.access_requested", study)

    async def upload_url(self, study: str) -> str:
        """A presigned PUT URL, by a signed secondary_capture.access_requested."""
        answer, _ = await self._post("secondary_capture.access_requested", study)
        url: str = answer["uploadUrls"][0]
        return url

    async def upload(self, url: str, content: bytes) -> None:
        """Uploads as a browser does."""
        async with self._http.put(url, data=content, headers={"Content-Type": "application/dicom"}) as answer:
            assert answer.status == 200, await answer.text()

    async def deliver(self, study: str, url: str) -> float:
        """A signed report.delivered, whose PDF is at *url*; the seconds until it was acknowledged."""
        report = {
            "reportId": f"rep_{secrets.token_hex(16)}",
            "isCritical": False,
            "presignedUrl": url,
            "plainText": "No.",
        }
        answer, took = await self._post("report.delivered", study, **report)
        assert answer == {"success": True}
        return took

    async def _post(self, event: str, study: str, **more: Any) -> tuple[dict[str, Any], float]:
        data = {"studyId": "stu_1", "studyInstanceUid": study, **more}
        body = json.dumps({"id": f"whe_{secrets.token_hex(8)}", "type": event, "data": data}).encode()
        headers = sign(KEY, f"msg_{secrets.token_hex(8)}", body)
        began = time.perf_counter()
        url = f"http://127.0.0.1:{self.port}/webhooks/avara"
        async with self._http.post(url, data=body, headers=headers) as answer:
            content = await answer.read()
        took = time.perf_counter() - began
        assert answer.status == 200, content
        return json.loads(content), took

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU that its process has used since its start, and its store's."""
        children = [
            c for task in Path(f"/proc/{self.pid}/task").iterdir() for c in (task / "children").read_text().split()
        ]
        return cpu_of(str(self.pid)), sum(map(cpu_of, children))

    @property
    def peak(self) -> float:
        """The most that its process was resident, in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1000


def cpu_of(pid: str) -> float:
    """Seconds of CPU that a process has used since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def gateway(
    directory: Path,
    orthanc: Orthanc,
    answer_within: str = "300s",
    reports: dict[str, Any] | None = None,
    answer: str = "complete",
) -> AsyncIterator[Gateway]:
    """A gateway with an embedded store, empty where *directory* is new, in a process of its own."""
    pacs = {"name": "pacs", "ae_title": orthanc.ae_title, "host": "127.0.0.1", "port": orthanc.dicom_port}
    avara = {"answer_within": answer_within, "answer": answer}
    async with gateway_of(directory, pacs, avara=avara, reports=reports or {}) as running:
        await orthanc.register(AE_TITLE, running.dicom_port)
        yield running


@asynccontextmanager
async def gateway_of(
    directory: Path, pacs: dict[str, Any], *, avara: dict[str, Any], **sections: Any
) -> AsyncIterator[Gateway]:
    """The same with any PACS, which has to be told of its port by the caller, and with more of the configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    port, dicom_port = free_port(), free_port()
    config = directory / "gateway.yaml"
    config.write_text(
        json.dumps(
            {
                "http": {"port": port, "public_url": f"http://127.0.0.1:{port}"},
                "avara": {"webhook_keys": [KEY], **avara},
                "dicom": {"host": "127.0.0.1", "port": dicom_port, "accept_pushes": True},
                "pacs": [pacs],
                "cache": {"min_free": "1GB"},
                "state_dir": str(directory / "state"),
                **sections,
            }
        )
    )
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve", "-c", str(config), stdout=log, stderr=log, preexec_fn=dies_with_us
        )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=400)) as http:
            async with asyncio.timeout(180):
                while True:
                    assert process.returncode is None, (directory / "log").read_text()
                    try:
                        async with http.get(f"http://127.0.0.1:{port}/health") as healthy:
                            if healthy.status == 200:
                                break
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            yield Gateway(http, port, dicom_port, process.pid)
    finally:
        process.terminate()
        await process.wait()


async def push_large(port: int, size: int, calling: str) -> float:
    """C-STOREs a multi-frame instance of *size* bytes of pixels, made as it is sent; the seconds until its answer."""
    study = f"2.25.{secrets.randbits(100)}"
    elements = [
        (0x0008, 0x0016, b"UI", MULTI_FRAME.encode()), (0x0008, 0x0018, b"UI", f"{study}.2".encode()),
        (0x0020, 0x000D, b"UI", study.encode()), (0x0020, 0x000E, b"UI", f"{study}.1".encode()),
    ]  # fmt: skip
    head = b"".join(
        struct.pack("<HH2sH", group, element, vr, len(v := value + b"\0" * (len(value) % 2))) + v
        for group, element, vr, value in elements
    )
    head += struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, size)
    command = dimse.encode(
        {
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
            dimse.MESSAGE_ID: 1,
            dimse.PRIORITY: 0,
            dimse.DATA_SET_TYPE: 1,
            dimse.AFFECTED_SOP_CLASS_UID: MULTI_FRAME,
            dimse.AFFECTED_SOP_INSTANCE_UID: f"{study}.2",
        }
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_pdu(calling, AE_TITLE, [Context(MULTI_FRAME, ("1.2.840.10008.1.2.1",))]))
    header = await reader.readexactly(6)
    assert header[0] == 2, "the association was rejected"
    await reader.readexactly(int.from_bytes(header[2:], "big"))
    began = time.perf_counter()
    writer.writelines(data_pdus(1, command, command=True, last=True, max_pdu=65536))
    writer.writelines(data_pdus(1, head, command=False, last=False, max_pdu=65536))
    block = os.urandom(2**20)
    for at in range(0, size, len(block)):
        piece = block[: size - at]
        last = at + len(piece) >= size
        writer.writelines(data_pdus(1, piece, command=False, last=last, max_pdu=65536))
        await writer.drain()
    await reader.readexactly(6)
    took = time.perf_counter() - began
    writer.close()
    return took
