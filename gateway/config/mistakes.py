"""Mistakes of a configuration, and where each stands: file and line, or the environment variable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

Keys = tuple[str | int, ...]
"""The way to a value: ``("pacs", 0, "port")``."""


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


class Source:
    """Where each value came from."""

    def __init__(self, path: Path, document: Any) -> None:
        self._path = path
        self._document = document
        self.variables: dict[Keys, str] = {}

    def at(self, keys: Keys, text: str) -> Mistake:
        """A mistake at *keys*."""
        return Mistake(self.where(keys), ".".join(map(str, keys)), text)

    def where(self, keys: Keys) -> str:
        """File and line of the value at *keys*, or of the nearest thing around it."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.variables:
                return self.variables[keys[:length]]
        for variable, name in self.variables.items():
            if keys and variable[: len(keys)] == keys and self._line(keys[:1]) is None:
                return name
        return f"{self._path}:{self._line(keys) or 1}"

    def _line(self, keys: Keys) -> int | None:
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
