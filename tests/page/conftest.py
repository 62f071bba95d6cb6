"""A gateway with a page, and what a browser would send it."""

from __future__ import annotations

import re

import pytest

from gateway.demo.sample import sample_study
from gateway.page import passwords
from tests.rig.ports import free_port

PASSWORD = "a quiet place to look"
HASH = passwords.make(PASSWORD)
USERS = [
    {"name": "ann", "password_hash": HASH, "role": "operator"},
    {"name": "bob", "password_hash": HASH},
]
STUDY, SAMPLE = sample_study()


class Browser:
    """One browser's cookies, on the page of one gateway."""

    def __init__(self, http, url):
        self._http, self.url = http, url
        self._cookies = {}

    async def get(self, path, **headers):
        return await self._ask("GET", path, headers)

    async def post(self, path, fields, **headers):
        return await self._ask("POST", path, headers, fields)

    async def _ask(self, method, path, headers, fields=None):
        cookie = {"Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())} if self._cookies else {}
        async with self._http.request(
            method, self.url + path, data=fields, headers=headers | cookie, allow_redirects=False
        ) as answer:
            for name, morsel in answer.cookies.items():
                self._cookies[name] = morsel.value
            self.headers = answer.headers
            self.body = await answer.read()
            return answer.status, self.body.decode("utf-8", "replace")

    async def log_in(self, name, password=PASSWORD):
        status, _ = await self.post("/login", {"name": name, "password": password})
        return status

    async def token(self, path="/"):
        """What the forms of a page send back."""
        _, text = await self.get(path)
        return re.search(r'name="token" value="([0-9a-f]+)"', text)[1]


@pytest.fixture
def open_page(start, simulator):
    """``await open_page(users=…)``: a gateway with a page, its PACS the simulator, and a browser on it."""

    async def begin(*, sections=None, **page):
        simulator.add(*(i.content for i in SAMPLE))
        port = free_port()
        gateway = await start(simulator, page={"port": port, **page}, **sections or {})
        return gateway, Browser(gateway.http, f"http://127.0.0.1:{port}")

    return begin
