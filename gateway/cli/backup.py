"""``backup`` and ``restore``: what cannot be had again, in a folder; ``roll-back``: the journal as an older version
had it."""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.audit import record
from gateway.cli.common import CONFIG, Failed, load_config, run

if TYPE_CHECKING:
    from gateway.admin import KeptObjects, Manifest
    from gateway.config import Config

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@CONFIG
@click.argument("folder", type=FOLDER)
def backup(path: Path, folder: Path) -> None:
    """Copy what cannot be had again into a new FOLDER: journal, secrets, and what is not delivered yet.

    Works with or without a running gateway. Studies are not in it: they are fetched again. The configuration file is
    not in it either. It holds patient data: keep it as you keep a PACS's.

    \b
    Example: avara-gateway backup /srv/backup/gateway-monday
    """
    config = load_config(path)
    manifest = run(_back_up(config, folder))
    record(config, "backup", folder=str(folder), objects=len(manifest.objects))
    click.echo(_summary(manifest) + f" are in {folder}")
    for key in manifest.missing:
        click.echo(f"note: unfinished work names {key}, which the store does not have", err=True)


@click.command()
@CONFIG
@click.argument("folder", type=FOLDER)
@click.option("--replace", is_flag=True, help="Also where there is a journal already; it is kept beside the new one.")
def restore(path: Path, folder: Path, replace: bool) -> None:
    """Bring back what `backup` copied to FOLDER; the gateway must not run.

    First every file of the backup is proven to be as it was. What was delivered after the backup was made is delivered
    again: a PACS takes an instance it has for the same one, a RIS may show a report twice.

    \b
    Example: systemctl stop avara-gateway; avara-gateway restore /srv/backup/gateway-monday
    """
    config = load_config(path)
    manifest = run(_restore(config, folder, replace=replace))
    record(config, "restore", folder=str(folder), objects=len(manifest.objects))
    click.echo(_summary(manifest) + " are back: start the gateway")


@click.command("roll-back")
@CONFIG
@click.argument("schema")
def roll_back(path: Path, schema: str) -> None:
    """Bring the journal to the SCHEMA of an older version, before that one is installed again.

    The older version names it when it finds a journal that is newer than itself. The gateway must not run. What only
    the newer version knows of is lost: take a backup first.

    \b
    Example: avara-gateway roll-back 0008
    """
    config = load_config(path)
    run(_roll_back(config, schema))
    record(config, "roll-back", schema=schema)
    click.echo(f"the journal has schema {schema}: install the version that asked for it")


async def _roll_back(config: Config, schema: str) -> None:
    from gateway import app
    from gateway.journal import Journal, JournalError

    file = app.journal_file(config.state_dir)
    if not file.exists():
        raise Failed(f"there is no journal in {config.state_dir}: has the gateway run with this configuration?")
    _as_its_owner(config)
    with app.state_dir(config.state_dir):
        journal = Journal.at(f"sqlite:///{file}")
        try:
            await journal.roll_back(schema)
        except JournalError as e:
            raise Failed(str(e)) from e
        finally:
            await journal.close()


def _summary(manifest: Manifest) -> str:
    return (
        f"the journal, {len(manifest.files)} files and {len(manifest.objects)} objects of the store "
        f"({manifest.size / 1e6:.1f} MB)"
    )


async def _back_up(config: Config, folder: Path) -> Manifest:
    from gateway import app
    from gateway.admin import BackupError, back_up

    if not app.journal_file(config.state_dir).exists():
        raise Failed(f"there is no journal in {config.state_dir}: has the gateway run with this configuration?")
    try:
        async with _objects(config) as objects:
            return await back_up(config.state_dir, objects, folder)
    except BackupError as e:
        raise Failed(str(e)) from e


@asynccontextmanager
async def _objects(config: Config) -> AsyncIterator[KeptObjects]:
    """The store's objects, from the running gateway or, where none runs, from the store itself."""
    from gateway import app
    from gateway.admin import InStore, KeptByGateway

    async with KeptByGateway(config.state_dir / "control.sock") as running:
        if await running.answers():
            yield running
            return
    _as_its_owner(config)
    async with app.open_store(config) as store:
        yield InStore(store)


def _as_its_owner(config: Config) -> None:
    """What is made in ``state_dir`` by another user the gateway could not open. Raises Failed."""
    try:
        owner = config.state_dir.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"'#{owner}'"
        raise Failed(f"{config.state_dir} is another user's, and no gateway runs: run this as sudo -u {name}")


async def _restore(config: Config, folder: Path, *, replace: bool) -> Manifest:
    from gateway import app
    from gateway.admin import BackupError, read_manifest, restore_files, restore_objects, set_aside

    try:
        _as_its_owner(config)
        manifest = read_manifest(folder)
        there = app.journal_file(config.state_dir).exists()
        if there and not replace:
            raise Failed(
                f"there is a journal in {config.state_dir} already: restore with --replace, which keeps it beside the "
                "new one, or into an empty state_dir"
            )
        async with app.open_store(config) as store:
            await restore_objects(folder, manifest, store)
            # The journal last: it must not name what is not there yet.
            aside = set_aside(config.state_dir)
            await restore_files(folder, manifest, config.state_dir)
    except BackupError as e:
        raise Failed(str(e)) from e
    if aside is not None:
        click.echo(f"what was there is kept as {aside}")
    return manifest
