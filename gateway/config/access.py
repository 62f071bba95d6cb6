"""The configuration of the access policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from gateway.config.base import Name, Section, bearer_token, is_loopback
from gateway.config.values import Duration


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("not a URL: write it like https://policy.hospital.example/decide")
    if parts.username is not None:
        raise ValueError("a password does not belong in a URL: use token_file")
    return value


def _digits(value: object) -> object:
    # An identifier of digits only is a number to YAML; with zeros before it, it has to be written in quotes.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _modality(value: str) -> str:
    code = value.strip().upper()
    if not 1 <= len(code) <= 16 or not all(c.isalnum() or c in " _" for c in code):
        raise ValueError("not a modality: write it like CT (PS3.3 C.7.3.1.1.1)")
    return code


Identifier = Annotated[str, BeforeValidator(_digits), Field(min_length=1, max_length=64)]
Modality = Annotated[str, AfterValidator(_modality)]


class AccessDecisionConfig(Section):
    """A decision point of the hospital's: asked by HTTP whether a study may be given."""

    url: Annotated[str, AfterValidator(_url)] = Field(description="Where it is asked, by POST.")
    token: Annotated[SecretStr, AfterValidator(bearer_token)] | None = Field(
        None, description="Sent as `Authorization: Bearer`."
    )
    token_file: Path | None = Field(None, description="File with the token.")
    ca_file: Path | None = Field(None, description="PEM file with the authority of its certificate.")
    within: Annotated[Duration, Field(ge=0.1, le=30)] = Field(
        2.0, description="How long it has for a decision; half of `avara.answer_within` at most."
    )
    on_failure: Literal["deny", "allow"] = Field(
        "deny", description="What holds where it cannot be asked, or gives no decision."
    )
    keep: Annotated[Duration, Field(ge=1, le=60)] = Field(
        30.0, description="For how long a decision holds; a URL of the gateway's own dies within it."
    )


class AccessConfig(Section):
    """Which studies Avara may have, of all that the PACS give the gateway. Without any of these: all. A rule that wants
    to know what no PACS says of a study forbids it."""

    pacs: list[Name] = Field([], description="Names of the PACS whose studies may be given; left out: of all.")
    modalities: list[Modality] = Field(
        [],
        description="Modalities that may be given; every one of a study must be listed, but for PR, KO, SR and DOC. "
        "Left out: all.",
    )
    deny_modalities: list[Modality] = Field([], description="Modalities of which a study may have none.")
    max_age: Annotated[Duration, Field(ge=86400)] | None = Field(
        None, description="Greatest age of a study, by its Study Date; left out: any."
    )
    institutions: list[Identifier] = Field(
        [], description="Institution Names (0008,0080) whose studies may be given; left out: all."
    )
    deny_institutions: list[Identifier] = Field([], description="Institution Names whose studies may not be given.")
    deny_patients: list[Identifier] = Field([], description="Patient IDs whose studies may not be given.")
    deny_patients_file: Path | None = Field(
        None, description="File with further ones, one a line; read again when it changes."
    )
    deny_accessions: list[Identifier] = Field([], description="Accession Numbers whose studies may not be given.")
    deny_accessions_file: Path | None = Field(
        None, description="File with further ones, one a line; read again when it changes."
    )
    released_only: bool = Field(False, description="Whether only studies are given that the PACS says are released.")
    released_by: Literal["sop_instance_status", "study_status", "verification_flag"] = Field(
        "sop_instance_status",
        description="By which attribute it says so, asked for with the study: SOP Instance Status (0100,0410), which "
        "has to be AO or AC; Study Status ID (0032,000A), VERIFIED or READ; Verification Flag (0040,A493), VERIFIED.",
    )
    decision: AccessDecisionConfig | None = None

    @property
    def wants_institution(self) -> bool:
        """Whether the PACS are asked for it."""
        return bool(self.institutions or self.deny_institutions or self.decision)

    @model_validator(mode="after")
    def _can_hold(self) -> AccessConfig:
        both = set(self.modalities) & set(self.deny_modalities)
        if both:
            raise ValueError(f"modalities and deny_modalities both have {', '.join(sorted(both))}: leave one out")
        return self

    def warnings(self) -> list[str]:
        """What is allowed and unwise."""
        found = []
        if self.decision is not None:
            url = urlsplit(self.decision.url)
            if url.scheme == "http" and not is_loopback(url.hostname or ""):
                found.append(
                    "access.decision.url is http: whoever is on the wire can decide, and sees identifiers: use https"
                )
            if self.decision.on_failure == "allow":
                found.append("access.decision.on_failure is allow: while it fails, its rules hold for nothing")
        return found
