"""Gateways that kill themselves at a chosen step, as ``kill -9`` would, and are started again."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys

import aiohttp

from gateway.avara.signature import sign
from gateway.journal import Jobs, Journal
from tests.conftest import KEY, describe
from tests.rig.journal import with_journal
from tests.rig.ports import free_port

_DIES_AT = """
import asyncio, importlib, os, signal, sys
from pathlib import Path
from gateway import app
from gateway.admin.logs import set_up_logging
from gateway.config import load

module, _, place = sys.argv[2].partition(":")
name, method = place.split(".")
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(getattr(importlib.import_module(module), name), method, die)
set_up_logging("info", "text")
asyncio.run(app.serve(load(Path(sys.argv[1]), {})))
"""


class Mortal:
    """A gateway in a process of its own, on one state that outlives it. An async context manager."""

    def __init__(self, pacs, weed, directory, **sections):
        self.port, dicom_port = free_port(), free_port()
        pacs.destinations["AVARAGW"] = ("127.0.0.1", dicom_port)
        self.bucket = f"kills-{secrets.token_hex(4)}"
        self._weed = weed
        self.state_dir = with_journal(directory / "state")
        document = {
            "http": {"port": self.port}, "avara": {"webhook_keys": [KEY]},
            "dicom": {"host": "127.0.0.1", "port": dicom_port}, "pacs": [describe(pacs)],
            "store": {
                "endpoint": weed.endpoint, "access_key": weed.credentials.access_key,
                "secret_key": weed.credentials.secret_key, "secure": False, "bucket": self.bucket,
            },
            "state_dir": str(self.state_dir), **sections,
        }  # fmt: skip
        self._config = directory / "gateway.yaml"
        self._config.write_text(json.dumps(document))
        self._processes = []

    async def __aenter__(self):
        self.http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_):
        await self.http.close()
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def start(self, dies_at=None):
        """Starts it; *dies_at* is ``module:Class.method``, at whose first call it dies. Its process."""
        serve = ["-m", "gateway", "serve", "-c", self._config]
        arguments = serve if dies_at is None else ["-c", _DIES_AT, self._config, dies_at]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *map(str, arguments), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        self._processes.append(process)
        async with asyncio.timeout(30):
            async for line in process.stderr:
                if b"serving:" in line:
                    return process
        raise AssertionError("the gateway did not start")

    async def post(self, kind, data, webhook_id="msg_1"):
        """The answer to an event."""
        body = json.dumps({"id": "whe_1", "type": kind, "data": data}).encode()
        url = f"http://127.0.0.1:{self.port}/webhooks/avara"
        async with self.http.post(url, data=body, headers=sign(KEY, webhook_id, body)) as answer:
            return await answer.json()

    async def over(self, kinds, prefixes):
        """Waits until every job is done, of which there is one of each of *kinds*, and nothing is left in the store."""
        journal = await Journal.open(f"sqlite:///{self.state_dir}/journal.db")
        try:
            async with asyncio.timeout(30):
                while True:
                    jobs = await Jobs(journal).list()
                    if {j.kind for j in jobs} == set(kinds) and {j.state.value for j in jobs} == {"done"}:
                        break
                    await asyncio.sleep(0.1)
                async with self._weed.store(self.bucket) as store:
                    while [o for prefix in prefixes async for o in store.list(prefix)]:
                        await asyncio.sleep(0.1)
        finally:
            await journal.close()


async def ends_well(process):
    """Whether a gateway ends cleanly when it is asked to."""
    process.terminate()
    return await asyncio.wait_for(process.wait(), 15) == 0
