"""What a room exports is loaded when it is first asked for: who needs one name of a room does not pay for all of it.

It also keeps rooms that use each other's modules free of import cycles: SCU and SCP need one another's names, and no
module of theirs needs itself. What is exported stands once, as imports under ``if TYPE_CHECKING:`` in the room's
``__init__``, where type checkers and readers look for it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def on_demand(room: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose ``__init__`` has its imports under ``if TYPE_CHECKING:`` (PEP 562)."""
    module = sys.modules[room]
    where: dict[str, str] = {}

    def get(name: str) -> Any:
        if not where:
            where.update(_exports(Path(str(module.__file__)), room))
        if name not in where:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        home = import_module(where[name])
        value = getattr(home, name) if hasattr(home, name) else import_module(f"{where[name]}.{name}")
        setattr(module, name, value)
        return value

    return get


def _exports(file: Path, room: str) -> dict[str, str]:
    """Name → the module that has it. A module of the room itself is left to the import system."""
    return {
        alias.name: node.module
        for block in ast.parse(file.read_bytes()).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module != room
        for alias in node.names
    }
