"""Asks Avara's REST API about reports (docs/contract.md), where there is a key.

Answers are a stranger's: they are bounded, checked, and fields that nobody here knows are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from yarl import URL

from gateway.avara.events import Identifier, Uid
from gateway.runtime import GatewayError
from gateway.web import DIRECT, Outbound

BASE_URL = "https://api.avarasoftware.com"

MAX_ANSWER = 8_000_000
"""Bytes of an answer."""

WITHIN = 30.0
"""Seconds for a call."""

_TRY_AGAIN = frozenset({408, 409, 425, 429})

M = TypeVar("M", bound=BaseModel)


class ApiError(GatewayError):
    """Avara's API gave no answer that can be used."""


class ApiRefused(ApiError):
    """It will not answer as things are configured, or does not know what it was asked for."""


class ApiUnavailable(ApiError):
    """It was not reached, failed, or was too slow."""

    transient = True


class _ApiAnswer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True, validate_by_name=True)


Text = Annotated[str, BeforeValidator(lambda value: value if value is not None else "")]
Moment = AwareDatetime | None


class Patient(_ApiAnswer):
    """Whom Avara takes a report's patient to be (``snapshotMetadata``). Empty where it does not say."""

    patient_name: Text = ""
    mrn: Text = ""
    date_of_birth: Text = ""
    """YYYY-MM-DD."""
    facility_name: Text = ""


class Report(_ApiAnswer):
    """A report, as ``GET …/reports`` lists it."""

    report_id: Identifier
    study_id: Identifier
    is_addendum: bool
    user_id: Text = ""
    signed_at: Moment = None
    """None while it is not signed."""
    is_critical: bool | None = None
    report_plain_text: str | None = None
    snapshot_metadata: Patient = Patient()


class StudyReports(_ApiAnswer):
    """The reports of a study."""

    study_instance_uid: Uid
    reports: list[Report]


class User(_ApiAnswer):
    """Somebody who signs reports."""

    first_name: Text = ""
    last_name: Text = ""
    middle_name: Text = ""
    suffix1: Text = ""
    suffix2: Text = ""
    npi_number: Text = ""


class ReportStatus(_ApiAnswer):
    """A report of a study in a list of studies."""

    report_id: Identifier
    status: str
    """``completed`` once it is signed."""


class Study(_ApiAnswer):
    """A study, as ``GET …/studies`` lists it."""

    study_id: Identifier
    study_instance_uid: Text = ""
    updated_at: Moment = None
    report_ids: Annotated[list[ReportStatus], BeforeValidator(lambda value: value or [])] = []


class Studies(_ApiAnswer):
    """A page of studies."""

    studies: list[Study]
    cursor: str | None = None
    """Of the next page; None where this is the last."""
    has_more: bool | None = None

    @property
    def following(self) -> str | None:
        """The cursor to go on with."""
        return None if self.has_more is False else self.cursor or None


class AvaraApi:
    """One customer's way to the API."""

    def __init__(
        self,
        key: str,
        *,
        base_url: str = BASE_URL,
        ca_file: str | None = None,
        within: float = WITHIN,
        outbound: Outbound = DIRECT,
    ) -> None:
        """*ca_file* is a PEM file that replaces the public CAs; *within* is seconds. Raises OSError."""
        self._key = key
        self._base = base_url.rstrip("/")
        self._tls = outbound.tls(ca_file)
        self._outbound = outbound
        self._timeout = aiohttp.ClientTimeout(total=within)

    async def reports(self, study_id: str) -> StudyReports:
        """The reports of a study, by Avara's id of it. Raises ApiError."""
        return await self._get("reports", StudyReports, {"studyId": study_id})

    async def user(self, user_id: str) -> User:
        """Somebody who signs reports. Raises ApiError."""
        return await self._get(f"users/{quote(user_id, safe='')}", User, {})

    async def studies(self, cursor: str | None) -> Studies:
        """A page of the studies that have signed reports. Raises ApiError."""
        query = {"limit": "100", "studyReportStatus": "completed,addendum_active"}
        return await self._get("studies", Studies, query | ({"cursor": cursor} if cursor else {}))

    async def _get(self, path: str, model: type[M], query: Mapping[str, str]) -> M:
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._tls, force_close=True),
                    timeout=self._timeout,
                    trust_env=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as http,
                http.get(
                    f"{self._base}/v1/autoScribe/{path}",
                    params=query,
                    # Not of the session, whose headers a proxy is given, too.
                    headers={"Authorization": f"Bearer {self._key}", "Accept": "application/json"},
                    allow_redirects=False,
                    **self._outbound.way(self._base),
                ) as answer,
            ):
                if answer.status != 200:
                    raise _refused(answer.status)
                content = await _bounded(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            host = URL(self._base).host or ""
            raise ApiUnavailable(f"Avara's API cannot be reached: {self._outbound.why(e, host)}") from None
        try:
            return model.model_validate_json(content)
        except ValidationError:  # not quoted: it names patients
            raise ApiUnavailable("Avara's API gives an answer that cannot be read") from None


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER:
            raise ApiUnavailable(f"Avara's API gives an answer of more than {MAX_ANSWER} bytes")
    return bytes(content)


def _refused(status: int) -> ApiError:
    if status in (401, 403):
        return ApiRefused(f"Avara's API refuses our key ({status}): correct avara.api_key")
    if status == 404:
        return ApiRefused("Avara's API does not know what it was asked for (404)")
    if status in _TRY_AGAIN or status >= 500:
        return ApiUnavailable(f"Avara's API fails with {status}")
    return ApiRefused(f"Avara's API refuses to answer ({status})")
