"""The image: the Dockerfile is built on a clean Debian, what it makes is run, and a study opens through it.

``make test-containers`` runs it. It takes minutes, root, and a mirror of Debian's packages, so it is no part of ``make
test``. Building and running is buildah's, without a daemon and isolated by chroot alone, since that works inside a
container, too; so what a container engine adds (a network of its own, limits, its own restarts) is not shown here, and
docker-compose.yml is read by tests/config only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.demo.sample import sample_study
from tests.conftest import KEY, data_set
from tests.install.chroot import ROOT, make_base
from tests.rig.ports import free_port
from tests.rig.simulator import PacsSimulator

IMAGE, BASE_IMAGE = "localhost/avara-gateway-test", "localhost/avara-gateway-base"
USER = 10001
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a Debian, and enter it"),
    pytest.mark.skipif(shutil.which("buildah") is None, reason="no buildah on PATH"),
]


class Buildah:
    """buildah with a store of its own."""

    def __init__(self, store: Path) -> None:
        self._options = ["--root", str(store / "images"), "--runroot", str(store / "run"), "--storage-driver", "vfs"]

    def command(self, name: str, *arguments: str) -> list[str]:
        return ["buildah", *self._options, name, *arguments]

    def run(self, name: str, *arguments: str) -> str:
        """What it prints. Raises where it fails."""
        done = subprocess.run(
            self.command(name, *arguments), capture_output=True, text=True, timeout=3000, check=False, cwd=ROOT
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout.strip()


@pytest.fixture(scope="session")
def base() -> Path:
    """A Debian with Python and its venv module, as the Dockerfile asks for."""
    base = Path(os.environ.get("CONTAINER_BASE", ROOT / "build/debian-venv"))
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        make_base(base, "python3-venv")
    return base


@pytest.fixture(scope="session")
def image(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """The image, in a store that is gone afterwards."""
    store = tmp_path_factory.mktemp("images")
    buildah = Buildah(store)
    made = buildah.run("from", "scratch")
    buildah.run("add", made, f"{base}/", "/")
    # Where this machine has authorities of its own, a package that comes from a registry comes by them.
    authorities = "/etc/ssl/certs/ca-certificates.crt"
    (store / "pip.conf").write_text(f"[global]\ncert = {authorities}\ntimeout = 180\n")
    buildah.run("copy", made, authorities, authorities)
    buildah.run("copy", made, str(store / "pip.conf"), "/etc/pip.conf")
    buildah.run("commit", "--rm", made, BASE_IMAGE)
    buildah.run(
        "build", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={BASE_IMAGE}", "-t", IMAGE, "."
    )
    yield buildah
    buildah.run("rm", "--all")
    buildah.run("rmi", "--all", "--force")
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture
def pacs() -> Iterator[PacsSimulator]:
    with PacsSimulator() as running:
        yield running


@contextmanager
def served(buildah: Buildah, folder: Path, pacs: PacsSimulator) -> Iterator[tuple[int, str]]:
    """The image as it serves: its port, and the name of its container; by its own user, entry point and command."""
    ports = {"http": free_port(), "dicom": free_port()}
    state, path = folder / "state", folder / "gateway.yaml"
    state.mkdir(mode=0o700)
    os.chown(state, USER, USER)
    document = {
        "http": {"port": ports["http"], "public_url": f"http://127.0.0.1:{ports['http']}"},
        "avara": {"webhook_keys": [KEY], "answer": "complete"},
        "dicom": {"host": "127.0.0.1", "port": ports["dicom"]},
        "pacs": [{"name": "main", "ae_title": "SIMULATOR", "host": "127.0.0.1", "port": pacs.port}],
        "cache": {"min_free": "0"},
    }
    path.write_text(json.dumps(document))  # JSON is YAML
    path.chmod(0o644)
    pacs.destinations["AVARAGW"] = ("127.0.0.1", ports["dicom"])
    container = buildah.run("from", IMAGE)
    config = json.loads(buildah.run("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
    mounts = ["-v", f"{path}:/etc/avara-gateway/gateway.yaml:ro", "-v", f"{state}:/var/lib/avara-gateway"]
    inside = ["--isolation", "chroot", "--network", "host", *mounts, container, "--"]
    assert config["User"] == str(USER)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        buildah.command("run", *inside, *config["Entrypoint"], *config["Cmd"]),
        stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 180
        while not _healthy(ports["http"]):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-3000:]  # noqa: PT018
            time.sleep(0.5)
        yield ports["http"], container
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(10)
        log.close()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_the_image_serves_as_its_own_user_and_opens_a_study(image, pacs, tmp_path):
    study, instances = sample_study()
    pacs.add(*(instance.content for instance in instances))
    with served(image, tmp_path, pacs) as (_, container):
        asked = f"avara-gateway send-event --full study.access_requested --study-instance-uid {study}"
        mount = f"{tmp_path}/gateway.yaml:/etc/avara-gateway/gateway.yaml:ro"
        told = image.run(
            "run", "--isolation", "chroot", "--network", "host", "-v", mount, container, "--", "sh", "-c", asked
        )
        given = []
        for url in re.findall(r"http://127\.0\.0\.1:\d+/[^\s\"',]+", told):
            with urllib.request.urlopen(url, timeout=30) as answer:
                given.append(answer.read())
        there = {data_set(file) for file in given if file[128:132] == b"DICM"}
        assert there == {data_set(instance.content) for instance in instances}
    assert {path.stat().st_uid for path in (tmp_path / "state").iterdir()} == {USER}
