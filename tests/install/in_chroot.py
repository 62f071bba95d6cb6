"""Installing as a newcomer does, on a clean Debian: the package, the bundle, the documentation's steps as they stand.

``make test-install`` runs it. It takes minutes, root, and a mirror of Debian's packages, so it is no part of ``make
test``.
``ARTEFACTS`` is the folder that has the package and the bundle; ``BASE`` is where the clean Debian lies, or is made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.sample import sample_study
from tests.conftest import KEY, data_set
from tests.install.chroot import ROOT, Machine, make_base
from tests.rig.simulator import PacsSimulator

ARTEFACTS = Path(os.environ.get("ARTEFACTS", ROOT / "dist"))
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="session")
def base() -> Path:
    base = Path(os.environ.get("BASE", ROOT / "build/debian"))
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        make_base(base)
    return base


@pytest.fixture
def machine(base: Path, tmp_path: Path) -> Iterator[Machine]:
    yield Machine(base, tmp_path / "machine")
    shutil.rmtree(tmp_path / "machine", ignore_errors=True)


def _opens_a_study(machine: Machine, pacs: PacsSimulator, ports: dict[str, int]) -> None:
    """``check`` says that all is well, and every URL of a study gives the PACS's bytes."""
    study, instances = sample_study()
    pacs.add(*(instance.content for instance in instances))
    pacs.destinations["AVARAGW"] = ("127.0.0.1", ports["dicom"])
    with machine.service(ports):
        environment = machine.environment(ports)
        told = machine.run("avara-gateway check", environment=environment)
        assert "\n0 FAIL, " in told, told
        command = f"avara-gateway send-event --full study.access_requested --study-instance-uid {study}"
        told = machine.run(command, environment=environment)
        urls = re.findall(r"http://127\.0\.0\.1:\d+/[^\s\"',]+", told)
        given = []
        for url in urls:
            with urllib.request.urlopen(url, timeout=30) as answer:
                given.append(answer.read())
        there = {data_set(file) for file in given if file[128:132] == b"DICM"}
        assert there == {data_set(instance.content) for instance in instances}


def test_the_debian_package_installs_asks_nothing_of_the_network_and_opens_a_study(machine):
    [package] = ARTEFACTS.glob("avara-gateway_*.deb")
    shutil.copy(package, machine.file("/root/new.deb"))

    told = machine.run("dpkg -i /root/new.deb", network=False)
    assert "avara-gateway init" in told  # nothing was answered: it says what is next, and is not started
    assert not machine.file("/etc/avara-gateway/gateway.yaml").exists()
    assert "serve" in machine.run("avara-gateway --help", network=False)
    for file in (
        "man/man1/avara-gateway.1.gz",
        "bash-completion/completions/avara-gateway",
        "doc/avara-gateway/avara-gateway.cdx.json",
    ):
        assert machine.file(f"/usr/share/{file}").stat().st_size > 100
    bill = json.loads(machine.file("/usr/share/doc/avara-gateway/avara-gateway.cdx.json").read_text())
    assert "aiohttp" in {component["name"] for component in bill["components"]}
    elsewhere = subprocess.run(
        ["grep", "-rlI", "--exclude-dir=site-packages", "/tmp/", str(machine.file("/opt/avara-gateway"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert elsewhere.stdout == ""  # nothing points to where it was built

    with PacsSimulator() as pacs:
        ports = machine.ports()
        answers = {
            "public-url": f"http://127.0.0.1:{ports['http']}",
            "pacs-host": "127.0.0.1",
            "pacs-port": str(pacs.port),
            "pacs-ae-title": "SIMULATOR",
            "ae-title": "AVARAGW",
        }
        said = "".join(f"avara-gateway avara-gateway/{k} string {v}\n" for k, v in answers.items())
        machine.run("debconf-set-selections", said=said)
        told = machine.run("dpkg-reconfigure avara-gateway", network=False)
        assert "Avara's key is missing" in told
        keys = machine.file("/etc/avara-gateway/webhook_keys")
        assert stat.S_IMODE(keys.stat().st_mode) == 0o600
        keys.write_text(f"{KEY}\n")
        _opens_a_study(machine, pacs, ports)

    configured = machine.file("/etc/avara-gateway/gateway.yaml").read_text()
    told = machine.run("dpkg -i /root/new.deb", network=False)  # the next version
    assert machine.file("/etc/avara-gateway/gateway.yaml").read_text() == configured
    assert keys.read_text() == f"{KEY}\n"

    machine.run("dpkg -r avara-gateway", network=False)
    assert not machine.file("/opt/avara-gateway").exists()
    assert machine.file("/etc/avara-gateway/gateway.yaml").exists()
    told = machine.run("dpkg -P avara-gateway", network=False)
    assert "/var/lib/avara-gateway is kept" in told
    assert not machine.file("/etc/avara-gateway").exists()
    assert any(machine.file("/var/lib/avara-gateway").iterdir())

    machine.run("dpkg -i /root/new.deb", network=False)
    machine.run("debconf-set-selections", said="avara-gateway avara-gateway/purge-data boolean true\n")
    machine.run("dpkg -P avara-gateway", network=False)
    assert not machine.file("/var/lib/avara-gateway").exists()


def test_an_answer_that_cannot_be_is_told_and_the_package_is_installed_all_the_same(machine):
    [package] = ARTEFACTS.glob("avara-gateway_*.deb")
    shutil.copy(package, machine.file("/root/new.deb"))
    answers = {"public-url": "gateway", "pacs-host": "10.1.2.3", "pacs-ae-title": "PACS"}
    said = "".join(f"avara-gateway avara-gateway/{k} string {v}\n" for k, v in answers.items())
    machine.run("debconf-set-selections", said=said)
    told = machine.run("dpkg -i /root/new.deb", network=False)
    assert "write it like https://" in told
    assert "avara-gateway init" in told
    assert not machine.file("/etc/avara-gateway/gateway.yaml").exists()


def test_the_bundle_installs_without_a_network_and_refuses_what_was_altered(machine):
    [bundle] = ARTEFACTS.glob("avara-gateway-*.tar.gz")
    subprocess.run(["tar", "-C", str(machine.file("/root")), "-xzf", str(bundle)], check=True, timeout=120)
    [folder] = (f"/root/{p.name}" for p in machine.file("/root").glob("avara-gateway-*"))

    altered = next(machine.file(f"{folder}/wheels").glob("yarl-*.whl"))
    whole = altered.read_bytes()
    altered.write_bytes(whole[:-1] + b"x")
    told = machine.run("./install", folder=folder, network=False, ok=False)
    assert "not as it was made" in told
    assert not machine.file("/opt/avara-gateway").is_symlink()
    # Nor does pip take it, should somebody leave the first check out.
    sums = machine.file(f"{folder}/SHA256SUMS")
    kept = sums.read_text()
    sums.write_text("".join(line for line in kept.splitlines(keepends=True) if "yarl" not in line))
    told = machine.run("./install", folder=folder, network=False, ok=False)
    assert "DO NOT MATCH THE HASHES" in told
    assert not list(machine.file("/opt").iterdir())
    altered.write_bytes(whole)
    sums.write_text(kept)

    told = machine.run("./install", folder=folder, network=False)
    assert "avara-gateway init" in told
    assert "version" in machine.run("avara-gateway --version", network=False)
    first = machine.file("/opt/avara-gateway").readlink()
    machine.run("./install", folder=folder, network=False)  # the same again stands beside what runs
    assert machine.file("/opt/avara-gateway").readlink() != first
    assert machine.file(str(first)).exists()
    machine.run(f"ln -sfn {first} /opt/avara-gateway && avara-gateway --version", network=False)  # and back

    with PacsSimulator() as pacs:
        ports = machine.ports()
        machine.file("/root/key").write_text(KEY)
        machine.run(
            f"avara-gateway init --webhook-key-file /root/key --public-url http://127.0.0.1:{ports['http']} "
            f"--pacs-host 127.0.0.1 --pacs-port {pacs.port} --pacs-ae-title SIMULATOR --ae-title AVARAGW"
        )
        _opens_a_study(machine, pacs, ports)


def _steps(heading: str) -> list[str]:
    """The commands of the first fenced block below *heading* of docs/install.md, without their comments."""
    text = (ROOT / "docs/install.md").read_text()
    [block] = re.findall(rf"^## {heading}$.*?^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s{2,}# .*$", "", line) for line in block.splitlines()]


def test_the_steps_of_the_documentation_work_exactly_as_they_stand(machine):
    checkout = machine.file("/root/avara-gateway")
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, files):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    machine.run("apt-get update")
    with PacsSimulator() as pacs:
        ports = machine.ports()
        typed = [f"http://127.0.0.1:{ports['http']}", "127.0.0.1", str(pacs.port), "SIMULATOR", "", KEY]
        steps = _steps("With pip")
        assert len(steps) >= 6
        for step in steps:
            if step.startswith("systemctl "):
                continue  # no systemd runs here: what it would start is started below
            if step.startswith("avara-gateway check"):
                told = machine.run(step, folder="/root/avara-gateway", ok=False)
                assert "Traceback" not in told
                continue  # the gateway does not run yet, and the simulator does not know it
            machine.run(
                step,
                folder="/root/avara-gateway",
                said="\n".join([*typed, ""]) if step.startswith("avara-gateway init") else "",
            )
        _opens_a_study(machine, pacs, ports)
