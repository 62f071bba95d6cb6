"""``python -m tests.fuzz TARGET [libFuzzer options]``: fuzzes a target of targets.py, or ``all``, with atheris.

Without a limit (``-max_total_time=60``) it runs until it finds something; what it finds is written to a file
``crash-…``, which the same command with that file's name plays again.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

WATCHED = ["gateway.pacs", "gateway.captures", "gateway.dicom", "gateway.studies", "pynetdicom.pdu"]
"""Packages whose branches lead the fuzzer on."""

with atheris.instrument_imports(include=WATCHED):
    from tests.fuzz.targets import TARGETS, All, seeds

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Runs the fuzzer; never returns."""
    target, *options = sys.argv[1:]
    if target == "seeds":
        for name, contents in seeds().items():
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            for n, content in enumerate(contents):
                (CORPUS / name / f"seed-{n}").write_bytes(content)
        return
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    played_again = any(not option.startswith("-") for option in options)
    with tempfile.TemporaryDirectory() as found:  # where the fuzzer keeps what leads it further
        for n, name in enumerate(TARGETS):
            for path in (CORPUS / name).iterdir() if target in ("all", name) else ():
                prefix = bytes((n,)) if target == "all" else b""
                (Path(found) / f"{name}-{path.name}").write_bytes(prefix + path.read_bytes())
        run = All() if target == "all" else TARGETS[target]()
        atheris.Setup([sys.argv[0], *options, *([] if played_again else [found])], run)
        atheris.Fuzz()


main()
