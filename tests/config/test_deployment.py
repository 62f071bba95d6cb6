"""The files that a hospital installs from, as far as they can be checked without a container engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from gateway.app.run import STOPPED_WITHIN
from gateway.cli import main
from gateway.cli.common import DEFAULT_FILE, MISCONFIGURED
from gateway.config import effective, load

ROOT = Path(__file__).parent.parent.parent
COMPOSE = YAML(typ="safe").load(ROOT / "docker-compose.yml")
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_gateways_configuration_in_compose_loads_with_its_secrets(tmp_path):
    gateway = COMPOSE["services"]["gateway"]
    environment = dict(gateway["environment"])
    for name, value in environment.items():
        secret = tmp_path / Path(value).name
        secret.write_text(KEY if "webhook" in secret.name else "secret")
        environment[name] = str(secret)
    config = load(ROOT / "config/gateway.compose.yaml", environment)
    assert config.store.endpoint == "minio:9000"
    assert config.pacs[0].host in COMPOSE["services"]
    assert config.store.secret_key.get_secret_value() == "secret"


def test_the_gateway_is_not_given_the_root_keys_of_the_store():
    services = COMPOSE["services"]
    assert [s for s in services["gateway"]["secrets"] if "root" in s] == []
    root = {services["minio"]["environment"][f"MINIO_ROOT_{part}_FILE"] for part in ("USER", "PASSWORD")}
    assert root == {s for s in services["minio-user"]["secrets"] if "root" in s}
    assert services["gateway"]["depends_on"] == {"minio-user": {"condition": "service_completed_successfully"}}
    from gateway.cli import main

    asked = services["minio-user"]["command"]
    known = {option for parameter in main.commands[asked[0]].params for option in parameter.opts}
    assert {argument for argument in asked if argument.startswith("-")} <= known


def test_every_service_has_a_health_check_or_an_image_that_has_one_and_restarts():
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name, service in COMPOSE["services"].items():
        if name == "minio-user":
            continue  # it ends
        assert "healthcheck" in service or ("build" in service and "HEALTHCHECK" in dockerfile), name
        assert service["restart"] == "unless-stopped"


def test_what_compose_mounts_and_names_exists():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        for secret in service.get("secrets", []):
            assert secret in COMPOSE["secrets"]


def test_only_dicom_listens_beyond_loopback():
    wide = [
        port
        for service in COMPOSE["services"].values()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    ]
    assert wide == ["11112:11112"]


def test_the_gateway_runs_as_nobody_in_particular():
    gateway = COMPOSE["services"]["gateway"]
    assert gateway["user"] == "10001"
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["read_only"] is True
    assert "USER 10001" in (ROOT / "Dockerfile").read_text()


def test_the_trial_pacs_knows_the_gateway():
    orthanc = json.loads((ROOT / "orthanc/orthanc.json").read_text())
    config = YAML(typ="safe").load(ROOT / "config/gateway.compose.yaml")
    known = orthanc["DicomModalities"]["gateway"]
    assert (known["AET"], known["Port"]) == (config["dicom"]["ae_title"], config["dicom"]["port"])
    assert known["Host"] in COMPOSE["services"]
    assert (config["pacs"][0]["ae_title"], config["pacs"][0]["port"]) == (orthanc["DicomAet"], orthanc["DicomPort"])


@pytest.mark.slow
def test_making_secrets_makes_what_compose_wants_and_never_overwrites(tmp_path):
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts/make-secrets"
    script.write_bytes((ROOT / "scripts/make-secrets").read_bytes())
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    made = {p.name: p.read_text() for p in (tmp_path / "secrets").iterdir()}
    assert set(made) == {Path(s["file"]).name for s in COMPOSE["secrets"].values()}
    assert made["avara_webhook_keys"].startswith("whsec_")
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    assert {p.name: p.read_text() for p in (tmp_path / "secrets").iterdir()} == made


def test_the_unit_waits_for_ready_wants_signs_of_life_and_is_given_time_to_stop():
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy/avara-gateway.service")
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"], service["Restart"]) == ("notify", "main", "on-failure")
    assert int(service["WatchdogSec"]) > 10
    assert int(service["TimeoutStopSec"]) > STOPPED_WITHIN
    assert int(service["LimitNOFILE"]) >= 65536
    assert "AF_UNIX" in service["RestrictAddressFamilies"]  # the service manager's socket
    assert float(COMPOSE["services"]["gateway"]["stop_grace_period"].rstrip("s")) > STOPPED_WITHIN


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(
    p.relative_to(ROOT).as_posix() for folder in ("scripts", "deploy") for p in (ROOT / folder).rglob("*")
    if p.is_file() and p.read_bytes().startswith(b"#!/bin/sh")
))  # fmt: skip
def test_scripts_are_plain_shell(script):
    subprocess.run(["sh", "-n", str(ROOT / script)], check=True)


def test_the_unit_does_not_start_again_what_its_configuration_keeps_from_starting(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text("pacs:\n  - {name: main, ae_title: A, host: h, port: 1}\n")  # and no webhook key
    done = CliRunner(env={"AVARA_WEBHOOK_KEY": None}).invoke(main, ["serve", "-c", str(path)])
    assert done.exit_code == MISCONFIGURED
    assert "there is no webhook key" in done.output
    unit = (ROOT / "deploy/avara-gateway.service").read_text()
    assert re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE) == [
        f"{MISCONFIGURED} 243"
    ]  # a credential is missing
    assert f"serve -c {DEFAULT_FILE}\n" in unit


def test_the_unit_lets_the_gateway_open_all_files_that_its_settings_can_ask_for():
    from gateway.app.http import FOR_AN_ASSOCIATION, OUR_FILES
    from gateway.web.server import Bounds

    unit = (ROOT / "deploy/avara-gateway.service").read_text()
    [limit] = re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)
    kept = OUR_FILES + FOR_AN_ASSOCIATION * 1000  # the most that dicom.max_associations can be
    most = Bounds.of(connections=20_000, descriptors=int(limit), kept=kept)  # and http.max_connections
    assert most.connections == 20_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here (apt-get install systemd)")
def test_the_unit_may_do_little_by_the_judgement_of_systemd():
    unit = ROOT / "deploy/avara-gateway.service"
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-300:]


def test_the_unit_holds_no_secret_and_gives_the_key_as_a_credential(tmp_path):
    unit = (ROOT / "deploy/avara-gateway.service").read_text()
    assert "whsec_" not in unit
    [(name, value)] = re.findall(r"^Environment=(\w+)=%d/(\w+)$", unit, re.MULTILINE)
    assert f"LoadCredential={value}:/etc/avara-gateway/{value}\n" in unit
    (tmp_path / value).write_text(KEY)
    config = load(ROOT / "config/gateway.minimal.yaml", {name: str(tmp_path / value)})
    assert [key.get_secret_value() for key in config.avara.webhook_keys] == [KEY]


def test_every_secret_can_be_a_credential_of_systemd(tmp_path):
    """As ``LoadCredential=`` and ``Environment=…_FILE=%d/NAME`` hand it on: a file that only this user may read, in
    ``$CREDENTIALS_DIRECTORY``, which is gone when the service ends."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    secrets = {
        "AVARA__API_KEY": "an API key", "STORE__SECRET_KEY": "a secret key", "OUTBOUND__PASSWORD": "a password",
        "PACS__0__DICOMWEB_PASSWORD": "another password", "ALERTS__EMAIL__PASSWORD": "a third one",
    }  # fmt: skip
    variables = {
        "OUTBOUND__PROXY": "http://proxy.example:3128", "OUTBOUND__USER": "us", "STORE__ENDPOINT": "s3.example",
        "STORE__ACCESS_KEY": "access", "PACS__0__DICOMWEB_URL": "https://pacs.example/dicomweb",
        "PACS__0__DICOMWEB_USER": "us", "ALERTS__EMAIL__SERVER": "mail.example", "ALERTS__EMAIL__USER": "us",
        "ALERTS__EMAIL__SENDER": "gateway@hospital.example", "ALERTS__EMAIL__RECIPIENTS__0": "pacs@hospital.example",
    }  # fmt: skip
    (folder / "webhook_keys").write_text(KEY + "\n")
    variables["AVARA__WEBHOOK_KEYS_FILE"] = str(folder / "webhook_keys")
    for name, secret in secrets.items():
        (folder / name.lower()).write_text(secret + "\n")
        variables[f"{name}_FILE"] = str(folder / name.lower())
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)
    environment = {f"AVARA_GATEWAY__{name}": value for name, value in variables.items()}
    config = load(ROOT / "config/gateway.minimal.yaml", environment)
    email = config.alerting.email
    assert email is not None
    held = [
        config.avara.api_key, config.store.secret_key, config.outbound.password, config.pacs[0].dicomweb_password,
        email.password,
    ]  # fmt: skip
    assert [secret.get_secret_value() for secret in held] == list(secrets.values())
    assert not any(secret in effective(config) for secret in (*secrets.values(), KEY))


def test_the_unit_leaves_the_gateway_what_it_needs():
    unit = (ROOT / "deploy/avara-gateway.service").read_text()
    for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"):
        assert re.search(rf"^RestrictAddressFamilies=.*\b{family}\b", unit, re.MULTILINE)
    # Images are decoded by a process with limits of its own (gateway/runtime/confine.py), which needs setrlimit.
    assert "~@resources" not in unit
    # Nor may memory that is written and run be forbidden: ctypes makes some, by which that process dies with us.
    assert "MemoryDenyWriteExecute" not in unit
