"""The embedded store: SeaweedFS as a child process, for a hospital that has no S3 of its own.

The command line is the one that was tried (docs/object-store.md): loopback only, no unauthenticated
HTTP on the master, JWT keys for the volume and filer servers, mutual TLS between its parts, no admin interface, no
telemetry. The child dies with the gateway, whatever kills that, and is started again when it dies alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from gateway.objects.errors import StoreError, StoreUnavailable
from gateway.objects.lock import StoreLock
from gateway.objects.ports import free_ports
from gateway.objects.sigv4 import Credentials
from gateway.objects.sockets import Sockets
from gateway.runtime import Limits, run_confined

log = logging.getLogger(__name__)

READY_WITHIN = 60.0
"""Seconds; it takes about one, and more on a busy disk with much data."""

STOP_WITHIN = 15.0
"""Seconds from SIGTERM to SIGKILL; it takes 3 to 5 and can hang when the disk is full."""

STARTING_UP = 10.0
"""Seconds after its start in which a SIGTERM leaves it hanging for good. It is killed sooner then: what it has
acknowledged survives that as well (tried in ten rounds, docs/object-store.md)."""

LOG_LIMIT = 10 * 1024 * 1024
"""Bytes of its log that are kept from one start to the next."""

_GRPC_TLS = Path(__file__).with_name("grpc_tls.py")
_GRPC_TLS_LIMITS = Limits(memory=512 * 1024 * 1024, cpu=30, file_size=64 * 1024, within=60.0)

_JWT_KEYS = (
    "WEED_JWT_SIGNING_KEY", "WEED_JWT_SIGNING_READ_KEY", "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)  # fmt: skip


class EmbeddedStore:
    """Runs the embedded store in *directory*; :attr:`credentials` are valid once prepared, :attr:`endpoint` once
    started."""

    region = "us-east-1"

    def __init__(self, directory: Path, *, bucket: str, allowed_origins: Sequence[str] = ("*",)) -> None:
        self._directory = directory.absolute()
        self._bucket = bucket
        self._allowed_origins = allowed_origins
        self._lock = StoreLock(self._directory / "lock")
        self._sockets = Sockets(self._directory / "ports.json")
        self._process: asyncio.subprocess.Process | None = None
        self._secrets: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self._launched = 0.0

    @property
    def endpoint(self) -> str:
        """``host:port`` of its S3 API, on loopback."""
        return f"127.0.0.1:{self._ports['s3.port']}"

    @property
    def credentials(self) -> Credentials:
        """What it lets in; made at random at the first start and kept in its directory."""
        return Credentials(self._secrets["access_key"], self._secrets["secret_key"])

    def prepare(self) -> None:
        """Makes its directory and reads its secrets, or makes them. Raises StoreError, which names the fix."""
        try:
            for folder in (self._directory, self._directory / "tmp"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            self._secrets = _kept_secrets(self._directory / "secrets.json")
        except OSError as e:
            raise self._unusable(e) from e

    async def start(self) -> None:
        """Starts it and waits until it serves. Raises StoreError, which names the fix."""
        self.prepare()
        try:
            await self._lock.take()
            await self._write_security()
            try:
                await self._launch()
            except StoreUnavailable:
                # Once more, on other ports: one of those that were free may have been taken meanwhile.
                self._ports = {}
                await self._launch()
        except OSError as e:
            self._lock.release()
            raise self._unusable(e) from e
        except BaseException:
            self._lock.release()
            raise

    async def _write_security(self) -> None:
        try:
            ended = await run_confined(_GRPC_TLS, str(self._directory), limits=_GRPC_TLS_LIMITS)
        except TimeoutError as e:
            raise StoreUnavailable("the certificates of the embedded store could not be made in time") from e
        if ended.printed:
            raise OSError(ended.returncode, ended.printed.decode())
        if ended.returncode:
            raise StoreUnavailable(
                f"the certificates of the embedded store could not be made: their process ended with {ended.returncode}"
            )

    def _unusable(self, e: OSError) -> StoreError:
        return StoreError(f"the embedded store cannot use {self._directory}: {e.strerror}: make it ours")

    async def keep_running(self) -> None:
        """Waits for it to end by itself, and starts it again at the next call. Raises StoreError when it has ended, or
        does not start: to be supervised, which brings the pauses."""
        assert self._process is not None, "it was started"
        if self._process.returncode is not None:
            await self._launch()
            log.warning("the embedded store runs again")
        code = await self._process.wait()
        raise StoreUnavailable(f"the embedded store ended by itself with code {code}: see {self._log_file}")

    async def stop(self) -> None:
        """Stops it; what it has acknowledged is on its disk."""
        try:
            await self._terminate()
            self._sockets.clean()
        finally:
            self._lock.release()

    @property
    def _log_file(self) -> Path:
        return self._directory / "store.log"

    async def _terminate(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        young = asyncio.get_running_loop().time() - self._launched < STARTING_UP
        try:
            async with asyncio.timeout(STOP_WITHIN / 5 if young else STOP_WITHIN):
                await process.wait()
        except asyncio.CancelledError:
            process.kill()  # whoever stops it has no more time
            raise
        except TimeoutError:
            log.log(
                logging.DEBUG if young else logging.WARNING, "the embedded store did not stop in time and was killed"
            )
            process.kill()
            await process.wait()

    async def _launch(self) -> None:
        program = _program()
        # It re-applies what it finds here, silently, over its command line.
        (self._directory / "mini.options").unlink(missing_ok=True)
        self._sockets.clean()
        self._ports = free_ports(self._ports)
        self._sockets.note(self._ports)
        log_file = self._log_file
        if log_file.exists() and log_file.stat().st_size > LOG_LIMIT:
            log_file.replace(log_file.with_suffix(".log.1"))
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory / "tmp"),
            "GOMEMLIMIT": "384MiB",
            "AWS_ACCESS_KEY_ID": self._secrets["access_key"],
            "AWS_SECRET_ACCESS_KEY": self._secrets["secret_key"],
            **{name: self._secrets[name] for name in _JWT_KEYS},
        }
        with log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                program, "mini", *self._arguments(),
                cwd=self._directory, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=_child_setup(os.getpid()), pass_fds=(self._lock.descriptor,),
            )  # fmt: skip
        self._lock.held_by(self._process.pid)
        self._launched = asyncio.get_running_loop().time()
        try:
            await self._until_ready(self._process)
        except BaseException:
            await self._terminate()
            raise

    def _arguments(self) -> list[str]:
        # The sockets are named relative to its working directory, since a socket's path has 107 bytes at most.
        return [
            f"-dir={self._directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-disableHttp", "-admin.ui=false",
            "-webdav=false", "-master.telemetry=false", *(f"-{name}={port}" for name, port in self._ports.items()),
            f"-admin.port.grpc={self._ports['admin.port'] + 10000}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock", "-volume.max=0",
            "-master.volumeSizeLimitMB=256", "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
            f"-s3.allowedOrigins={','.join(self._allowed_origins)}", f"-bucket={self._bucket}",
        ]  # fmt: skip

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        base = f"http://{self.endpoint}"
        see = f"see {self._log_file}"
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            try:
                async with asyncio.timeout(READY_WITHIN):
                    while not await _answers(http, f"{base}/status"):
                        if process.returncode is not None:
                            raise StoreUnavailable(f"the embedded store ended with code {process.returncode}: {see}")
                        await asyncio.sleep(0.05)
            except TimeoutError as e:
                raise StoreUnavailable(f"the embedded store is not ready after {READY_WITHIN:g} s: {see}") from e
            # Without credentials it would be wide open, and would not say so.
            async with http.get(f"{base}/{self._bucket}") as answer:
                if answer.status != 403:
                    raise StoreError(f"the embedded store lets anonymous requests in ({answer.status}): not used")


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _program() -> str:
    """The server's binary: the package puts it beside the interpreter, or it is on PATH."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise StoreError(
            "the embedded store is not installed (its package is for Linux on x86-64): "
            "configure an S3 store under `store:` in the configuration file"
        )
    return found


def _kept_secrets(path: Path) -> dict[str, str]:
    wanted = ("access_key", "secret_key", *_JWT_KEYS)
    with contextlib.suppress(FileNotFoundError):
        kept: dict[str, Any] = json.loads(path.read_text())
        if all(isinstance(kept.get(name), str) and kept[name] for name in wanted):
            return {name: kept[name] for name in wanted}
    made = {name: secrets.token_hex(32) for name in wanted} | {"access_key": secrets.token_hex(10)}
    descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(made, file)
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".new").replace(path)
    return made


_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
"""Looked up here, since between fork and exec a lookup could wait for ever for a lock that another thread held."""

_PR_SET_PDEATHSIG = 1  # prctl(2)


def _child_setup(parent: int) -> Callable[[], None]:
    def setup() -> None:
        os.umask(0o077)
        if _PRCTL is not None:
            # It never outlives the gateway, whatever kills that. By SIGKILL: what it has acknowledged survives that,
            # and on SIGTERM it was seen to live on for 28 s.
            _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # which ended before we said so
                os._exit(1)

    return setup
