"""The images of docker-compose.yml, made by buildah on a clean Debian, since no registry of images is asked for any.

The gateway's is built from the Dockerfile. MinIO's and Orthanc's stand in for those that the compose file names: the
same servers, an own build of MinIO and Debian's Orthanc, started as those images start them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.install.chroot import ROOT

BASE, GATEWAY, MINIO, ORTHANC = (f"localhost/avara-test-{name}" for name in ("base", "gateway", "minio", "orthanc"))
CHROOT = ("--isolation", "chroot", "--network", "host")
"""Without a daemon, and where no namespaces can be made."""


class Buildah:
    """buildah with a store of its own, in which :data:`BASE` is *base*, a Debian in a folder."""

    def __init__(self, store: Path, base: Path) -> None:
        self._store = store
        self._options = ["--root", str(store / "images"), "--runroot", str(store / "run"), "--storage-driver", "vfs"]
        made = self.run("from", "scratch")
        self.run("add", made, f"{base}/", "/")
        # Where this machine has authorities of its own, a package that comes from a registry comes by them.
        authorities = "/etc/ssl/certs/ca-certificates.crt"
        (store / "pip.conf").write_text(f"[global]\ncert = {authorities}\ntimeout = 180\n")
        self.run("copy", made, authorities, authorities)
        self.run("copy", made, str(store / "pip.conf"), "/etc/pip.conf")
        self.commit(made, BASE)

    def command(self, name: str, *arguments: str) -> list[str]:
        """What to start for *name*."""
        return ["buildah", *self._options, name, *arguments]

    def run(self, name: str, *arguments: str) -> str:
        """What it prints. Raises where it fails."""
        done = subprocess.run(
            self.command(name, *arguments), capture_output=True, text=True, timeout=3000, check=False, cwd=ROOT
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout.strip()

    def commit(self, made: str, image: str) -> None:
        """Makes *image* of the container *made*, which is gone then."""
        # OCI's own form has no health check.
        self.run("commit", "--format", "docker", "--rm", made, image)

    def export(self, image: str, name: str) -> Path:
        """*image* in a file that ``docker load`` takes, as *name*."""
        path = self._store / f"{image.rpartition('/')[2]}.tar"
        self.run("push", image, f"docker-archive:{path}:{name}")
        return path

    def remove(self) -> None:
        """Removes its containers and its images."""
        self.run("rm", "--all")
        self.run("rmi", "--all", "--force")


def build_gateway(buildah: Buildah) -> None:
    """The Dockerfile, as it stands."""
    buildah.run("build", *CHROOT, "--format", "docker", "--build-arg", f"BASE={BASE}", "-t", GATEWAY, ".")


def build_minio(buildah: Buildah, program: str) -> None:
    """MinIO's server, *program*, with a shell and curl, as a maintained build's image has them."""
    made = _installed(buildah, "curl")
    buildah.run("copy", made, program, "/usr/bin/minio")
    buildah.run("config", "--entrypoint", '["/usr/bin/minio"]', "--volume", "/data", "--port", "9000", made)
    buildah.commit(made, MINIO)


def build_orthanc(buildah: Buildah) -> None:
    """Debian's Orthanc, which reads what the compose file mounts into /etc/orthanc."""
    made = _installed(buildah, "orthanc")
    buildah.run("config", "--entrypoint", '["/usr/sbin/Orthanc", "/etc/orthanc/"]', made)
    buildah.run("run", *CHROOT, made, "--", "sh", "-c", "rm -rf /etc/orthanc && mkdir /etc/orthanc")
    buildah.commit(made, ORTHANC)


def _installed(buildah: Buildah, package: str) -> str:
    """A container of the base that has *package*, too."""
    made = buildah.run("from", BASE)
    install = f"apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {package}"
    buildah.run("run", *CHROOT, made, "--", "sh", "-c", install)
    return made
