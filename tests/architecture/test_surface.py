"""The public surface of a room is what its ``__init__`` exports: whatever crosses rooms goes through it.

Read from the source, so that an import within a function counts too. Tests may look into rooms; the gateway and its
bench may not.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WITHIN = {"gateway.pacs.upper", "gateway.pacs.scu", "gateway.pacs.scp", "gateway.pacs.dicomweb"}
"""Rooms within a room."""
ROOMS = sorted({f"gateway.{p.parent.name}" for p in (ROOT / "gateway").glob("*/__init__.py")} | WITHIN)


def room_of(module: str) -> str:
    """The room that a module lies in."""
    inner = ".".join(module.split(".")[:3])
    return inner if inner in WITHIN else ".".join(module.split(".")[:2])


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@functools.cache
def exported(room: str) -> list[str]:
    tree = ast.parse((ROOT / room.replace(".", "/") / "__init__.py").read_text())
    found = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return list(ast.literal_eval(found[0])) if found else []


def breaches(module: str, source: str) -> Iterator[str]:
    """What *source* takes of another room that this does not export."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.count(".") > 1 and room_of(alias.name) not in (alias.name, room_of(module)):
                    yield f"{module}:{node.lineno} imports {alias.name}"
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("gateway."):
            continue
        room = room_of(str(node.module))
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            if name in ROOMS or room == room_of(module):
                continue
            if node.module != room:
                yield f"{module}:{node.lineno} reaches into {room}: {name}"
            elif alias.name not in exported(room):
                yield f"{module}:{node.lineno} imports what {room} does not export: {alias.name}"


def test_what_crosses_rooms_is_exported_by_the_room_that_it_comes_from():
    found = []
    for file in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found += breaches(module, file.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("from gateway.pacs.errors import PacsError", "reaches into gateway.pacs"),
        ("from gateway.pacs.scu.client import PacsClient", "reaches into gateway.pacs.scu"),
        ("from gateway.pacs import no_such_name", "does not export"),
        ("import gateway.journal.journal", "imports gateway.journal.journal"),
        ("def f():\n    from gateway.dicom.uid import is_uid", "reaches into gateway.dicom"),
        ("from gateway.studies.keys import index", ""),
        ("from gateway.pacs import PacsError", ""),
        ("from gateway import journal", ""),
    ],
)
def test_a_breach_is_seen_wherever_it_stands(line, why):
    found = list(breaches("gateway.studies.fetch", line))
    assert bool(found) == bool(why)
    assert all(why in breach for breach in found)


@pytest.mark.parametrize("room", ROOMS)
def test_everything_that_a_room_exports_can_be_had_of_it(room):
    names = exported(room)
    assert len(names) == len(set(names))
    loaded = import_module(room)
    for name in names:
        assert hasattr(loaded, name) or import_module(f"{room}.{name}"), name
    with pytest.raises(AttributeError):
        _ = loaded.no_such_name


def test_a_room_costs_nothing_before_a_name_of_it_is_asked_for():
    program = (
        "import sys\n"
        "import gateway.dicom, gateway.pacs.scu, gateway.pacs.scp, gateway.journal, gateway.objects, gateway.studies\n"
        "heavy = {'pydicom', 'pynetdicom', 'sqlalchemy', 'aiohttp', 'minio', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
