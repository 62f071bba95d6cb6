"""A decision point of the hospital's: asked by HTTP whether a study may be given, for rules that only it can know.

It is asked by POST, with JSON, and answers ``{"allow": true}`` or ``{"allow": false, "rule": "…"}``. Whatever else it
does is a failure, and ``on_failure`` says what that means.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from gateway.access.rules import Facts, Purpose, Verdict
from gateway.runtime import GatewayError, Seldom, printable
from gateway.web import DIRECT, Outbound

log = logging.getLogger(__name__)

MAX_ANSWER = 64 * 1024
"""Bytes."""

AT_ONCE = 16
"""Questions that are open; who finds them taken waits, within the same time."""

RULE = "access.decision"


class DecisionFailed(GatewayError):
    """The decision point gave no decision."""

    transient = True


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is and how it is asked."""

    url: str
    token: str = ""
    """A bearer token (RFC 6750); empty where it wants none."""
    ca_file: str | None = None
    within: float = 2.0
    """Seconds for a decision, all included."""
    allow_on_failure: bool = False


class DecisionPoint:
    """Asks it. The URL is the operator's own, and may lie inside the hospital; redirects are not followed."""

    def __init__(self, place: Place, outbound: Outbound = DIRECT) -> None:
        """Raises ValueError for a URL that is none, OSError for an unreadable CA file."""
        self._place = place
        self._url = URL(place.url)
        if self._url.scheme not in ("http", "https") or not self._url.host or self._url.user is not None:
            raise ValueError("access.decision.url is no URL: write https://host/path, without a user name")
        self._outbound = outbound
        self._tls = outbound.tls(place.ca_file)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._told = Seldom(log)
        self.trouble = ""
        """Why the latest question was not answered, for the operator; empty where it was."""

    async def decide(self, facts: Facts, purpose: Purpose, event: str, *, within: float) -> tuple[Verdict, bool]:
        """Its verdict, and whether it is its own and none of ``on_failure``; after *within* seconds at most."""
        question = {
            "purpose": purpose.value,
            "event": event,
            "studyInstanceUid": facts.study_instance_uid,
            "pacs": sorted(facts.pacs),
            "modalities": sorted(facts.modalities),
            "studyDate": facts.study_date,
            "accessionNumber": facts.accession_number,
            "institution": facts.institution,
        }
        try:
            allowed, rule = await self._ask({k: v for k, v in question.items() if v}, within)
        except DecisionFailed as e:
            self.trouble = str(e)
            self._told.warning("%s", e)
            return Verdict(self._place.allow_on_failure, f"{RULE} (failed)"), False
        self.trouble = ""
        return Verdict(allowed, f"{RULE}: {rule}" if rule and not allowed else RULE), True

    async def check(self) -> None:
        """Asks about no study (``purpose: check``): any decision will do. Raises DecisionFailed."""
        await self._ask({"purpose": "check"}, self._place.within)
        self.trouble = ""

    async def _ask(self, question: Mapping[str, Any], within: float) -> tuple[bool, str]:
        where = f"the access decision point {self._url.host}"
        try:
            async with asyncio.timeout(min(within, self._place.within)), self._turns:
                status, content = await self._post(json.dumps(question).encode())
        except TimeoutError:
            raise DecisionFailed(f"{where} does not answer within {self._place.within:g} s: is it up?") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise DecisionFailed(f"{where} cannot be asked: {self._outbound.why(e, self._url.host or '')}") from None
        if status in (401, 403, 407):
            raise DecisionFailed(f"{where} refuses us ({status}): correct access.decision.token_file")
        if status != 200:
            raise DecisionFailed(f"{where} answers {status}: access.decision.url has to be where it decides")
        try:
            verdict = json.loads(content)
        except ValueError:
            verdict = None
        if not isinstance(verdict, dict) or not isinstance(verdict.get("allow"), bool):
            raise DecisionFailed(
                f'{where} gives an answer that cannot be read: it has to be {{"allow": true}} or false'
            )
        rule = verdict.get("rule")
        # It is the hospital's own word for the record, and only that: no place for a page of text.
        return verdict["allow"], printable.printable(rule[:64]) if isinstance(rule, str) else ""

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._place.token:
            headers["Authorization"] = f"Bearer {self._place.token}"
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, force_close=True),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as http,
            http.post(
                self._url, data=body, headers=headers, allow_redirects=False, **self._outbound.way(self._url)
            ) as answer,
        ):
            content = bytearray()
            async for chunk in answer.content.iter_any():
                content += chunk
                if len(content) > MAX_ANSWER:
                    raise ValueError("too long")
            return answer.status, bytes(content)
