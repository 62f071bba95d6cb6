"""The manual page and the completion in shells are the commands' own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway.cli import main

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "deploy/avara-gateway.1"


@pytest.mark.slow
def test_the_manual_page_is_what_the_commands_say():
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts/write-manual"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_the_manual_page_has_every_command_and_every_option():
    text = PAGE.read_text().replace("\\-", "-")

    def look(command: click.Command, path: str) -> None:
        assert f".SS {path} " in text or path == "avara-gateway", path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(option in text for option in parameter.opts), (path, parameter.opts)
        if isinstance(command, click.Group):
            for name, below in command.commands.items():
                look(below, f"{path} {name}")

    look(main, "avara-gateway")


@pytest.mark.slow
def test_the_manual_page_sets_without_a_warning():
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", str(PAGE)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    assert "avara-gateway jobs retry" in re.sub("\x1b\\[[0-9;]*m", "", done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell):
    words = {"COMP_WORDS": "avara-gateway jo", "COMP_CWORD": "jo" if shell == "fish" else "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("avara-gateway"))],
        env=os.environ | words | {"_AVARA_GATEWAY_COMPLETE": f"{shell}_complete"},
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert "jobs" in done.stdout, done.stderr
