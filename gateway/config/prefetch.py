"""Prefetch: which studies are fetched before anybody opens them, and what that may cost (docs/prefetch.md)."""

from __future__ import annotations

import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.base import Section, one_or_more
from gateway.config.values import Duration, Size
from gateway.config.windows import window


def _modality(value: str) -> str:
    code = value.strip().upper()
    if not 1 <= len(code) <= 16 or not code.replace("_", "").isalnum() or not code.isascii():
        raise ValueError("not a modality: write it like CT, MR or US (PS3.3 C.7.3.1.1.1)")
    return code


def _pattern(value: str) -> str:
    if not value.strip():
        raise ValueError("an empty pattern fits nothing: leave the key out to let everything fit")
    return value.strip()


def _time_zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("not a time zone that this machine knows: write it like Europe/Berlin") from None
    return value


Patterns = Annotated[list[Annotated[str, AfterValidator(_pattern)]], BeforeValidator(one_or_more)]


class PrefetchRule(Section):
    """Which studies it fits: those for which all that it names is so."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="Your name for it; `trace` shows which rule brought a study."
    )
    modality: Annotated[list[Annotated[str, AfterValidator(_modality)]], BeforeValidator(one_or_more)] = Field(
        [], description="Modalities of which the study has one. Left out: any."
    )
    station: Patterns = Field(
        [], description="Station names or AE titles of which a series has one; `*` and `?` stand for any letters."
    )
    institution: Patterns = Field([], description="Institution names, in the same way.")
    description: Patterns = Field([], description="Study descriptions, in the same way, in upper or lower case.")
    max_age: Duration | None = Field(None, description="How old the study may be, by its date. Left out: any age.")
    fetch: bool = Field(True, description="`false`: what it fits is not fetched, nor as a prior of another study.")


class PrefetchConfig(Section):
    """Studies that are fetched before anybody opens them, always below what somebody waits for."""

    enabled: bool = Field(
        False, description="Whether it is done at all. On, and nothing else said: new studies, and two priors of each."
    )
    rules: list[PrefetchRule] = Field(
        [], description="The first that fits a new study decides; one that none fits is not fetched. None: every study."
    )
    poll: bool = Field(True, description="Whether the PACS are asked for new studies, by C-FIND or QIDO-RS.")
    poll_every: Annotated[Duration, Field(ge=5)] = Field(
        30.0, description="How often, while new ones come; less often by and by while none do."
    )
    poll_at_least_every: Annotated[Duration, Field(ge=5, le=86400)] = Field(600.0, description="How often even then.")
    look_back: Annotated[Duration, Field(ge=600, le=7 * 86400)] = Field(
        86400.0, description="Up to which age, by its date and time, a study is looked for."
    )
    priors: Annotated[int, Field(ge=0, le=20)] = Field(
        2,
        description="Earlier studies of the same patient that are fetched with one that is opened or prefetched: of "
        "the same modality or body part, the newest first.",
    )
    priors_max_age: Annotated[Duration, Field(ge=86400)] = Field(
        5 * 365 * 86400.0, description="How old, by its date, such a study may be."
    )
    max_bytes: Size = Field(100_000_000_000, description="Most that is prefetched in 24 hours, from all PACS together.")
    cache_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Part of `cache.max_size` that studies which nobody has opened yet may take."
    )
    time_zone: Annotated[str, AfterValidator(_time_zone)] | None = Field(
        None,
        description="In which the PACS write dates and times, and `pacs[].prefetch.windows` are. Left out: this "
        "machine's.",
    )


class PacsPrefetchConfig(Section):
    """What prefetch may ask of this PACS."""

    enabled: bool = Field(True, description="Whether anything is prefetched from it.")
    windows: Annotated[list[Annotated[str, AfterValidator(window)]], BeforeValidator(one_or_more)] = Field(
        [],
        description="When: `19:00-06:30`, `Sat,Sun 00:00-24:00`. At other times it is left alone, but for what "
        "somebody opens. Left out: at any time.",
    )
    studies_per_hour: Annotated[int, Field(ge=1, le=10_000)] = Field(
        120, description="Studies that are prefetched from it in an hour, at most."
    )
