"""Reads the file as YAML, and says in people's words what is wrong where it is none.

A message never repeats a value, not even a letter of it: it may be a secret, and a parser's own messages do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.config.mistakes import ConfigError, Keys, Mistake

_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- )?\s*([A-Za-z_]+):(?=\S)(?!//)")
_QUOTES = "“”„‟‘’‚‛«»"
_PROBLEMS = (
    (r"character '\\t'", "there is a tab: YAML indents with spaces only"),
    (
        r"cannot start any token|undefined alias|but found (?:'<alias>'|'<tag>'|'<anchor>')|while scanning an? "
        r"(?:alias|anchor|tag|directive)|could not determine a constructor|chomping or indentation|expected a comment",
        "a value that begins with one of @ ` % * & ! | > has to stand in quotes: they mean something to YAML",
    ),
    (r"mapping values are not allowed", "a colon too many, or an indentation that does not fit the line above: keys of "
     "one section begin in the same column, and a value with a colon and a space stands in quotes"),
    (r"unknown escape", "a backslash in double quotes: write '…' instead of \"…\""),
    (r"while scanning a quoted scalar|while scanning a (?:single|double)-quoted|unexpected end of stream",
     "a quote is opened and not closed"),
    (r"while parsing a flow|expected ',' or", "a [ or { is not closed, or a comma is missing inside"),
    (r"could not find expected ':'", "a line without a colon and a space: write it as key: value"),
    (r"single document", "there is a second document: leave out the line ---"),
    (r"expected <block end>|document start", "the indentation does not fit the lines above: keys of one section begin "
     "in the same column; or something follows a closed quote"),
)  # fmt: skip
"""What a parser says, and what people would."""


def read(path: Path) -> CommentedMap:
    """What the file holds. Raises ConfigError."""
    text = _text(path)
    try:
        document = YAML(typ="rt").load(text)
    except DuplicateKeyError as e:
        raise ConfigError([_twice(path, text, e)]) from None
    except MarkedYAMLError as e:
        raise ConfigError([_not_yaml(path, text, e)]) from None
    except YAMLError:
        raise ConfigError(
            [Mistake(str(path), "", "there is a character in it that no text has (is it binary?)")]
        ) from (None)
    if document is None:
        document = CommentedMap()
    if not isinstance(document, CommentedMap):
        raise ConfigError([_no_section(path, text)])
    return document


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([Mistake(str(path), "", "there is no such file: avara-gateway init writes one")]) from None
    except OSError as e:
        advice = "; who may read it?" if isinstance(e, PermissionError) else ""
        raise ConfigError([Mistake(str(path), "", f"cannot be read: {e.strerror or 'it fails'}{advice}")]) from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ConfigError([Mistake(str(path), "", "it is UTF-16: save it as UTF-8 in your editor")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].count(b"\n") + 1
        text = "there is a letter that is not UTF-8 (Latin-1, perhaps): save the file as UTF-8 in your editor"
        raise ConfigError([Mistake(f"{path}:{line}", "", text)]) from None


def _twice(path: Path, text: str, e: MarkedYAMLError) -> Mistake:
    assert e.problem_mark is not None
    at, since = e.problem_mark, e.context_mark.line if e.context_mark else 0
    lines = text.split("\n")
    written = re.match(r"[\"']?([A-Za-z_]+)[\"']?\s*:", lines[at.line][at.column :])
    if written is None:
        return Mistake(f"{path}:{at.line + 1}", "", "a key is there twice: keep one")
    first = next(
        (n for n in range(since, at.line) if re.match(rf"[-\s{{]*[\"']?{written[1]}[\"']?\s*:", lines[n])), None
    )
    before = f", first in line {first + 1}" if first is not None else ""
    return Mistake(f"{path}:{at.line + 1}", "", f"{written[1]} is there twice{before}: join the two, or keep one")


def _not_yaml(path: Path, text: str, e: MarkedYAMLError) -> Mistake:
    # What is opened and not closed is told of where it was opened.
    opened = e.context_mark if re.search("quoted scalar|flow", e.context or "") else None
    mark = opened or e.problem_mark or e.context_mark
    number = mark.line if mark else 0
    lines = text.split("\n")
    # Of a key without a space after its colon the parser only complains where the next line comes.
    for near in (number, number - 1):
        if 0 <= near < len(lines) and (found := _KEY_WITHOUT_SPACE.match(lines[near])):
            return Mistake(f"{path}:{near + 1}", "", f"a space is missing after the colon of {found[1]}:")
    if number < len(lines) and "\t" in lines[number][: len(lines[number]) - len(lines[number].lstrip())]:
        return Mistake(f"{path}:{number + 1}", "", _PROBLEMS[0][1])
    problem = f"{e.context or ''} {e.problem or ''}"
    for pattern, words in _PROBLEMS:
        if re.search(pattern, problem):
            return Mistake(f"{path}:{number + 1}", "", f"not YAML: {words}")
    return Mistake(f"{path}:{number + 1}", "", "not YAML: the line is no key: value that fits the lines above")


def _no_section(path: Path, text: str) -> Mistake:
    for number, line in enumerate(text.split("\n"), 1):
        if found := _KEY_WITHOUT_SPACE.match(line):
            return Mistake(f"{path}:{number}", "", f"a space is missing after the colon of {found[1]}:")
    return Mistake(f"{path}:1", "", "the file must hold keys and values, like `pacs:`")


def plain(node: Any) -> Any:
    """*node* without what the reader hangs onto it."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(item) for item in node]
    if isinstance(node, float):
        return float(node)
    return int(node) if isinstance(node, int) and not isinstance(node, bool) else node


def typographic(node: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Where word processors put in quotes and spaces of their own, which YAML takes for a part of the text."""
    if isinstance(node, dict):
        for key, value in node.items():
            name = str(key)
            if "\u00a0" in name or name.strip(_QUOTES) != name:
                yield (*keys, key), "there are typographic quotes or spaces in it: type it anew, in a plain editor"
            yield from typographic(value, (*keys, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from typographic(value, (*keys, number))
    elif isinstance(node, str) and (node[:1] in _QUOTES or node[-1:] in _QUOTES) and node:
        yield keys, "there are typographic quotes around it: type \" or ' instead, in a plain editor"
