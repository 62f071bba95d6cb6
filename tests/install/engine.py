"""A Docker engine of a test's own: its images, containers, networks and ports are in nobody's way, and gone with it.

dockerd runs in namespaces of its own (mounts, network, processes), so that the ports that docker-compose.yml publishes
are free, whatever this machine listens on, and no firewall rule of this machine's is touched. From there nothing
outside is reached: images have to be brought.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000  # sched.h


def compose_command() -> list[str] | None:
    """What this machine has of Docker Compose: the plugin, the program of its own, or neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False)
            if asked.returncode == 0:
                return command
    return None


class Engine:
    """dockerd, in *folder*. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = os.environ | {"DOCKER_HOST": f"unix://{folder}/engine.sock"}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Engine:
        script = (
            # Where it, containerd and iptables have their sockets and locks.
            "mount -t tmpfs run /run && ip link set lo up && exec dockerd"
            f" --data-root {self._folder}/data --host {self.environment['DOCKER_HOST']}"
            " --exec-opt native.cgroupdriver=cgroupfs"  # systemd's is of the machine
        )
        apart = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", *apart, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + 120
        while subprocess.run(["docker", "version"], env=self.environment, capture_output=True, check=False).returncode:
            told = (self._folder / "log").read_text()[-3000:]
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise AssertionError(f"dockerd does not start: {told}")
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            for child in children:  # the first process of its namespace: when that ends, all in it do
                os.kill(int(child), signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(60)

    def docker(self, *arguments: str) -> str:
        """What ``docker`` prints. Raises where it fails."""
        return run(["docker", *arguments], self.environment)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Inside, this thread is where the engine publishes its ports: on the loopback of its own network."""
        assert self._process is not None
        libc = ctypes.CDLL(None, use_errno=True)
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self._process.pid}/ns/net", os.O_RDONLY)
        try:
            assert libc.setns(there, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert libc.setns(own, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            os.close(own)
            os.close(there)


class Project:
    """What a compose file in *folder* describes, by Docker Compose itself."""

    def __init__(self, engine: Engine, folder: Path, variables: dict[str, str]) -> None:
        self._engine, self._folder = engine, folder
        self._environment = engine.environment | variables

    def compose(self, *arguments: str) -> str:
        """What ``docker compose`` prints. Raises where it fails."""
        command = compose_command()
        assert command is not None
        return run([*command, *arguments], self._environment, self._folder)

    def container(self, service: str) -> dict[str, Any]:
        """What the engine tells of a service's container."""
        name = self.compose("ps", "-a", "-q", service).split()[0]
        told: dict[str, Any] = json.loads(self._engine.docker("inspect", name))[0]
        return told

    def healthy(self, *services: str, within: float = 300) -> None:
        """Waits until the services are healthy by their own health checks. Raises after *within* seconds."""
        until = time.monotonic() + within
        for service in services:
            while (health := self.container(service)["State"].get("Health", {})).get("Status") != "healthy":
                assert time.monotonic() < until, f"{service}: {health}\n{self.compose('logs', service)[-3000:]}"
                time.sleep(1)


def run(command: list[str], environment: dict[str, str], folder: Path | None = None) -> str:
    """What *command* prints. Raises where it fails."""
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
    return done.stdout
