"""Settings from the environment: ``AVARA_GATEWAY__HTTP__PORT=8080``, ``AVARA_GATEWAY__PACS__0__HOST=10.1.2.3``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.config.document import plain
from gateway.config.mistakes import Keys, Mistake, Source
from gateway.config.wording import all_keys

PREFIX = "AVARA_GATEWAY__"


def apply(data: Any, environment: Mapping[str, str], source: Source) -> list[Mistake]:
    """Puts what the environment says into *data*; what is wrong with it."""
    mistakes: list[Mistake] = []
    for name in sorted(environment):
        if name.startswith(PREFIX):
            mistakes += _override(data, name, environment[name], source)
        elif (meant := _meant(name)) is not None:
            mistakes.append(Mistake(name, "", f"is not read, so it would change nothing: write it {meant}"))
    return mistakes


def _meant(name: str) -> str | None:
    """The name that one was meant to be that has other letters or underscores. Others' variables may well begin as
    ours do: an orchestrator makes ``AVARA_GATEWAY_PORT`` of a service's name. So it has to name a key."""
    words = re.sub(r"_+", "_", name.lower())
    if not words.startswith("avara_gateway_"):
        return None
    numbers = re.findall(r"(?<=_)\d+(?=_|$)", words)
    flat = re.sub(r"(?<=_)\d+(?=_|$)", "0", words.removeprefix("avara_gateway_"))
    for place, key in all_keys():
        parts = [*place.split("."), key] if place else [key]
        if "_".join(parts) == flat and len(parts) > 1:
            counted = iter(numbers)
            return PREFIX + "__".join(next(counted, "0") if part == "0" else part.upper() for part in parts)
    return None


def _override(data: Any, name: str, value: str, source: Source) -> list[Mistake]:
    keys: Keys = tuple(int(p) if p.isdecimal() else p.lower() for p in name.removeprefix(PREFIX).split("__"))
    try:
        parsed = plain(YAML(typ="rt").load(value)) if value.strip()[:1] in ("[", "{") else value
    except YAMLError:
        return [Mistake(name, "", "begins with [ or { and is no list or section of YAML")]
    node: Any = data
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        if isinstance(node, list):
            if not isinstance(key, int):
                text = f"names an entry of a list by its number, and {str(key).upper()} is none: write 0 for the first"
                return [Mistake(name, "", text)]
            if key > len(node):
                text = f"there are {len(node)} entries, so the next one is {len(node)}: entries are counted from 0"
                return [Mistake(name, "", text)]
            if key == len(node):
                node.append(None)
        elif not isinstance(node, dict) or isinstance(key, int):
            return [Mistake(name, "", "names no key of the configuration: there is no list where it has a number")]
        if following is None:
            node[key] = parsed
            break
        below = node[int(key)] if isinstance(node, list) else node.get(key)
        if not isinstance(below, dict | list):
            below = [] if isinstance(following, int) else {}
            node[key] = below
        node = below
    source.variables[keys] = name
    return []
