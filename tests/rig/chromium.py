"""Headless Chromium, driven by its DevTools protocol: a page as a browser has it, and its pixels."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

WITHIN = 30.0


class Tab:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, within: float = WITHIN, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(within):
            while True:
                said = await self._next()
                if said.get("id") == self._number:
                    assert "error" not in said, said
                    return said["result"]  # type: ignore[no-any-return]

    async def _next(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((await self._socket.receive()).data)
        if "method" in said:
            self.events.append(said)
        return said

    async def open(self, url: str) -> None:
        self.events.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(WITHIN):
            while not any(e["method"] == "Page.loadEventFired" for e in self.events):
                await self._next()

    async def run(self, script: str, within: float = WITHIN) -> Any:
        """What an expression (or a promise) is in the page, *within* so many seconds."""
        said = await self.call("Runtime.evaluate", within, expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, script: str) -> None:
        """Waits until an expression is true; between two pages, what it looks at may not be there yet."""
        script = f"(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()"
        async with asyncio.timeout(WITHIN):
            while not await self.run(script):
                await asyncio.sleep(0.1)

    async def press(self, key: str, code: int = 0) -> None:
        what = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **what, text="\r" if key == "Enter" else "")
        await self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    async def look(self, *, width: int, height: int, dark: bool = False, phone: bool = False, scale: float = 1) -> None:
        """The size of its window, and light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=scheme)

    async def screenshot(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        picture = base64.b64decode(
            (await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole))["data"]
        )
        if path is not None:
            path.write_bytes(picture)
        return picture

    @property
    def complaints(self) -> list[str]:
        """What the browser's console said against the page: what its policy forbids, and errors of scripts."""
        told = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        return told + [str(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]


def program() -> str | None:
    """Chromium, where there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Tab]:
    """A tab of a Chromium of its own, which ends with it."""
    found = program()
    assert found, "chromium is installed by `make test`"
    process = await asyncio.create_subprocess_exec(
        found, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN):
            told = profile / "DevToolsActivePort"
            while not (told.exists() and "\n" in told.read_text()):
                await asyncio.sleep(0.1)
            port = told.read_text().split("\n")[0]
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                targets = [t for t in await answer.json() if t["type"] == "page"]
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(targets[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket,
        ):
            tab = Tab(socket)
            for domain in ("Page", "Runtime", "Log"):
                await tab.call(f"{domain}.enable")
            yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
