"""Reads the configuration: file, then environment, then secret files. All mistakes are told at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.config.models import AvaraConfig, Config, PacsConfig, StoreConfig

PREFIX = "AVARA_GATEWAY__"
"""Of environment variables: ``AVARA_GATEWAY__HTTP__PORT=8080``, ``AVARA_GATEWAY__PACS__0__HOST=10.1.2.3``."""

WEBHOOK_KEY = "AVARA_WEBHOOK_KEY"
"""Avara's own name for the variable with a webhook key."""

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, and where."""

    where: str
    """File and line, or the environment variable."""
    key: str
    """Dotted: ``pacs.0.port``; empty where the mistake is not at a key."""
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key + ': ' if self.key else ''}{self.text}"


class ConfigError(Exception):
    """The configuration cannot be used; says everything that is wrong with it."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in *path* and the environment. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    document = _read(path)
    source = _Source(path, document)
    data = _plain(document)
    mistakes: list[Mistake] = []
    for name in sorted(environment):
        if name.startswith(PREFIX):
            mistakes += _override(data, name, environment[name], source)
    try:
        config = Config.model_validate(data)
    except ValidationError as e:
        raise ConfigError(mistakes + [_mistake(error, source) for error in e.errors()]) from None
    config, more = _with_secrets(config, environment, source)
    if mistakes + more:
        raise ConfigError(mistakes + more)
    return config


class _Source:
    """Where each value came from."""

    def __init__(self, path: Path, document: Any) -> None:
        self._path = path
        self._document = document
        self.variables: dict[Path_, str] = {}

    def where(self, keys: Path_) -> str:
        """File and line of the value at *keys*, or of the nearest thing around it."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.variables:
                return self.variables[keys[:length]]
        for variable, name in self.variables.items():
            if keys and variable[: len(keys)] == keys and self._line(keys[:1]) is None:
                return name
        return f"{self._path}:{self._line(keys) or 1}"

    def _line(self, keys: Path_) -> int | None:
        """The line of the deepest part of *keys* that the file has; None where it has none of it."""
        node, line = self._document, None
        for key in keys:
            if isinstance(node, CommentedMap) and key in node:
                line = node.lc.key(key)[0] + 1
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line = node.lc.item(key)[0] + 1
            else:
                break
            node = node[key]
        return line


def _read(path: Path) -> Any:
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError([Mistake(str(path), "", "there is no such file")]) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError([Mistake(str(path), "", f"cannot be read: {getattr(e, 'strerror', None) or e}")]) from None
    except MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        problem = (e.problem or "not YAML").split("\n")[0]
        raise ConfigError([Mistake(f"{path}:{line}", "", f"not YAML: {problem}")]) from None
    except YAMLError as e:
        raise ConfigError([Mistake(str(path), "", f"not YAML: {str(e).splitlines()[0]}")]) from None
    if document is None:
        document = CommentedMap()
    if not isinstance(document, CommentedMap):
        raise ConfigError([Mistake(f"{path}:1", "", "the file must hold keys and values, like `pacs:`")])
    return document


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, float):
        return float(node)
    return int(node) if isinstance(node, int) and not isinstance(node, bool) else node


def _override(data: Any, name: str, value: str, source: _Source) -> list[Mistake]:
    keys: Path_ = tuple(int(p) if p.isdecimal() else p.lower() for p in name.removeprefix(PREFIX).split("__"))
    try:
        parsed = _plain(YAML(typ="rt").load(value)) if value.strip()[:1] in ("[", "{") else value
    except YAMLError:
        return [Mistake(name, "", "not YAML")]
    node: Any = data
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        if isinstance(node, list) and isinstance(key, int) and key <= len(node):
            if key == len(node):
                node.append(None)
        elif not isinstance(node, dict) or isinstance(key, int):
            return [Mistake(name, "", "names no key of the configuration")]
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


def _mistake(error: Any, source: _Source) -> Mistake:
    keys: Path_ = tuple(k for k in error["loc"] if not str(k).startswith("function-"))
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _keys_at(keys[:-1])
        near = difflib.get_close_matches(str(keys[-1]), known, 1)
        text = (
            f"there is no such key; did you mean {near[0]}?"
            if near
            else f"there is no such key here: {', '.join(known)}"
        )
    elif error["type"] == "missing":
        text = "is missing"
    return Mistake(source.where(keys), ".".join(map(str, keys)), text)


def _keys_at(keys: Path_) -> list[str]:
    """The keys that the model at *keys* has."""
    model: Any = Config
    for key in keys:
        if isinstance(key, int):
            continue
        field = model.model_fields.get(key)
        found = _models_in(field.annotation) if field else []
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models_in(part)]


def _with_secrets(config: Config, environment: Mapping[str, str], source: _Source) -> tuple[Config, list[Mistake]]:
    """Reads what stands in files, so that nobody else has to."""
    mistakes: list[Mistake] = []

    def secret(keys: Path_, path: Path) -> str:
        where, key = source.where(keys), ".".join(map(str, keys))
        try:
            content = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            reason = getattr(e, "strerror", None) or "not text"
            mistakes.append(Mistake(where, key, f"cannot read {path}: {reason}; who may read it?"))
            return ""
        if not content:
            mistakes.append(Mistake(where, key, f"{path} is empty"))
        return content

    store = config.store.model_dump(exclude={"access_key_file", "secret_key_file"})
    store["secret_key"] = config.store.secret_key
    for name in ("access_key", "secret_key"):
        path = getattr(config.store, f"{name}_file")
        if path is not None:
            content = secret(("store", f"{name}_file"), path)
            store[name] = SecretStr(content) if name == "secret_key" else content
    every_pacs = []
    for n, pacs in enumerate(config.pacs):
        read: dict[str, SecretStr] = {}
        for name in ("dicomweb_password", "dicomweb_token"):
            path = getattr(pacs, f"{name}_file")
            if path is not None:
                read[name] = SecretStr(secret(("pacs", n, f"{name}_file"), path))
        try:
            every_pacs.append(PacsConfig.model_validate({**pacs.model_dump(), **read}))
        except ValidationError as e:  # of these two, only a token can be wrong
            path_: Path_ = ("pacs", n, "dicomweb_token_file")
            told = _mistake(e.errors()[0], source).text
            if not mistakes:
                mistakes.append(Mistake(source.where(path_), ".".join(map(str, path_)), told))
    keys = [key.get_secret_value() for key in config.avara.webhook_keys]
    if config.avara.webhook_keys_file is not None:
        keys += secret(("avara", "webhook_keys_file"), config.avara.webhook_keys_file).split()
    if environment.get(WEBHOOK_KEY):
        keys.append(environment[WEBHOOK_KEY].strip())
    if not keys and not mistakes:
        mistakes.append(
            Mistake(
                source.where(("avara",)),
                "avara.webhook_keys",
                f"there is no webhook key: set it here, in webhook_keys_file, or in {WEBHOOK_KEY}",
            )
        )
    if mistakes:
        return config, mistakes
    try:
        avara = AvaraConfig.model_validate(
            {**config.avara.model_dump(), "webhook_keys": list(dict.fromkeys(keys)), "webhook_keys_file": None}
        )
    except ValidationError:
        where = f"{config.avara.webhook_keys_file or WEBHOOK_KEY}"
        return config, [Mistake(where, "", "not a webhook key: it is whsec_ followed by base64, as Avara shows it")]
    return config.model_copy(
        update={"avara": avara, "store": StoreConfig.model_validate(store), "pacs": every_pacs}
    ), []
