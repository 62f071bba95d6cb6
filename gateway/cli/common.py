"""What the commands share: the configuration they are given, and how they fail."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import pwd
import stat
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.journal import Journal

CONFIG_FILE = click.Path(dir_okay=False, path_type=Path)

DEFAULT_FILE = Path("/etc/avara-gateway/gateway.yaml")
"""Where the configuration lies on a machine without containers (deploy/avara-gateway.service)."""

CONFIG = click.option(
    "-c", "--config", "path", type=CONFIG_FILE, default=DEFAULT_FILE, show_default=True, help="The configuration file."
)

MISCONFIGURED = 78
"""How ``serve`` ends where starting it again would not help (EX_CONFIG of sysexits.h): its unit does not try."""


class Failed(click.ClickException):
    """A command could not do its work; the text says why."""

    def show(self, file: Any = None) -> None:
        """Tells it, as every failure is told."""
        click.echo(f"avara-gateway: {self.message}", err=True)


def load_config(path: Path, *, keys_needed: bool = False, code: int = 1) -> Config:
    """The configuration; its mistakes, all at once, end the command with *code*. Only who takes or signs webhooks needs
    their keys, which an operator's shell may not have."""
    from gateway.config import ConfigError, load

    try:
        config = load(path, keys_needed=keys_needed)
    except ConfigError as e:
        for mistake in e.mistakes:
            click.echo(str(mistake), err=True)
        raise SystemExit(code) from None
    return config


def become_owner(state_dir: Path) -> None:
    """From here on the command is the user whose *state_dir* it is, where root runs it: what root would leave there,
    the service could not open when it starts. Raises Failed where neither is at hand."""
    try:
        owner = state_dir.stat()
    except OSError:
        return  # whoever goes on to use it tells why
    if os.geteuid() == owner.st_uid or not stat.S_ISDIR(owner.st_mode):
        return
    if os.geteuid() != 0:
        if not os.access(state_dir, os.R_OK | os.W_OK | os.X_OK):
            raise Failed(f"{state_dir} is {_user(owner.st_uid)}'s: run this as that user, or as root (sudo)")
        return
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def refuse_others(state_dir: Path) -> None:
    """A gateway that serves runs as the user whose *state_dir* it is. Raises Failed."""
    with contextlib.suppress(OSError):
        owner = state_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            raise Failed(
                f"{state_dir} is {_user(owner)}'s, and what root writes there that user could not open: systemctl "
                f"start avara-gateway, or sudo -u {_user(owner)} avara-gateway serve"
            )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


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
        raise SystemExit(MISCONFIGURED if isinstance(e, app.Misconfigured) else 1) from None


@asynccontextmanager
async def open_journal(config: Config) -> AsyncIterator[Journal]:
    """The journal of a gateway that runs, or does not."""
    from gateway import app

    state_dir = config.state_dir
    become_owner(state_dir)
    file = app.journal_file(state_dir)
    try:
        there = file.is_file()
    except PermissionError:
        raise Failed(f"{file} cannot be read: run this as the gateway's own user, or as root") from None
    if not there:
        raise Failed(f"there is no journal {file}: has the gateway run with this configuration?")
    journal = await _opened(state_dir, f"sqlite:///{file}")
    try:
        yield journal
    finally:
        await journal.close()


async def _opened(state_dir: Path, url: str) -> Journal:
    """The journal; one of an older version is brought up to date only where no gateway runs that would then find its
    tables changed beneath it."""
    from gateway import app
    from gateway.journal import Journal, OlderSchema

    try:
        return await Journal.open(url, migrate=False)
    except OlderSchema as e:
        try:
            with app.state_dir(state_dir):
                return await Journal.open(url)
        except app.AlreadyRunning:
            raise Failed(f"{e}, and that one runs: restart the gateway in this version first") from None


def operator() -> str:
    """Who runs this command, by the names of the system's users."""
    name = getpass.getuser()
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} as {name}" if behind and behind != name else name
