"""``trace``: one search that answers "why"."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.audit import record
from gateway.cli.common import CONFIG, DEFAULT_FILE, load_config, open_journal, run
from gateway.runtime import printable as runtime_printable

if TYPE_CHECKING:
    from gateway.admin import Entry, Trace
    from gateway.config import Config


@click.command()
@CONFIG
@click.argument("what")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def trace(path: Path, what: str, as_json: bool) -> None:
    """Tell all that happened to a study, in order, and why what failed did.

    WHAT is whatever you have in hand: a UID of study, series or instance, one of Avara's ids (stu_…, rep_…, whe_…), the
    id of a webhook, an accession number, a patient ID, the number of a job. Works beside a running gateway, and
    without one. Ends with 1 where nothing is known of it.

    \b
    Example: avara-gateway trace -c gateway.yaml stu_0123…
             avara-gateway trace -c gateway.yaml ACC-4711 --json
    """
    config = load_config(path)
    found, hidden = run(_trace(config, what))
    record(config, "trace", studies=[study.study_instance_uid for study in found.studies], searched=hidden)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show(found, "" if path == DEFAULT_FILE else f" -c {path}")
    if not found.found:
        raise SystemExit(1)


async def _trace(config: Config, what: str) -> tuple[Trace, str]:
    """What is known of it, and the key under which it would be kept if it named a patient."""
    from gateway.admin import trace as admin_trace
    from gateway.app import about, kept_secret
    from gateway.journal import EventLog

    async with open_journal(config) as journal:
        hidden = EventLog(journal, secret=kept_secret(config.state_dir / "events.key"), keep_for=0).hidden
        return await admin_trace.trace(journal, what, hidden=hidden, about=about), hidden(what)


def _show(found: Trace, option: str) -> None:
    """*option* is what the commands that are shown need to find the same configuration."""
    if not found.found:
        click.echo(
            f"Nothing is known of {found.what}: no webhook named it in the time that events are kept, and no study in "
            "the cache is called so."
        )
        return
    for study in found.studies:
        click.echo(f"{click.style('study', bold=True)}   {study.study_instance_uid}")
        if study.avara_ids:
            asked = f", first asked {_at(study.first_asked)}, last {_at(study.last_asked)}"
            click.echo(f"Avara   {', '.join(study.avara_ids)}{asked}")
        click.echo(f"cache   {study.cached}")
    day = None
    for entry in found.entries:
        if (today := _local(entry.at).date()) != day:
            day = today
            click.echo(f"\n{day.isoformat()}")
        _line(entry, alone=len({e.asked for e in found.entries}) == 1)
    for waiting in found.waiting:
        click.secho(
            f"\njob {waiting.job} ({waiting.kind}) waits for you: {runtime_printable.printable(waiting.reason)}",
            fg="red",
        )
        if waiting.acceptable:
            click.echo(f"  avara-gateway jobs accept{option} {waiting.job}     take the patient that the PACS has")
        click.echo(f"  avara-gateway jobs show{option} {waiting.job}       look at it first")
        click.echo(f"  avara-gateway jobs retry{option} {waiting.job}      once that is put right")
        click.echo(f'  avara-gateway jobs discard{option} {waiting.job} --why "…"')


def _line(entry: Entry, *, alone: bool) -> None:
    mark = " " if alone or not entry.asked else ">"
    text = (
        click.style(runtime_printable.printable(entry.text), fg="yellow")
        if entry.trouble
        else runtime_printable.printable(entry.text)
    )
    click.echo(f"{mark}{_local(entry.at):%H:%M:%S}  {entry.source:<24}  {text}")


def _local(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at).astimezone()


def _at(at: float | None) -> str:
    return "never" if at is None else f"{_local(at):%Y-%m-%d %H:%M:%S}"
