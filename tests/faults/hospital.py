"""A hospital: two PACS, a RIS, a mail server, folders, Avara, and a gateway between them all; on every wire a relay.

What is acknowledged is written down as Avara and the browser know it (:class:`Acknowledged`): it is what
:mod:`tests.faults.promises` holds the gateway to.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from pydicom.uid import generate_uid

from gateway.avara.signature import sign
from gateway.demo.sample import sample_capture, small_pdf, synthetic_ct
from gateway.objects.embedded import EmbeddedStore
from tests.rig.journal import with_journal
from tests.rig.ports import free_port

from .peers import Avara, Hl7Receiver, MailServer, MortalOrthanc
from .process import GatewayProcess
from .relay import Relay

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AE_TITLE = "AVARAGW"
PATIENCE = 20.0
"""Seconds after which a client of the gateway's gives up."""


class NotServed(Exception):
    """The gateway did not do what it was asked to, and has not said that it would."""


@dataclass
class Capture:
    study: str
    sop_instance_uid: str
    acknowledged: bool = False


@dataclass
class Report:
    study: str
    report_id: str
    document: str
    """SHA-256 of its PDF."""
    critical: bool
    acknowledged: bool = False


@dataclass
class Acknowledged:
    """Everything that was asked of the gateway, and what of it was acknowledged."""

    captures: list[Capture] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    studies: dict[str, set[str]] = field(default_factory=dict)
    """Study → the SOP Instance UIDs that the PACS had of it from elsewhere."""

    def forget(self) -> None:
        """What was found in order is not looked at again."""
        self.captures.clear()
        self.reports.clear()
        self.studies.clear()


class Hospital:
    """The whole of it. An async context manager; :attr:`gateway` is to be started."""

    def __init__(self, directory: Path, *, relayed_store: bool = False, hasty: bool = True, **sections: Any) -> None:
        """*relayed_store*: the store is one beside the gateway, behind a relay; else it is the embedded one. *hasty*:
        silence is given up within seconds, so that tests heal soon; else it is as the configuration has it by itself.
        *sections* go over those of the configuration."""
        self.directory = directory
        self.main, self.second = MortalOrthanc("MAIN"), MortalOrthanc("SECOND")
        self.ris, self.mail, self.avara = Hl7Receiver(), MailServer(), Avara()
        self.relays: dict[str, Relay] = {}
        """By what is behind it: ``main``, ``second``, ``gateway`` (what PACS send to), ``ris``, ``mail``, ``store``."""
        self.folders = [directory / "ris", directory / "archive"]
        self.known = Acknowledged()
        self._relayed_store = relayed_store
        self._hasty = hasty
        self._sections = sections
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Hospital:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        enter = self._stack.enter_async_context
        port, dicom_port = free_port(), free_port()
        for peer in (self.main, self.second, self.ris, self.mail, self.avara):
            await enter(peer)
        for name, to in {
            "main": self.main.dicom_port, "second": self.second.dicom_port, "gateway": dicom_port,
            "ris": self.ris.port, "mail": self.mail.port,
        }.items():  # fmt: skip
            self.relays[name] = await enter(Relay(to))
        store, store_at = {}, None
        if self._relayed_store:
            weed = EmbeddedStore(self.directory / "weed", bucket="first")
            await weed.start()
            self._stack.push_async_callback(weed.stop)
            store_at = weed.endpoint
            self.relays["store"] = relay = await enter(Relay(int(store_at.rpartition(":")[2])))
            store = {
                "endpoint": f"127.0.0.1:{relay.port}", "secure": False, "bucket": "dicom",
                "access_key": weed.credentials.access_key, "secret_key": weed.credentials.secret_key,
            }  # fmt: skip
        for pacs in (self.main, self.second):
            await pacs.register(AE_TITLE, self.relays["gateway"].port)
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
        timeouts = {"connect_timeout": "2s", "respond_timeout": "5s", "idle_timeout": "8s"} if self._hasty else {}
        document = {
            "http": {"port": port, "public_url": f"http://127.0.0.1:{port}"},
            "avara": {"webhook_keys": [KEY]},
            "dicom": {"ae_title": AE_TITLE, "host": "127.0.0.1", "port": dicom_port},
            "pacs": [
                {"name": p, "ae_title": p.upper(), "host": "127.0.0.1", "port": self.relays[p].port, **timeouts}
                for p in ("main", "second")
            ],
            "store": store,
            "cache": {"min_free": "100MB"},
            "captures": {"targets": ["main", "second"], "keep_after_stored": "1s"},
            "reports": {
                "allowed_hosts": [f"127.0.0.1:{self.avara.port}"], "allow_http": True,
                "allow_private_addresses": True, "keep_after_delivered": "1s",
                "hl7": [{"name": "ris", "host": "127.0.0.1", "port": self.relays["ris"].port, "answer_within": "5s"}],
                "folders": [{"name": f.name, "path": str(f)} for f in self.folders],
                "alerts": {"email": {
                    "server": "127.0.0.1", "port": self.relays["mail"].port, "security": "none",
                    "sender": "gateway@example.org", "recipients": ["oncall@example.org"],
                }},
            },
            "state_dir": str(with_journal(self.directory / "state")),
        }  # fmt: skip
        for name, values in self._sections.items():
            document[name] = {**document.get(name, {}), **values} if isinstance(values, dict) else values
        self.gateway = GatewayProcess(self.directory, document, store_at)
        self._stack.push_async_callback(self.gateway.stop)
        self.http = await enter(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=PATIENCE), connector=aiohttp.TCPConnector(force_close=True)
            )
        )

    # -- what is in its PACS

    async def examine(self, pacs: MortalOrthanc, count: int = 4, size: int = 64) -> str:
        """A modality sends a new study to a PACS; its Study Instance UID."""
        study = generate_uid(None)
        instances = list(synthetic_ct(study, count, size, size))
        self.known.studies[study] = {i.sop_instance_uid for i in instances}
        await pacs.add(*(i.content for i in instances))
        return study

    # -- what Avara and browsers do. Each raises NotServed.

    async def post(self, kind: str, webhook_id: str | None = None, **data: Any) -> dict[str, Any]:
        """The answer to a signed webhook."""
        body = json.dumps({"id": f"whe_{secrets.token_hex(8)}", "type": kind, "data": data}).encode()
        headers = sign(KEY, webhook_id or f"msg_{secrets.token_hex(8)}", body)
        try:
            async with self.http.post(f"{self.gateway.url}/webhooks/avara", data=body, headers=headers) as answer:
                if answer.status != 200:
                    raise NotServed(f"{kind}: {answer.status} {(await answer.text())[:200]}")
                return await answer.json()
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise NotServed(f"{kind}: {e!r}") from e

    async def open_study(self, study: str, *, images: int = 2) -> float:
        """Opens a study and its first images; the seconds until its answer."""
        began = time.monotonic()
        answer = await self.post("study.access_requested", studyId=f"stu_{study[-12:]}", studyInstanceUid=study)
        took = time.monotonic() - began
        if not answer["urls"]:
            raise NotServed(f"study: {answer}")
        for url in answer["urls"][:images]:
            try:
                async with self.http.get(url) as image:
                    content = await image.read()
                    if image.status != 200 or content[128:132] != b"DICM":
                        raise NotServed(f"image: {image.status}")
            except (aiohttp.ClientError, OSError, TimeoutError) as e:
                raise NotServed(f"image: {e!r}") from e
        return took

    async def upload(self, study: str) -> Capture:
        """Uploads a capture of a study as the viewer does."""
        made = sample_capture(study)
        capture = Capture(study, made.sop_instance_uid)
        data = {"studyId": f"stu_{study[-12:]}", "studyInstanceUid": study}
        answer = await self.post("secondary_capture.access_requested", **data)
        if not answer["authorized"]:
            raise NotServed(f"capture: {answer}")
        self.known.captures.append(capture)
        try:
            async with self.http.put(answer["uploadUrls"][0], data=made.content) as put:
                if put.status != 200:
                    raise NotServed(f"upload: {put.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            raise NotServed(f"upload: {e!r}") from e
        capture.acknowledged = True
        return capture

    async def deliver(self, study: str, *, critical: bool = False, tries: int = 1, every: float = 1.0) -> Report:
        """Delivers a report; as Avara does, the same webhook again where it was not acknowledged."""
        report_id = f"rep_{secrets.token_hex(16)}"
        pdf = small_pdf(f"Report {report_id}")
        report = Report(study, report_id, hashlib.sha256(pdf).hexdigest(), critical)
        self.known.reports.append(report)
        webhook_id, url = f"msg_{secrets.token_hex(8)}", self.avara.url(pdf)
        for left in reversed(range(tries)):
            try:
                answer = await self.post(
                    "report.delivered", webhook_id, studyId=f"stu_{study[-12:]}", reportId=report_id,
                    isCritical=critical, presignedUrl=url, plainText="No fracture.", studyInstanceUid=study,
                )  # fmt: skip
            except NotServed:
                if not left:
                    raise
                await asyncio.sleep(every)
            else:
                report.acknowledged = answer == {"success": True}
                break
        return report
