"""Reads the configuration: file, then environment, then secret files. All mistakes are told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from gateway.config import document, environment
from gateway.config.avara import AvaraConfig
from gateway.config.mistakes import ConfigError, Keys, Mistake, Source
from gateway.config.models import Config
from gateway.config.wording import mistake

WEBHOOK_KEY = "AVARA_WEBHOOK_KEY"
"""Avara's own name for the variable with a webhook key."""

M = TypeVar("M", bound=BaseModel)


def load(path: Path, variables: Mapping[str, str] | None = None, *, keys_needed: bool = True) -> Config:
    """The configuration in *path* and the environment. Raises ConfigError.

    Without *keys_needed* there may be no webhook key: what only looks at a gateway works in a shell that does not have
    the variables of the service.
    """
    variables = os.environ if variables is None else variables
    written = document.read(path)
    source = Source(path, written)
    mistakes = [source.at(keys, text) for keys, text in document.typographic(written)]
    told = {told.key for told in mistakes}
    data = document.plain(written)
    mistakes += environment.apply(data, variables, source)
    try:
        config = Config.model_validate(data)
    except ValidationError as e:
        found = [mistake(error, source) for error in e.errors()]
        raise ConfigError(mistakes + [one for one in found if one.key not in told]) from None
    config, more = _with_secrets(config, variables, source, keys_needed=keys_needed)
    if mistakes + more:
        raise ConfigError(mistakes + more)
    return config


def _with_secrets(
    config: Config, variables: Mapping[str, str], source: Source, *, keys_needed: bool
) -> tuple[Config, list[Mistake]]:
    """Reads what stands in files, so that nobody else has to."""
    mistakes: list[Mistake] = []
    config = _read_files(config, (), source, mistakes)
    keys = [key.get_secret_value() for key in config.avara.webhook_keys]
    if config.avara.webhook_keys_file is not None:
        keys += _keys_in(config.avara.webhook_keys_file, source, mistakes)
    if variables.get(WEBHOOK_KEY):
        key = variables[WEBHOOK_KEY].strip()
        if (wrong := _wrong_key(key)) is None:
            keys.append(key)
        else:
            mistakes.append(Mistake(WEBHOOK_KEY, "", wrong))
    if not keys and not mistakes and keys_needed:
        mistakes.append(
            Mistake(
                source.where(("avara",)),
                "avara.webhook_keys",
                f"there is no webhook key: put it into a file that avara.webhook_keys_file names, or set {WEBHOOK_KEY}",
            )
        )
    if mistakes:
        return config, mistakes
    avara = config.avara.model_copy(
        update={"webhook_keys": [SecretStr(key) for key in dict.fromkeys(keys)], "webhook_keys_file": None}
    )
    return config.model_copy(update={"avara": avara}), []


def _keys_in(path: Path, source: Source, mistakes: list[Mistake]) -> list[str]:
    """Webhook keys, one a line; what follows a # is a remark."""
    keys = []
    content = _content(path, ("avara", "webhook_keys_file"), source, mistakes)
    for number, line in enumerate(content.split("\n"), 1):
        for key in line.partition("#")[0].split():
            if (wrong := _wrong_key(key)) is None:
                keys.append(key)
            else:
                mistakes.append(Mistake(f"{path}:{number}", "", wrong))
    return keys


def _wrong_key(key: str) -> str | None:
    """What is wrong with a webhook key, without showing it."""
    try:
        AvaraConfig.model_validate({"webhook_keys": [key]})
    except ValidationError as e:
        wrong = str(e.errors()[0]["msg"]).removeprefix("Value error, ")
        if "=whsec_" in key or key[:1] in "\"'":
            wrong += "; write the key alone, without quotes and without a name before it"
        return wrong
    return None


def _read_files(section: M, keys: Keys, source: Source, mistakes: list[Mistake]) -> M:
    """The section with the content of each file that a field ``x_file`` names in its field ``x``."""
    read: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        plain = name.removesuffix("_file")
        if isinstance(value, BaseModel):
            read[name] = _read_files(value, (*keys, name), source, mistakes)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            read[name] = [_read_files(item, (*keys, name, n), source, mistakes) for n, item in enumerate(value)]
        elif plain != name and value is not None and plain in type(section).model_fields:
            if isinstance(getattr(section, plain), list):
                continue  # the keys of webhooks, which are joined from several places
            content = _content(value, (*keys, name), source, mistakes)
            secret = "SecretStr" in str(type(section).model_fields[plain].annotation)
            read[plain] = SecretStr(content) if secret else content
            read[name] = None
            files[plain] = name
        elif plain != name and isinstance(value, Path) and plain not in type(section).model_fields:
            # A certificate or the like, which is opened by its name later: that it is there can be told now.
            try:
                with value.open("rb"):
                    pass
            except OSError as e:
                mistakes.append(source.at((*keys, name), _unreadable(value, e)))
    if not files or mistakes:
        return section.model_copy(update=read)
    try:
        # Once more, since what was in a file may be none of what the key is for.
        return type(section).model_validate({**dict(section), **read})
    except ValidationError as e:
        for error in e.errors():
            found = mistake(error, source)
            where = (*keys, files.get(found.key, found.key))
            mistakes.append(source.at(where, found.text))
        return section


def _content(path: Path, keys: Keys, source: Source, mistakes: list[Mistake]) -> str:
    try:
        content = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as e:
        mistakes.append(source.at(keys, _unreadable(path, e)))
        return ""
    if not content:
        mistakes.append(source.at(keys, f"{path} is empty"))
    return content


def _unreadable(path: Path, e: Exception) -> str:
    reason = getattr(e, "strerror", None) or "not text"
    return f"cannot read {path}: {reason}" + ("; who may read it?" if isinstance(e, PermissionError) else "")
