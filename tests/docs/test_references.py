"""What the project says of itself leads somewhere: links, files, sections, field notes, make targets, commands, keys.

Everything that git keeps as text is read, code as well as documents. What a sentence promises is for reviewers.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from gateway.cli.main import main

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).relative_to(ROOT).as_posix()


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode == 0:
        return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    # An archive of the sources, without its history.
    return [
        p.relative_to(ROOT).as_posix()
        for top in ("gateway", "tests", "bench", "docs", "scripts", "config", "deploy")
        for p in (ROOT / top).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    ] + [p.name for p in ROOT.glob("*.*") if p.is_file()]


def _read() -> dict[str, str]:
    texts = {}
    for name in _tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:1000] and not name.startswith("tests/fuzz/corpus/") and name != HERE:
            texts[name] = content.decode()
    return texts


TEXTS = _read()
DOCUMENTS = sorted(name for name in TEXTS if name.endswith(".md"))
MADE = {"bench/out", "secrets"}
"""Folders that tools make."""
FOLDERS = {parent.as_posix() for name in TEXTS for parent in Path(name).parents}


def _anchors(markdown: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", markdown, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _exists(path: str) -> bool:
    made = any(path.startswith(f"{folder}/") for folder in MADE)
    return path in TEXTS or (ROOT / path).is_file() or path.rstrip("/") in FOLDERS | MADE or made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_to_a_file_and_a_heading_of_it(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert there.exists(), f"{name}: {target}"
        assert there.is_relative_to(ROOT), f"{name}: {target} is outside the repository"
        if anchor:
            assert anchor in _anchors(there.read_text()), f"{name}: {target}"


def test_documents_that_code_and_texts_mention_are_in_the_repository():
    # By path from the root or from the file, or by a name that one document alone has.
    names = [Path(document).name for document in DOCUMENTS]
    missing = [
        f"{name}: {mention}"
        for name, text in TEXTS.items()
        for mention in re.findall(r"(?<![\w/.*{}-])((?:\.\./|\w[\w-]*/)*\w[\w-]*\.md)\b", text)
        if not _exists(mention) and not ((ROOT / name).parent / mention).is_file() and names.count(mention) != 1
    ]
    assert not missing


def test_sections_of_documents_that_code_names_are_headings():
    # "docs/contract.md: Answers"
    named = [
        (name, document, section)
        for name, text in TEXTS.items()
        for document, section in re.findall(r"(docs/[\w-]+\.md): ([A-Z]\w+)", text)
    ]
    assert named
    for name, document, section in named:
        headings = re.findall(r"^#+ (.*)$", TEXTS[document], re.M)
        assert any(h == section or h.startswith(f"{section} ") for h in headings), f"{name}: {document}: {section}"


def test_every_field_note_that_is_named_is_there_and_the_numbers_have_no_gap():
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", TEXTS["docs/field-notes.md"], re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    named = {
        (name, int(number))
        for name, text in TEXTS.items()
        for mention in re.findall(r"field notes?\s+(?:#\s*)?(\d+(?:(?:, | and )\d+)*)", text)
        for number in re.findall(r"\d+", mention)
    }
    assert len(named) > 20
    assert not {(name, number) for name, number in named if number not in numbers}


def test_modules_and_paths_that_are_named_in_documents_exist():
    # A path in backquotes: `gateway/pacs/scu/move.py`, `docs/`, `tests/faults/`.
    tops = {name.split("/")[0] for name in TEXTS if "/" in name}
    missing = [
        f"{name}: {path}"
        for name in DOCUMENTS
        for path in re.findall(r"`([\w.-]+/[\w./-]*)`", TEXTS[name])
        if path.split("/")[0] in tops and not _exists(path)
    ]
    assert not missing


def test_names_of_code_that_docstrings_refer_to_exist():
    # :mod:`gateway.studies.retrieval`, :func:`gateway.dicom.uid.is_uid`, ``gateway.x.y``
    missing = []
    for name, text in TEXTS.items():
        for dotted in re.findall(r"`+~?(gateway(?:\.\w+)+)`+", text):
            if not dotted.endswith(".yaml") and not _has_name(dotted):
                missing.append(f"{name}: {dotted}")
    assert not missing


def _has_name(dotted: str) -> bool:
    """Whether a module, or an attribute of one, has this name."""
    module, *attributes = dotted.split(".")
    found: object = importlib.import_module(module)
    for attribute in attributes:
        module = f"{module}.{attribute}"
        if hasattr(found, attribute):
            found = getattr(found, attribute)
        elif find_spec(module) is not None:
            found = importlib.import_module(module)
        else:
            return False
    return True


def test_nothing_refers_to_what_lies_outside_the_repository():
    # Tests try paths that climb; nothing else has a reason to name one that leads nowhere.
    strange = [
        f"{name}: {path}"
        for name, text in TEXTS.items()
        if not name.startswith("tests/")
        for path in re.findall(r"(?<![\w./])((?:\.\./)+\w[\w./-]*|/(?:home|Users)/\w[\w./-]*)", text)
        if path.startswith("/")
        or not ((ROOT / name).parent / path).resolve().is_relative_to(ROOT)
        or not ((ROOT / name).parent / path).exists()
    ]
    assert not strange


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_that_documents_name_are_in_the_makefile(name):
    targets = set(re.findall(r"^([a-z][a-z-]*):", TEXTS["Makefile"], re.M))
    for target in re.findall(r"`make ([a-z-]+)", TEXTS[name]) + re.findall(r"^make ([a-z-]+)", TEXTS[name], re.M):
        assert target in targets, f"{name}: make {target}"


@pytest.mark.parametrize("name", [*DOCUMENTS, "deploy/avara-gateway.service", "Dockerfile"])
def test_commands_that_documents_name_are_there_with_their_options(name):
    for words in re.findall(r"avara-gateway ((?:[a-z][a-z-]* )[^`\n]*)", TEXTS[name] + "\n"):
        command: click.Command = main
        rest = words.split()
        while isinstance(command, click.Group) and rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        assert command is not main, f"{name}: avara-gateway {words}"
        options = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        for flag in [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]:
            assert flag in options | {"--help"}, f"{name}: avara-gateway {words}"


def test_the_drawing_of_the_rooms_is_what_the_layer_check_checks():
    (contract, *_) = tomllib.loads(TEXTS["pyproject.toml"])["tool"]["importlinter"]["contracts"]
    drawing = TEXTS["docs/architecture.md"].partition("## Rooms")[2].split("```")[1].strip("\n")
    drawn = [re.split(r"\s{2,}", line.strip())[0].replace(" ", "") for line in drawing.splitlines()]
    assert drawn == [layer.replace("gateway.", "").replace(" ", "") for layer in contract["layers"]]


def test_every_room_has_its_line_in_the_readme_and_in_the_drawing():
    rooms = {p.parent.name for p in (ROOT / "gateway").glob("*/__init__.py")}
    drawing = TEXTS["docs/architecture.md"].partition("## Rooms")[2].split("```")[1]
    assert rooms <= set(re.findall(r"\w+", drawing))
    table = TEXTS["README.md"].partition("## How it works")[2].partition("\n## ")[0]
    assert rooms <= set(re.findall(r"`(?:gateway/)?(\w+)/`", table))


def test_each_test_that_is_named_is_there():
    named = {(name, *found) for name in DOCUMENTS for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXTS[name])}
    assert named
    missing = [f"{where}: {path}::{test}" for where, path, test in sorted(named) if f"def {test}(" not in TEXTS[path]]
    assert missing == []
