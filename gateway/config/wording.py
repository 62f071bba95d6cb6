"""What is wrong with a value, in people's words: never the value, which may be a secret, and no class of a library."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from gateway.config.base import At
from gateway.config.mistakes import Keys, Mistake, Source
from gateway.config.models import Config
from gateway.config.values import show_duration, show_size

_ALSO_CALLED = {
    "aet": "ae_title", "aetitle": "ae_title", "ae": "ae_title", "ip": "host", "address": "host", "hostname": "host",
    "server": "host", "bind": "host", "listen": "host", "user": "access_key", "password": "secret_key",
    "key": "webhook_keys", "webhook_key": "webhook_keys", "webhook_secret": "webhook_keys", "secret": "webhook_keys",
    "origins": "allowed_origins", "url": "public_url", "data_dir": "state_dir", "timeout": "respond_timeout",
    "ssl": "tls", "cert": "certificate_file", "certificate": "certificate_file", "ca": "ca_file", "size": "max_size",
}  # fmt: skip
"""What others call our keys."""

_NO_COLON_SPACE = re.compile(r"([A-Za-z_]+):\S")


def mistake(error: Any, source: Source) -> Mistake:
    """*error*, one of pydantic's, with where it is."""
    keys: Keys = tuple(k for k in error["loc"] if k != "[key]" and not str(k).startswith("function-"))
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, At):
        return source.at((*keys, *cause.keys), str(cause))
    return source.at(keys, _words(error, keys))


def _words(error: Any, keys: Keys) -> str:
    kind, given, bounds = error["type"], error.get("input"), error.get("ctx", {})
    match kind:
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return _unknown(keys)
        case "model_type" | "model_attributes_type" | "dict_type":
            return _no_section(given)
        case "list_type":
            return _no_list(given, keys)
        case "literal_error":
            return _none_of(bounds["expected"], given)
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size" | "float_parsing" | "float_type":
            return "has to be a whole number, in digits only"
        case "bool_parsing" | "bool_type":
            return "has to be true or false"
        case "greater_than_equal" | "greater_than":
            return f"has to be {_amount(next(iter(bounds.values())), keys)} at least"
        case "less_than_equal" | "less_than":
            return f"has to be {_amount(next(iter(bounds.values())), keys)} at most"
        case "string_too_short":
            return "is empty: write a value, or leave the line out"
        case "string_too_long":
            return f"is too long: {bounds['max_length']} characters at most"
        case "too_short":
            return f"has too few entries: {bounds['min_length']} at least"
        case "string_pattern_mismatch":
            return "has a character that it cannot have"
        case _ if given is None:
            return "is empty: write a value, or leave the line out"
        case _ if isinstance(given, dict | list):
            return "has to be one value, and is a list or a section"
        case _:
            return "has to be a text: put it in quotes"


def _unknown(keys: Keys) -> str:
    name, known = str(keys[-1]), keys_at(keys[:-1])
    also = _ALSO_CALLED.get(name.lower().replace("-", "_"))
    near = [also] if also in known else difflib.get_close_matches(name.lower(), known, 1)
    if near:
        return f"there is no such key; did you mean {near[0]}?"
    places = sorted({place or "the top level" for place, key in all_keys() if key == name})
    if places:
        return f"there is no such key here: it belongs to {', '.join(places)}"
    return f"there is no such key here: {', '.join(known)}"


def _no_section(given: Any) -> str:
    if given is None:
        return "is left empty: write its keys below it, indented, or leave the line out"
    if isinstance(given, str) and (found := _NO_COLON_SPACE.match(given)):
        return f"a space is missing after the colon of {found[1]}:"
    if isinstance(given, list):
        return "is a section of keys and not a list: leave out the - before them"
    return "is a section: write its keys below it, indented, each as key: value"


def _no_list(given: Any, keys: Keys) -> str:
    if given is None:
        return "is left empty: write its entries below it, each after a -, or leave the line out"
    if isinstance(given, dict):
        return "is a list: put a - before the first key of each entry, and indent its other keys as far"
    return "is a list, even of one: put it in [ ]"


def _none_of(expected: str, given: Any) -> str:
    choices = re.findall(r"'([^']*)'", expected)
    near = difflib.get_close_matches(str(given).lower(), choices, 1)
    return f"has to be one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else "")


def _amount(bound: Any, keys: Keys) -> str:
    kinds = str(_field(keys))
    if "parse_duration" in kinds:
        return show_duration(float(bound))
    return show_size(int(bound)) if "parse_size" in kinds else str(bound)


def _field(keys: Keys) -> Any:
    model = _model_at(keys[:-1])
    return model.model_fields.get(str(keys[-1])) if model is not None and keys else None


def _model_at(keys: Keys) -> type[BaseModel] | None:
    model: type[BaseModel] = Config
    for key in keys:
        if isinstance(key, int):
            continue
        field = model.model_fields.get(key)
        found = models_in(field.annotation) if field else []
        if not found:
            return None
        model = found[0]
    return model


def keys_at(keys: Keys) -> list[str]:
    """The keys that the model at *keys* has."""
    model = _model_at(keys)
    return list(model.model_fields) if model is not None else []


def all_keys(model: type[BaseModel] = Config, place: str = "") -> Iterator[tuple[str, str]]:
    """Every key there is, after the section that it belongs to; ``pacs.0`` is one of a list."""
    for name, field in model.model_fields.items():
        yield place, name
        for section in models_in(field.annotation):
            below = f"{name}.0" if "list[" in str(field.annotation) else name
            yield from all_keys(section, f"{place}.{below}".lstrip("."))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in models_in(part)]
