"""What tests share: real servers, started once, and gateways that are wired to them.

Orthanc and the object store run once a session and are emptied, or given a fresh bucket, for each test. A
gateway runs in the test's own process, so that a test can look at its parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import secrets
import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, settings

from gateway import app
from gateway.admin.results import Result
from gateway.app.doctor import check_file
from gateway.avara.signature import sign
from gateway.config import Config, load, revealed
from gateway.demo.orthanc import Orthanc, dies_with_us
from gateway.journal import Job, Jobs, Journal
from gateway.objects import Credentials, ObjectStore
from gateway.objects.embedded import EmbeddedStore
from gateway.runtime import SYSTEM_CLOCK, Clock
from tests.left_out import pytest_sessionfinish, pytest_terminal_summary
from tests.rig.journal import with_journal
from tests.rig.ports import free_port
from tests.rig.simulator import PacsSimulator

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary"]  # hooks, taken over

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AE_TITLE = "AVARAGW"

# A machine that is busy must not fail a test: hypothesis' own deadline, and its patience while it makes input, are off.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", settings.get_profile("suite"), max_examples=8)  # for make test-fast
settings.load_profile("suite")

SERVERS = {"weed", "minio", "s3_server", "one_orthanc", "simulator"}
"""Fixtures that start a server: what uses one, at whatever remove, is marked ``server``."""

_numbers = itertools.count()
_emptied: list[str] = []


RESTING = 8
"""Buckets that were emptied and are not given out yet: of the tests of one file, which use the same keys, the next one
is not to meet a DELETE of the one before that the store comes round to late."""


def _bucket() -> str:
    """A bucket of SeaweedFS's for a gateway: one that was emptied long ago, where there is one. Each takes volumes of
    its own, and after some two hundred there are none left. (What was emptied still lists its folders, so tests of the
    store itself have new ones.)"""
    return _emptied.pop(0) if len(_emptied) > RESTING else f"test-{next(_numbers)}"


async def _give_back(server: S3, bucket: str) -> None:
    """Empties a bucket for the next test; one that cannot be emptied is not used again."""
    with contextlib.suppress(Exception):
        async with server.store(bucket) as store:
            while keys := [info.key async for info in store.list("")]:
                await store.delete(keys)
        _emptied.append(bucket)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``-m "not server and not slow"`` (``make test-fast``) is what needs no server of its own and no patience."""
    for item in items:
        if isinstance(item, pytest.Function) and SERVERS.intersection(item.fixturenames):
            item.add_marker("server")


def pytest_configure() -> None:
    # No test asks a server on the internet: the authorities that this machine trusts are not read hundreds of times.
    ssl.SSLContext.load_default_certs = lambda context, purpose=ssl.Purpose.SERVER_AUTH: None
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()  # what was collected stays to the end: nobody need search it for garbage
    gc.enable()


@pytest.fixture
def clock() -> Clock:
    """The clock of what a test makes; those that turn it by hand have a fixture of this name, a ``ManualClock``."""
    return SYSTEM_CLOCK


@pytest.fixture
async def journal(tmp_path: Path, clock: Clock) -> AsyncIterator[Journal]:
    """An empty journal."""
    opened = await Journal.open(f"sqlite:///{with_journal(tmp_path) / 'journal.db'}", clock=clock)
    yield opened
    await opened.close()


@dataclass(frozen=True)
class S3:
    """A running S3 server."""

    name: str
    endpoint: str
    credentials: Credentials

    def store(self, bucket: str) -> ObjectStore:
        return ObjectStore(
            endpoint=lambda: self.endpoint,
            secure=False,
            region="us-east-1",
            bucket=bucket,
            credentials=self.credentials,
        )


@pytest.fixture(scope="session")
async def weed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3]:
    embedded = EmbeddedStore(tmp_path_factory.mktemp("weed"), bucket="first")
    await embedded.start()
    yield S3("seaweedfs", embedded.endpoint, embedded.credentials)
    await embedded.stop()


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    program = shutil.which("minio")
    if program is None:
        pytest.skip("no minio on PATH; SeaweedFS is tested, and the machine that has one tests both")
    port, keys = free_port(), Credentials("testing", "testing-secret")
    directory = tmp_path_factory.mktemp("minio")
    process = subprocess.Popen(
        [program, "server", str(directory), "--address", f"127.0.0.1:{port}", "--console-address", "127.0.0.1:0"],
        env={**os.environ, "MINIO_ROOT_USER": keys.access_key, "MINIO_ROOT_PASSWORD": keys.secret_key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=dies_with_us,
    )
    yield S3("minio", f"127.0.0.1:{port}", keys)
    process.terminate()
    process.wait(10)


@pytest.fixture(params=["weed", "minio"])
def s3_server(request: pytest.FixtureRequest) -> S3:
    """Each real server there is."""
    server: S3 = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def s3(s3_server: S3) -> AsyncIterator[ObjectStore]:
    """A store with an empty bucket, on each real server there is."""
    async with s3_server.store(f"test-{next(_numbers)}") as store:
        async with asyncio.timeout(20):
            while True:
                try:
                    await store.ensure_bucket()
                    break
                except Exception:
                    await asyncio.sleep(0.1)
        yield store


@pytest.fixture
async def store(weed: S3) -> AsyncIterator[ObjectStore]:
    """A store with an empty bucket."""
    async with weed.store(f"test-{next(_numbers)}") as made:
        await made.ensure_bucket()
        yield made


@pytest.fixture(scope="session")
async def one_orthanc() -> AsyncIterator[Orthanc]:
    async with Orthanc(dicomweb=True) as orthanc:
        yield orthanc


@pytest.fixture
async def orthanc(one_orthanc: Orthanc) -> Orthanc:
    """A real PACS, empty."""
    await one_orthanc.clear()
    return one_orthanc


@pytest.fixture
def simulator() -> Iterator[PacsSimulator]:
    """A PACS that misbehaves on command."""
    with warnings.catch_warnings(), PacsSimulator() as running:
        warnings.simplefilter("ignore")
        yield running


class RunningGateway:
    """A gateway in this process, as Avara sees it from outside, with its parts at hand."""

    def __init__(self, config: Config, parts: app.Gateway, http: aiohttp.ClientSession) -> None:
        self.config = config
        self.parts = parts
        self.http = http
        self.simulators: list[PacsSimulator] = []
        """The PACS of it that may send other UIDs than they list."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.http.port}{self.config.avara.path}"

    async def post(self, event: dict[str, Any], *, webhook_id: str | None = None) -> tuple[int, dict[str, Any]]:
        """Sends an event signed as Avara signs it."""
        body = json.dumps(event).encode()
        async with self.http.post(
            self.url, data=body, headers=sign(KEY, webhook_id or f"msg_{secrets.token_hex(8)}", body)
        ) as answer:
            return answer.status, await answer.json()

    async def ask(self, study: str, study_id: str = "stu_1") -> dict[str, Any]:
        """The answer to a study.access_requested."""
        status, answer = await self.post(
            {
                "id": f"whe_{secrets.token_hex(16)}",
                "type": "study.access_requested",
                "data": {"studyId": study_id, "studyInstanceUid": study},
            }
        )
        assert status == 200, answer
        return answer

    async def open(self, url: str) -> bytes:
        """What a browser gets from a URL. Where that is, byte by byte, what a simulator sent with other UIDs than it
        holds it under, it is the file as the simulator holds it, so that tests need not know."""
        async with self.http.get(url) as answer:
            assert answer.status == 200, await answer.text()
            content = await answer.read()
        coerced = [pacs.coerced for pacs in self.simulators if pacs.coerced]
        if not coerced or content[128:132] != b"DICM":
            return content
        data = data_set(content)
        return next((held[data] for held in coerced if data in held), content)

    async def data_sets(self, answer: dict[str, Any]) -> list[bytes]:
        """The data sets behind an answer's URLs, in its order."""
        return [data_set(await self.open(url)) for url in answer["urls"]]

    async def checked(self, config: Config | None = None) -> AsyncIterator[Result]:
        """What ``check`` tells of it, or of another configuration beside it."""
        async for told in check_file(self.parts, revealed(config or self.config)):
            if isinstance(told, Result):
                yield told

    async def quiet(self) -> None:
        """Waits until no fetch is under way."""
        while self.parts.fetcher._tasks:
            await asyncio.wait(list(self.parts.fetcher._tasks))


async def ended(jobs: Jobs, kind: str, *states: str, within: float = 60.0, count: int = 1) -> list[Job]:
    """The jobs of a kind once *count* of them stand in one of *states* (done, quarantined, …)."""
    async with asyncio.timeout(within):
        while True:
            found = [j for j in await jobs.list(kinds=[kind]) if j.state.value in states]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


Start = Callable[..., Any]


@pytest.fixture
async def start(weed: S3, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts gateways: ``await start(pacs=[…], **sections)``; they stop after the test."""
    used: list[str] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())

        @asynccontextmanager
        async def running(pacs: list[dict[str, Any]], **sections: Any) -> AsyncIterator[RunningGateway]:
            port, dicom_port, bucket = free_port(), free_port(), _bucket()
            used.append(bucket)
            document = {
                "http": {"port": port, "public_url": f"http://127.0.0.1:{port}"},
                # Whole answers, since most tests look at what was fetched; test_prompt.py has the default.
                "avara": {"webhook_keys": [KEY], "answer": "complete"} | sections.pop("avara", {}),
                "dicom": {"ae_title": AE_TITLE, "host": "127.0.0.1", "port": dicom_port} | sections.pop("dicom", {}),
                "pacs": pacs,
                # Nothing is asked that a test does not ask; those of the upkeep let it.
                "cache": {"watch_every": "0s"} | sections.pop("cache", {}),
                "store": {
                    "endpoint": weed.endpoint,
                    "access_key": weed.credentials.access_key,
                    "secret_key": weed.credentials.secret_key,
                    "secure": False,
                    "bucket": bucket,
                },
                "state_dir": str(with_journal(tmp_path / f"state-{port}")),
                **sections,
            }
            path = tmp_path / f"gateway-{port}.yaml"
            path.write_text(json.dumps(document))  # JSON is YAML
            config = load(path, {})
            async with app.serving(config) as parts:
                yield RunningGateway(config, parts, http)

        async def begin(*pacs: Orthanc | PacsSimulator | dict[str, Any], **sections: Any) -> RunningGateway:
            options = sections.pop("pacs_options", {})
            if any(isinstance(p, PacsSimulator) and p.behaviour.answers_first is not None for p in pacs):
                # What is missing is known only once such a one has been silent for a while.
                sections["avara"] = {"answer_within": "60s"} | sections.get("avara", {})
            described = [p if isinstance(p, dict) else describe(p) | options for p in pacs]
            gateway: RunningGateway = await stack.enter_async_context(running(described, **sections))
            for p in pacs:
                if isinstance(p, Orthanc):
                    await p.register(AE_TITLE, gateway.parts.scp.port)
                elif isinstance(p, PacsSimulator):
                    p.destinations[AE_TITLE] = ("127.0.0.1", gateway.parts.scp.port)
                    gateway.simulators.append(p)
            return gateway

        yield begin
    for bucket in used:
        await _give_back(weed, bucket)


def describe(pacs: Orthanc | PacsSimulator) -> dict[str, Any]:
    """A PACS as the configuration has it."""
    port = pacs.dicom_port if isinstance(pacs, Orthanc) else pacs.port
    told = {"name": pacs.ae_title.lower(), "ae_title": pacs.ae_title, "host": "127.0.0.1", "port": port}
    # Long enough for what a simulator sends late, so that tests of what never comes are short.
    if not isinstance(pacs, PacsSimulator):
        return told
    late = pacs.behaviour.answers_first
    return told | {"settle": "200ms" if late is None else f"{1000 * max(1, 6 * late):.0f}ms"}


def data_set(part10: bytes) -> bytes:
    """What follows the file meta of a Part 10 file."""
    assert part10[128:132] == b"DICM"
    return part10[144 + int.from_bytes(part10[140:144], "little") :]
