"""What a job works with: one frozen dataclass for each kind of job, kept as JSON.

Jobs outlive versions of the gateway, so what is kept says by which form it was written, and every form that was ever
written stays readable: a class that changes counts :attr:`Payload.VERSION` up and says in :meth:`Payload.upgrade` what
an older form means today. Form 0 is what was written before forms were counted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from gateway.runtime import GatewayError

FORM = "form"
"""The name beside a payload's own under which its form is kept."""


class UnreadablePayload(GatewayError):
    """A job was written by a version of the gateway that this one does not understand."""


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """The base of all. Its fields are what JSON has: texts, numbers, booleans, None, lists and objects of them."""

    VERSION: ClassVar[int] = 1

    @property
    def lane(self) -> str:
        """The place that the job is for, by the operator's name for it: what waits for one never waits for another."""
        return ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The objects in the store that the job needs until it is over."""
        return ()

    @property
    def about(self) -> Mapping[str, str]:
        """What the job is about, for an operator: identifiers by what they are (``study``, ``report``, …), never
        patient data."""
        return {}

    @classmethod
    def upgrade(cls, form: int, kept: dict[str, Any]) -> dict[str, Any]:
        """The fields that *kept*, of an older form, means today."""
        return kept

    def dump(self) -> str:
        """As it is kept."""
        return json.dumps({FORM: self.VERSION} | {f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def load(cls, kept: str) -> Self:
        """Reads what was kept, in whichever form. Raises UnreadablePayload."""
        values: dict[str, Any] = json.loads(kept)
        form = values.pop(FORM, 0)
        if form > cls.VERSION:
            raise UnreadablePayload("it was written by a newer version of the gateway: install that one again")
        if form < cls.VERSION:
            values = cls.upgrade(form, values)
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except TypeError as e:
            raise UnreadablePayload(f"what it is to work with is not all there ({e}): discard it") from e
