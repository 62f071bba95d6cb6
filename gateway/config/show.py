"""Shows the configuration: as it is in effect, as a JSON schema, as a reference."""

from __future__ import annotations

import io
from typing import Any

from pydantic import BaseModel, SecretStr
from ruamel.yaml import YAML

from gateway.config.models import Config
from gateway.config.values import SecretPathUrl, show_duration, show_size
from gateway.config.wording import models_in

MASK = "********"


def effective(config: Config) -> str:
    """The configuration as it is in effect, in YAML, secrets masked."""
    yaml = YAML()
    yaml.default_flow_style = False
    out = io.StringIO()
    yaml.dump(_masked(config.model_dump(mode="python", exclude_none=True)), out)
    return out.getvalue()


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, SecretPathUrl):
        return value.shown()
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    return Config.model_json_schema()


def reference() -> str:
    """Every key with its default and meaning, in Markdown."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    rows += _rows(Config, "")
    return "\n".join(rows) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        nested = models_in(field.annotation)
        many = "list" in str(field.annotation) and bool(nested)
        key = f"{prefix}{name}{'[]' if many else ''}"
        if not nested or field.description:
            rows.append(f"| `{key}` | {_default(field)} | {field.description or ''} |")
        for section in nested:
            rows += _rows(section, f"{key}.")
    return rows


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    shown = field.get_default(call_default_factory=True)
    if shown is None:
        return ""
    kinds = [type(item).__name__ + str(getattr(item, "func", "")) for item in field.metadata]
    if any("parse_duration" in kind for kind in kinds) or "parse_duration" in str(field.annotation):
        shown = show_duration(shown)
    elif any("parse_size" in kind for kind in kinds):
        shown = show_size(shown)
    elif isinstance(shown, bool):
        shown = str(shown).lower()
    return f"`{shown}`" if shown != [] else "`[]`"
