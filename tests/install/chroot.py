"""A clean Debian in a folder, in which what a newcomer does is done: made by debootstrap, entered by chroot."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig.ports import free_port

ROOT = Path(__file__).parent.parent.parent
UNITS = ("etc/systemd/system/avara-gateway.service", "lib/systemd/system/avara-gateway.service")


def make_base(base: Path, *packages: str) -> None:
    """A minimal Debian of this machine's own release, from its own mirror, with Python, and *packages*. Takes a minute
    or more."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    new = base.with_name(f"{base.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(('python3', 'ca-certificates', *packages))}",
        release["VERSION_CODENAME"],
        str(new),
    ]
    subprocess.run([*command, *_mirror()], check=True, timeout=1500, stdout=subprocess.DEVNULL)
    new.rename(base)


def _mirror() -> list[str]:
    for file in sorted(Path("/etc/apt").glob("sources.list*")) + sorted(
        Path("/etc/apt/sources.list.d").glob("*.sources")
    ):
        if file.is_file():
            for line in file.read_text().splitlines():
                words = line.split()
                if words[:1] == ["URIs:"] or (words[:1] == ["deb"] and "main" in words):
                    found = [w for w in words if w.startswith("http")]
                    if found and "debian" in found[0]:
                        return found[:1]
    return []


class Machine:
    """A Debian of one's own, in a folder."""

    def __init__(self, base: Path, root: Path) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True, timeout=600)
        self.root = root
        (root / "etc/apt/apt.conf.d/90answers").write_text(
            'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n'
        )
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        # Where this machine has authorities of its own, a package that comes from a registry comes by them.
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")

    def file(self, path: str) -> Path:
        """A file of it, as this machine sees it."""
        return self.root / path.lstrip("/")

    def run(
        self,
        command: str,
        *,
        said: str = "",
        network: bool = True,
        folder: str = "/",
        environment: dict[str, str] | None = None,
        ok: bool = True,
        timeout: float = 1300,
    ) -> str:
        """Runs *command* in it as root, with *said* typed in; what it prints. Raises where it fails and must not."""
        done = subprocess.run(
            self._inside(command, folder, network=network),
            input=said, env=self._environment(environment),
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        told = done.stdout + done.stderr
        assert not ok or done.returncode == 0, f"{command} ended with {done.returncode}:\n{told[-3000:]}"
        return told

    def _inside(self, command: str, folder: str, *, network: bool) -> list[str]:
        inside = shlex.quote(f"cd {folder} && {command}")
        script = f"mount -t proc proc {self.root}/proc && exec chroot {self.root} sh -c {inside}"
        apart = ["--mount", "--pid", "--fork", "--kill-child"] + ([] if network else ["--net"])
        return ["unshare", *apart, "sh", "-c", script]

    @staticmethod
    def _environment(more: dict[str, str] | None) -> dict[str, str]:
        plain = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        kept = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        return plain | kept | {"DEBIAN_FRONTEND": "noninteractive"} | (more or {})

    @contextmanager
    def service(self, ports: dict[str, int]) -> Iterator[None]:
        """The unit's service, started as systemd would: its user, command, credential and state directory."""
        [path] = [self.file(unit) for unit in UNITS if self.file(unit).exists()]
        checked = subprocess.run(
            ["systemd-analyze", f"--root={self.root}", "verify", "--man=no", path.name],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        # A Debian without systemd lacks the targets that every unit hangs on; all else that is wrong with it counts.
        wrong = [line for line in checked.stderr.splitlines() if "Unit sysinit.target not found" not in line]
        assert wrong == [], checked.stderr
        unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        unit.optionxform = str  # type: ignore[method-assign,assignment]
        unit.read(path)
        service = unit["Service"]
        user, state = service["User"], f"/var/lib/{service['StateDirectory']}"
        name, source = service["LoadCredential"].split(":")
        key, value = service["Environment"].split("=")
        credentials = "/run/credentials"
        self.run(
            f"install -d -m 0700 -o {user} -g {user} {state} {credentials}"
            f" && install -m 0400 -o {user} -g {user} {source} {credentials}/{name}"
        )
        environment = {key: value.replace("%d", credentials), "HOME": state} | self.environment(ports)
        log = self.file("/run/service.log").open("wb")
        inside = self._inside(
            f"exec setpriv --reuid={user} --regid={user} --clear-groups {service['ExecStart']}", "/", network=True
        )
        started = subprocess.Popen(
            inside, stdout=log, stderr=log, env=self._environment(environment), start_new_session=True
        )
        try:
            self._wait(started, ports["http"])
            yield
        finally:
            # All of it: who changes its user is not killed with its parent any more (prctl(2), PR_SET_PDEATHSIG).
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(60)
            log.close()

    @staticmethod
    def ports() -> dict[str, int]:
        """Ports that are free now: this machine's are shared."""
        return {"http": free_port(), "dicom": free_port()}

    @staticmethod
    def environment(ports: dict[str, int]) -> dict[str, str]:
        """What has the gateway use *ports*, and look for the PACS's instances on this machine only."""
        return {
            "AVARA_GATEWAY__HTTP__PORT": str(ports["http"]),
            "AVARA_GATEWAY__DICOM__PORT": str(ports["dicom"]),
            "AVARA_GATEWAY__DICOM__ADVERTISED_HOST": "127.0.0.1",
        }

    def _wait(self, started: subprocess.Popen[bytes], port: int) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert started.poll() is None, self.file("/run/service.log").read_text()[-3000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(self.file("/run/service.log").read_text()[-3000:])
