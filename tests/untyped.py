"""What jobs of no kind in particular work with: any fields at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from gateway.journal import Payload


@dataclasses.dataclass(frozen=True, slots=True)
class Untyped(Payload):
    """As it is kept, without a form: so were all jobs before forms were counted."""

    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def lane(self) -> str:
        return str(self.fields.get("target", ""))

    @property
    def keys(self) -> tuple[str, ...]:
        key = self.fields.get("key")
        return (key,) if key else ()

    def dump(self) -> str:
        return json.dumps(self.fields)

    @classmethod
    def load(cls, kept: str) -> Self:
        return cls(json.loads(kept))
