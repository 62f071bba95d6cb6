"""The container files, run: the Dockerfile is built on a clean Debian, the compose file is brought up, a study opens.

``make test-containers`` runs it. It takes minutes, root, and a mirror of Debian's packages, so it is no part of ``make
test``. The image is built and run by buildah, without a daemon and isolated by chroot alone, since that works inside a
container, too. docker-compose.yml is brought up as it stands by Docker Compose, on an engine of the test's own
(tests/install/engine.py): health checks, order, users, mounts, secrets, networks, published ports are Docker's.

Left out: pulling the images that the compose file names, for which MinIO and Orthanc are built here
(tests/install/images.py); a reverse proxy before them; a machine that starts again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.avara.signature import sign
from gateway.demo.sample import sample_capture, sample_study
from tests.conftest import KEY, data_set
from tests.install.chroot import ROOT, make_base
from tests.install.engine import Engine, Project, compose_command, run
from tests.install.images import CHROOT, GATEWAY, MINIO, ORTHANC, Buildah, build_gateway, build_minio, build_orthanc
from tests.rig.ports import free_port
from tests.rig.simulator import PacsSimulator

USER = 10001
MAKE_SECRETS = "scripts/make-secrets"
pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a Debian, and enter it"),
    pytest.mark.skipif(shutil.which("buildah") is None, reason="no buildah on PATH (apt-get install buildah)"),
]


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Its store, with a base that has Python and its venv module, as the Dockerfile asks for; gone afterwards."""
    base = Path(os.environ.get("CONTAINER_BASE", ROOT / "build/debian-venv"))
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        make_base(base, "python3-venv")
    store = tmp_path_factory.mktemp("images")
    buildah = Buildah(store, base)
    yield buildah
    buildah.remove()
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="session")
def image(buildah: Buildah) -> Buildah:
    """The image of the Dockerfile is in it."""
    build_gateway(buildah)
    return buildah


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
        "state_dir": "/state",  # over a VOLUME of the image, buildah's chroot mounts nothing
    }
    path.write_text(json.dumps(document))  # JSON is YAML
    path.chmod(0o644)
    pacs.destinations["AVARAGW"] = ("127.0.0.1", ports["dicom"])
    container = buildah.run("from", GATEWAY)
    config = json.loads(buildah.run("inspect", "--type", "image", GATEWAY))["OCIv1"]["config"]
    mounts = ["-v", f"{path}:/etc/avara-gateway/gateway.yaml:ro", "-v", f"{state}:/state"]
    inside = [*CHROOT, *mounts, container, "--"]
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
        told = image.run("run", *CHROOT, "-v", mount, container, "--", "sh", "-c", asked)
        given = []
        for url in re.findall(r"http://127\.0\.0\.1:\d+/[^\s\"',]+", told):
            with urllib.request.urlopen(url, timeout=30) as answer:
                given.append(answer.read())
        there = {data_set(file) for file in given if file[128:132] == b"DICM"}
        assert there == {data_set(instance.content) for instance in instances}
    assert {path.stat().st_uid for path in (tmp_path / "state").iterdir()} == {USER}


@pytest.fixture(scope="session")
def possible() -> None:
    """What brings the compose file up is here. Skips, and says how to get it, where it is not."""
    if shutil.which("dockerd") is None:
        pytest.skip("no dockerd on PATH (apt-get install docker.io)")
    if compose_command() is None:
        pytest.skip("no docker compose on PATH (apt-get install docker-compose)")
    if shutil.which("minio") is None:
        pytest.skip("no minio on PATH (go install github.com/minio/minio@latest builds one)")


class Hospital(Project):
    """docker-compose.yml as it stands, in a checkout of its own, as Avara and a browser on this machine see it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        for name in ("docker-compose.yml", "config/gateway.compose.yaml", "orthanc/orthanc.json", MAKE_SECRETS):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        run([str(folder / MAKE_SECRETS)], dict(os.environ))
        super().__init__(engine, folder, {"MINIO_IMAGE": MINIO, "ORTHANC_IMAGE": ORTHANC})
        self._engine = engine
        self._key = (folder / "secrets/avara_webhook_keys").read_text().strip()

    def event(self, kind: str, **data: str) -> dict[str, Any]:
        """What Avara is answered to an event."""
        body = json.dumps({"id": f"whe_{secrets.token_hex(16)}", "type": kind, "data": data}).encode()
        headers = sign(self._key, f"msg_{secrets.token_hex(8)}", body) | {"Content-Type": "application/json"}
        answer: dict[str, Any] = json.loads(self.http("http://localhost:8080/webhooks/avara", body, headers))
        return answer

    def http(
        self, url: str, body: bytes | None = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> bytes:
        """What is at a URL. Raises where it is refused."""
        with self._engine.network():
            asked = urllib.request.Request(url, body, headers or {}, method=method)
            with urllib.request.urlopen(asked, timeout=120) as answer:
                content: bytes = answer.read()
                return content

    def opened(self, study: str) -> tuple[set[str], set[bytes]]:
        """Where a study's URLs point, and the data sets that are there."""
        answer = self.event("study.access_requested", studyId="stu_1", studyInstanceUid=study)
        given = [self.http(url) for url in answer["urls"]]
        return {url.split("/")[2] for url in answer["urls"]}, {data_set(f) for f in given if f[128:132] == b"DICM"}

    def in_orthanc(self, uid: str) -> bool:
        """Whether Orthanc has a study, or an instance, of that UID."""
        return self.http("http://localhost:8042/tools/lookup", uid.encode()).strip() != b"[]"


@pytest.fixture(scope="session")
def up(possible: None, image: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """``docker compose up -d``, and all of it healthy."""
    build_minio(image, str(shutil.which("minio")))
    build_orthanc(image)
    folder = tmp_path_factory.mktemp("engine")
    with Engine(folder) as engine:
        for built, name in ((GATEWAY, "avara-gateway"), (MINIO, MINIO), (ORTHANC, ORTHANC)):
            archive = image.export(built, f"{name}:latest")
            engine.docker("load", "--quiet", "--input", str(archive))
            archive.unlink()
        hospital = Hospital(engine, folder / "avara-gateway")
        hospital.compose("up", "-d")
        hospital.healthy("minio", "orthanc", "gateway")
        yield hospital
        hospital.compose("down", "-v")
    shutil.rmtree(folder, ignore_errors=True)


def _with_study(hospital: Hospital) -> tuple[str, set[bytes]]:
    """A study that Orthanc has, and its data sets."""
    study, instances = sample_study()
    for instance in instances:
        hospital.http("http://localhost:8042/instances", instance.content)
    return study, {data_set(instance.content) for instance in instances}


def test_the_compose_file_comes_up_healthy_and_check_finds_nothing_wrong(up):
    assert "\n0 FAIL, " in up.compose("exec", "-T", "gateway", "avara-gateway", "check")
    assert up.container("minio-user")["State"]["ExitCode"] == 0


def test_a_study_opens_through_the_compose_file_by_urls_of_its_store(up):
    study, there = _with_study(up)
    assert up.opened(study)[1] == there
    _until(lambda: up.opened(study) == ({"localhost:9000"}, there), up)  # soon, all of it is kept


def test_a_capture_that_is_uploaded_to_the_compose_file_s_store_arrives_in_orthanc(up):
    study, _ = _with_study(up)
    answer = up.event("secondary_capture.access_requested", studyId="stu_1", studyInstanceUid=study)
    capture = sample_capture(study)
    up.http(answer["uploadUrls"][0], capture.content, {"Content-Type": "application/dicom"}, "PUT")
    _until(lambda: up.in_orthanc(capture.sop_instance_uid), up)


def test_what_the_compose_file_kept_is_there_after_down_and_up(up):
    study, there = _with_study(up)
    _until(lambda: up.opened(study) == ({"localhost:9000"}, there), up)
    up.compose("down")
    up.compose("up", "-d", "gateway")  # and no PACS: what is answered is what was kept
    up.healthy("gateway")
    assert up.opened(study) == ({"localhost:9000"}, there)
    up.compose("up", "-d")
    up.healthy("orthanc")
    assert up.in_orthanc(study)


def _until(true: Callable[[], bool], hospital: Hospital) -> None:
    until = time.monotonic() + 180
    while not true():
        assert time.monotonic() < until, hospital.compose("logs", "gateway")[-3000:]
        time.sleep(1)
