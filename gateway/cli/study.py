"""``study``: looks at one study in the cache, drops it, has it fetched anew."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gateway.cli.audit import record
from gateway.cli.common import CONFIG, load_config, operator, run

if TYPE_CHECKING:
    from gateway.config import Config

WHY = click.option("--why", default="no reason given", show_default=True, help="The reason, for the record.")


@click.group()
def study() -> None:
    """Look at a study in the cache, drop it, or have it fetched anew.

    All three work with or without a running gateway.
    """


@study.command()
@CONFIG
@click.argument("study_uid")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.option("--why", "access", is_flag=True, help="Whether the access policy lets Avara have it, and by which rule.")
def show(path: Path, study_uid: str, as_json: bool, access: bool) -> None:
    """Tell what the cache has of a study, or whether Avara may have it: nothing of its patient.

    \b
    Example: avara-gateway study show -c gateway.yaml 1.2.840.113619.2.55.3
    """
    [line] = run(_lines(path, study_uid, "access" if access else "show", ""))
    record(load_config(path, keys_needed=False), "show access" if access else "show study", study=study_uid)
    if access:
        if as_json:
            click.echo(json.dumps(line, indent=2))
        _end(line, silent=as_json)
        return
    if as_json:
        click.echo(json.dumps(line, indent=2))
    elif line["ok"]:
        _show(line)
    _end(line, silent=as_json)


@study.command()
@CONFIG
@click.argument("study_uid")
@WHY
def drop(path: Path, study_uid: str, why: str) -> None:
    """Delete a study from the cache: URLs of it that were given out die at once.

    The PACS keeps it, and it is fetched again when it is opened.

    \b
    Example: avara-gateway study drop -c gateway.yaml 1.2.840.113619.2.55.3 --why "wrong patient"
    """
    [line] = run(_lines(path, study_uid, "drop", f"{why} ({operator()})"))
    record(load_config(path, keys_needed=False), "drop", study=study_uid, why=why)
    _end(line)


@study.command()
@CONFIG
@click.argument("study_uid")
@WHY
def refetch(path: Path, study_uid: str, why: str) -> None:
    """Fetch a study anew beside what is cached, and change over once it is whole.

    What was cached is answered until then; where the study does not come whole, it stays.

    \b
    Example: avara-gateway study refetch -c gateway.yaml 1.2.840.113619.2.55.3 --why "pixels replaced in the PACS"
    """
    line = run(_lines(path, study_uid, "refetch", f"{why} ({operator()})"))[-1]
    record(load_config(path, keys_needed=False), "refetch", study=study_uid, why=why)
    _end({"ok": line.get("outcome") == "complete", "text": f"{line.get('outcome', 'failed')}: {line.get('text')}"})


async def _lines(path: Path, study_uid: str, what: str, why: str) -> list[dict[str, Any]]:
    from gateway.dicom import is_usable

    if not is_usable(study_uid):
        raise click.BadParameter(
            "no PACS has a study under that: printable letters without *, ? and \\, 80 at most", param_hint="STUDY_UID"
        )
    config = load_config(path, keys_needed=False)
    return [line async for line in _ask(config, study_uid, what, why)]


async def _ask(config: Config, study_uid: str, what: str, why: str) -> AsyncIterator[dict[str, Any]]:
    from gateway import app
    from gateway.admin import ask

    try:
        command = f"/study/{what}/{quote(study_uid, safe='')}?why={quote(why)}"
        async for line in ask(config.state_dir / "control.sock", command):
            yield line
    except ConnectionError:
        async with app.open_gateway(config) as gateway:
            async for line in gateway.studies.do(what, study_uid, why):
                yield line
            await gateway.events.flush()


def _show(line: dict[str, Any]) -> None:
    click.echo(f"{line['study']} from PACS {line['pacs'] or '(as it was sent)'}")
    whole = "complete" if line["complete"] else "perhaps not complete"
    click.echo(f"  {line['instances']} instances, {line['shown']} shown, {line['bytes'] / 1e6:.1f} MB, {whole}")
    for name, text in (
        ("fetched", "fetched"),
        ("compared", "compared with the PACS"),
        ("urls_valid_until", "URLs work until"),
    ):
        if line[name]:
            click.echo(f"  {text} {datetime.datetime.fromtimestamp(line[name]).astimezone():%Y-%m-%d %H:%M:%S}")
    for name in ("rejection_notes", "rejected", "not_yet_listed", "replaced"):
        if line[name]:
            more = ", …" if len(line[name]) > 5 else ""
            click.echo(f"  {name.replace('_', ' ')}: {len(line[name])} ({', '.join(line[name][:5])}{more})")
    for uid, note in line["odd"].items():
        click.echo(f"  {uid}: {note}")
    if line["in_flight"]:
        click.echo("  it is being fetched now")


def _end(line: dict[str, Any], *, silent: bool = False) -> None:
    if "text" in line and not silent:
        click.echo(line["text"])
    if not line["ok"]:
        raise SystemExit(1)
