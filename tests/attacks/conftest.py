"""A gateway as a hospital has it (its own process, the embedded store, 1,024 descriptors), and nginx before it."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import aiohttp
import pytest

from gateway.avara.signature import sign
from gateway.demo.orthanc import dies_with_us
from gateway.demo.sample import sample_study
from gateway.objects import Credentials, Presigner
from tests.attacks.siege import Siege, table
from tests.conftest import KEY, describe
from tests.rig.journal import with_journal
from tests.rig.ports import free_port
from tests.rig.simulator import PacsSimulator

ROOT = Path(__file__).parent.parent.parent
STUDY, SAMPLE = sample_study()
DESCRIPTORS = 1024


SIEGES = pytest.StashKey[list[Siege]]()


def pytest_addoption(parser):
    parser.addoption("--attack-rounds", type=int, default=0, help="how often each attack is measured; 0: it is not")


def pytest_configure(config):
    config.stash[SIEGES] = []


def pytest_terminal_summary(terminalreporter, config):
    if sieges := config.stash[SIEGES]:
        terminalreporter.section("honest work beside attacks: medians")
        for line in table(sieges):
            terminalreporter.write_line(line)


@pytest.fixture
def besiege(request):
    """``await besiege(attack, work)``: honest *work* is done in its time beside the *attack* (siege.py)."""

    async def lay(attack, work):
        # This file is read before the command line only where the command line names this folder.
        rounds = request.config.getoption("--attack-rounds", default=0)
        siege = Siege(request.node.name)
        try:
            await siege.lay(attack, work, rounds)
        finally:
            if rounds and siege.beside:
                request.config.stash[SIEGES].append(siege)

    return lay


def _limited():
    dies_with_us()
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


class Besieged:
    """A gateway in a process of its own, and honest work with it."""

    def __init__(self, directory, port, public_url):
        self.directory, self.port, self.public_url = directory, port, public_url
        self.log = directory / "gateway.log"
        self.process = None

    async def start(self, pacs):
        dicom_port = free_port()
        pacs.destinations["AVARAGW"] = ("127.0.0.1", dicom_port)
        config = self.directory / "gateway.yaml"
        config.write_text(
            json.dumps(
                {
                    "http": {"port": self.port, "public_url": self.public_url},
                    "avara": {"webhook_keys": [KEY]},
                    "dicom": {"host": "127.0.0.1", "port": dicom_port},
                    "pacs": [describe(pacs)],
                    "cache": {"min_free": "1MB"},
                    "state_dir": str(with_journal(self.directory / "state")),
                }
            )
        )
        with self.log.open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", "serve", "-c", str(config),
                stdout=output, stderr=output, preexec_fn=_limited,
            )  # fmt: skip
        async with asyncio.timeout(60):
            while b"serving:" not in self.log.read_bytes():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.1)
        kept = json.loads((self.directory / "state/store/secrets.json").read_text())
        self.presigner = Presigner(
            endpoint_url=self.public_url,
            region="us-east-1",
            bucket="dicom",
            credentials=Credentials(kept["access_key"], kept["secret_key"]),
        )

    async def stop(self):
        self.process.terminate()
        async with asyncio.timeout(60):
            await self.process.wait()

    def resident(self):
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    async def webhook(self, http):
        """Opens the study; its answer."""
        event = {"id": "whe_1", "type": "study.access_requested"}
        body = json.dumps(event | {"data": {"studyId": "stu_1", "studyInstanceUid": STUDY}}).encode()
        headers = sign(KEY, f"msg_{id(body)}_{len(body)}_{asyncio.get_running_loop().time()}", body)
        async with http.post(f"{self.public_url}/webhooks/avara", data=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def put(self, http, key, content):
        async with http.put(self.presigner.put_url(key, expires_in=600), data=content) as answer:
            return answer.status

    async def get(self, http, url):
        async with http.get(url) as answer:
            return answer.status, await answer.read()


def honest(**options):
    """A browser, or Avara, that has patience but not for ever."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.1", 0), force_close=True, ssl=False)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=45), **options)


@pytest.fixture(scope="module")
async def besieged(tmp_path_factory):
    """One for all attacks of a file, as it is one in a hospital: what one leaves behind, the next one meets."""
    with warnings.catch_warnings(), PacsSimulator() as pacs:
        warnings.simplefilter("ignore")
        pacs.add(*(i.content for i in SAMPLE))
        port = free_port()
        gateway = Besieged(tmp_path_factory.mktemp("besieged"), port, f"http://127.0.0.1:{port}")
        await gateway.start(pacs)
        yield gateway
        await gateway.stop()


class Nginx:
    """The shipped configuration, run for real."""

    def __init__(self, directory):
        self.directory, self.port = directory, free_port()

    def start(self, gateway_port):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-keyout", self.directory / "key.pem", "-out", self.directory / "cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        shipped = (ROOT / "deploy/nginx.conf").read_text()
        for there, here in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("gateway.example.org;", "localhost;"),
            ("/etc/ssl/gateway.example.org.pem", f"{self.directory}/cert.pem"),
            ("/etc/ssl/gateway.example.org.key", f"{self.directory}/key.pem"),
            ("/var/log/nginx/", f"{self.directory}/"),
            ("127.0.0.1:8080", f"127.0.0.1:{gateway_port}"),
        ):
            assert there in shipped, there
            shipped = shipped.replace(there, here)
        temporary = "".join(
            f"{kind}_temp_path {self.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = self.directory / "nginx.conf"
        config.write_text(
            f"daemon off; pid {self.directory}/pid; worker_processes 1; error_log {self.directory}/main.log crit;\n"
            f"events {{ worker_connections 2000; }}\nhttp {{ {temporary}\n{shipped}\n}}\n"
        )
        self.process = subprocess.Popen(
            [shutil.which("nginx") or "/usr/sbin/nginx", "-p", self.directory, "-c", config],
            stderr=subprocess.DEVNULL,
            preexec_fn=dies_with_us,
        )

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def logs(self):
        return "".join(p.read_text() for p in self.directory.glob("*.log"))

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
async def proxied(simulator, tmp_path):
    """A gateway behind the shipped nginx, and that nginx."""
    simulator.add(*(i.content for i in SAMPLE))
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(folder)
    gateway = Besieged(tmp_path, free_port(), nginx.url)
    nginx.start(gateway.port)
    try:
        await gateway.start(simulator)
        yield gateway, nginx
        await gateway.stop()
    finally:
        nginx.stop()
