"""Shows the configuration: as it is in effect, as a JSON schema, as a reference."""

from __future__ import annotations

import io
from collections.abc import Callable
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
    return _plain(value, secret=lambda secret: secret.shown() if isinstance(secret, SecretPathUrl) else MASK)


def _plain(value: Any, *, secret: Callable[[SecretStr | SecretPathUrl], str]) -> Any:
    if isinstance(value, SecretStr | SecretPathUrl):
        return secret(value)
    if isinstance(value, dict):
        return {key: _plain(item, secret=secret) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, secret=secret) for item in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def revealed(config: Config) -> dict[str, Any]:
    """*config* as a document that makes the same again, secrets and all: for our own ears only."""
    shown = _plain(config.model_dump(mode="python", exclude_none=True), secret=_open)
    assert isinstance(shown, dict)
    return shown


def _open(secret: SecretStr | SecretPathUrl) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else str(secret)


def differences(old: Config, new: Config) -> list[tuple[str, str, str]]:
    """Keys whose values differ, with both values; a secret only says that it is another."""
    before, after = _flat(old.model_dump(mode="python")), _flat(new.model_dump(mode="python"))
    return [
        (key, _shown(before.get(key)), _shown(after.get(key)))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{key}.{name}".lstrip(".")).items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {k: v for n, item in enumerate(value) for k, v in _flat(item, f"{key}.{n}").items()}
    return {key: value}


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(_masked(value))


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
