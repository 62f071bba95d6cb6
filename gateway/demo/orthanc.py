"""Runs a real Orthanc as a PACS beside the gateway, for the demo and the tests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from gateway.objects import free_port

READY_WITHIN = 30.0
"""Seconds; it takes about one."""

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class NoOrthanc(Exception):
    """There is no Orthanc on this machine."""


def find_orthanc() -> str:
    """The binary. Raises NoOrthanc."""
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoOrthanc("Orthanc is not installed: apt-get install orthanc")
    return found


class Orthanc:
    """An Orthanc of our own on loopback, empty at first and gone afterwards. An async context manager."""

    def __init__(
        self, *, ae_title: str = "ORTHANC", dicomweb: bool = False, settings: Mapping[str, Any] | None = None
    ) -> None:
        """*dicomweb* insists on its DICOMweb plugin; *settings* go over those of its configuration that are made
        here."""
        self.ae_title = ae_title
        self._insists_on_dicomweb = dicomweb
        self.dicom_port = free_port()
        self.http_port = free_port()
        self._settings = dict(settings or {})
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Of its REST API."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None, "use Orthanc as an async context manager"
        return self._process.pid

    @property
    def dicomweb_url(self) -> str:
        """The root of its DICOMweb service."""
        return f"{self.url}/dicom-web"

    async def __aenter__(self) -> Orthanc:
        program = find_orthanc()
        if self._insists_on_dicomweb and not DICOMWEB_PLUGIN.exists():
            raise NoOrthanc("Orthanc's DICOMweb plugin is not installed: apt-get install orthanc-dicomweb")
        self._directory = tempfile.TemporaryDirectory(prefix="orthanc-", ignore_cleanup_errors=True)
        await self._launch(program, Path(self._directory.name))
        return self

    async def _launch(self, program: str, directory: Path) -> None:
        settings = {
            "Name": "demo",
            "StorageDirectory": str(directory / "storage"),
            "IndexDirectory": str(directory / "index"),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.dicom_port,
            "DicomAet": self.ae_title,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomAlwaysAllowStore": True,
            "SynchronousCMove": True,
            "OverwriteInstances": True,
            "StableAge": 1,
            "Plugins": [str(DICOMWEB_PLUGIN)] if DICOMWEB_PLUGIN.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
            **self._settings,
        }
        path = directory / "orthanc.json"
        path.write_text(json.dumps(settings))
        with (directory / "orthanc.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, str(path), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=dies_with_us
            )
        # It closes a kept connection at moments of its own, so none is kept.
        self._http = aiohttp.ClientSession(
            self.url, timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(force_close=True)
        )
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not await self._answers():
                    if self._process.returncode is not None:
                        raise NoOrthanc(f"Orthanc does not start: {(directory / 'orthanc.log').read_text()[-1000:]}")
                    await asyncio.sleep(0.05)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise

    async def _answers(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with self._session.get("/system") as answer:
                return answer.status == 200
        return False

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "use Orthanc as an async context manager"
        return self._http

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._directory is not None:
            self._directory.cleanup()

    async def register(self, ae_title: str, port: int) -> None:
        """Registers an AE on this machine as a C-MOVE destination."""
        modality = {"AET": ae_title, "Host": "127.0.0.1", "Port": port, "AllowTranscoding": False}
        await self._ok("PUT", f"/modalities/{ae_title}", json=modality)

    async def add(self, *files: bytes) -> None:
        """Stores Part 10 files in it."""
        for content in files:
            await self._ok("POST", "/instances", data=content)

    async def instances(self, study_instance_uid: str) -> dict[str, bytes]:
        """What it holds of a study: SOP Instance UID → the Part 10 file."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid}, "Expand": True}
        found = json.loads(await self._ok("POST", "/tools/find", json=query))
        return {
            i["MainDicomTags"]["SOPInstanceUID"]: await self._ok("GET", f"/instances/{i['ID']}/file") for i in found
        }

    async def clear(self) -> None:
        """Deletes all that it holds."""
        for patient in json.loads(await self._ok("GET", "/patients")):
            await self._ok("DELETE", f"/patients/{patient}")

    async def _ok(self, method: str, path: str, **arguments: Any) -> bytes:
        async with self._session.request(method, path, **arguments) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"Orthanc answers {method} {path} with {answer.status}: {content[:300]!r}")
            return content


def dies_with_us() -> None:
    """In a child before it begins: it ends when this process ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
