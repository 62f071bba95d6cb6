"""What the commands share: the configuration they are given, and how they fail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.config import Config

CONFIG_FILE = click.Path(dir_okay=False, path_type=Path)

CONFIG = click.option("-c", "--config", "path", required=True, type=CONFIG_FILE, help="The configuration file.")


class Failed(click.ClickException):
    """A command could not do its work; the text says why."""

    def show(self, file: Any = None) -> None:
        """Tells it, as every failure is told."""
        click.echo(f"avara-gateway: {self.message}", err=True)


def load_config(path: Path) -> Config:
    """The configuration; its mistakes, all at once, end the command."""
    from gateway.config import ConfigError, load

    try:
        return load(path)
    except ConfigError as e:
        for mistake in e.mistakes:
            click.echo(str(mistake), err=True)
        raise SystemExit(1) from None


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What *work* returns; what keeps it from its end is told in one line."""
    from gateway import app

    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:  # whoever read what we print has seen enough
        os._exit(0)
    except app.CANNOT_START as e:
        click.echo(f"avara-gateway: {app.why(e)}", err=True)
        raise SystemExit(1) from None
