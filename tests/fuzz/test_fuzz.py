"""A few seconds of fuzzing of whatever reads bytes from outside, from the committed corpus; ``make fuzz`` goes on.

What is left out: long runs, which find what these do not. Where atheris has no wheel for the Python in use, the
corpus is played through all the same.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, Acceptor, seeds

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_and_all_its_beginnings_do_no_harm(target):
    run = TARGETS[target]()
    inputs = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    assert inputs
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        if isinstance(run, Acceptor):
            stack.callback(run.close)
        warnings.simplefilter("ignore")  # pydicom warns of what the corpus is full of
        for content in inputs + seeds()[target]:
            for end in range(0, len(content) + 1, max(len(content) // 60, 1)):
                run(content[:end])
            run(content)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this Python")
def test_mutated_input_does_no_harm(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "all", "-max_total_time=8", "-timeout=10", "-rss_limit_mb=1000"]
    command += ["-verbosity=0", f"-artifact_prefix={tmp_path}/"]
    # By a shell that stays: the fuzzer watches its own peak memory, in which a child begins with that of its parent.
    command = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    ran = subprocess.run(command, cwd=CORPUS.parents[2], capture_output=True, timeout=60, check=False)
    said = (ran.stdout + ran.stderr).decode(errors="replace")
    assert ran.returncode == 0, said[said.find(" === Uncaught") :][:4000]
