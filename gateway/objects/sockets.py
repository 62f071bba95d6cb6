"""The sockets that SeaweedFS makes in ``/tmp``, by its ports: no option puts them elsewhere, and when it is killed it
leaves them there. Which ports it had is kept beside its data, so that they go at the next start at the latest.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

FOLDER = Path("/tmp")  # noqa: S108  (its choice, not ours)

_ADMIN_ABOVE = 10_000
"""How far its admin server's gRPC port lies above its own."""

CONNECT_WITHIN = 1.0
"""Seconds; a connection on one machine is taken or refused at once."""


class Sockets:
    """Those of the embedded store in one directory."""

    def __init__(self, record: Path, folder: Path = FOLDER) -> None:
        """*record* is the file in which the ports are kept."""
        self._record = record
        self._folder = folder

    def note(self, ports: Mapping[str, int]) -> None:
        """It is about to be started with *ports*, by the names of its options. Raises OSError."""
        self._record.touch(mode=0o600)
        self._record.chmod(0o600)
        self._record.write_text(json.dumps(dict(ports)))

    def clean(self) -> None:
        """Removes what one that has ended left behind: what is ours, and what nobody listens at. To be called while
        none runs."""
        try:
            ports: dict[str, int] = json.loads(self._record.read_text())
            for name, port in ports.items():
                server, _, kind = name.partition(".")
                if kind == "port.grpc":
                    self._remove(server, int(port))
            if "admin.port" in ports:
                self._remove("admin", int(ports["admin.port"]) + _ADMIN_ABOVE)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, AttributeError) as e:
            log.debug("sockets that the embedded store left in %s are not removed: %s", self._folder, e)

    def _remove(self, server: str, port: int) -> None:
        path = self._folder / f"seaweedfs-{server}-grpc-{port}.sock"
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and not _is_listened_at(path):
            path.unlink(missing_ok=True)


def _is_listened_at(path: Path) -> bool:
    """Whether somebody is there: its port may be another store's by now."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_WITHIN)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True
