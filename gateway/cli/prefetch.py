"""``prefetch``: what is fetched before anybody asks."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.audit import record
from gateway.cli.common import CONFIG, Failed, load_config, open_journal, run

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.journal import Prefetch


@click.group()
def prefetch() -> None:
    """See what is fetched before anybody asks, or have a study fetched so.

    Both work with or without a running gateway.
    """


@prefetch.command("list")
@CONFIG
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Rows at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
def list_(path: Path, limit: int, as_json: bool) -> None:
    """Tell what is being prefetched, what waits, and what was last: nothing of patients.

    \b
    Example: avara-gateway prefetch list -c gateway.yaml
    """
    config = load_config(path)
    counts, rows = run(_listed(config, limit))
    if as_json:
        for row in rows:
            values = dataclasses.asdict(row)
            click.echo(json.dumps(values | {name: values[name].value for name in ("task", "cause", "state")}))
        return
    if not config.prefetch.enabled:
        click.echo("prefetch.enabled is false: nothing is prefetched")
    click.echo(
        f"{counts['running']} running, {counts['waiting']} waiting; of the last 14 days {counts['done']} done, "
        f"{counts['opened']} of them opened since, {counts['overtaken']} opened before they were here, "
        f"{counts['given up']} given up"
    )
    for row in rows:
        _show(row)


def _show(row: Prefetch) -> None:
    at = datetime.datetime.fromtimestamp(row.ended or row.next_at).astimezone()
    what = "priors of " if row.task.value == "priors" else ""
    size = f", {row.size / 1e6:.1f} MB" if row.size else ""
    why = f": {row.reason}" if row.reason else ""
    click.echo(f"{at:%m-%d %H:%M:%S}  {row.state.value:<9}  {what}{row.study_instance_uid}  {row.pacs}{size}{why}")


async def _listed(config: Config, limit: int) -> tuple[dict[str, int], list[Prefetch]]:
    from gateway.journal import prefetches

    async with open_journal(config) as journal:
        return await journal.run(lambda c: (prefetches.counts(c), prefetches.listed(c, limit)))


@prefetch.command()
@CONFIG
@click.argument("study_uid")
@click.option("--pacs", help="The PACS that has it; by default the first that is prefetched from.")
def now(path: Path, study_uid: str, pacs: str | None) -> None:
    """Have a study fetched next, whatever windows, rates and rules say; what somebody waits for still goes first.

    \b
    Example: avara-gateway prefetch now -c gateway.yaml 1.2.840.113619.2.55.3
    """
    from gateway.dicom import is_usable

    if not is_usable(study_uid):
        raise click.BadParameter(
            "no PACS has a study under that: printable letters without *, ? and \\, 80 at most", param_hint="STUDY_UID"
        )
    config = load_config(path)
    names = [one.name for one in config.pacs if one.prefetch.enabled]
    if not config.prefetch.enabled or not names:
        raise Failed("nothing is prefetched: set prefetch.enabled, or use avara-gateway fetch")
    if pacs is not None and pacs not in names:
        raise Failed(f"no PACS that is prefetched from is named {pacs}; there are {', '.join(names)}")
    if run(_want(config, study_uid, pacs or names[0])):
        click.echo(f"{study_uid}: it goes first; avara-gateway prefetch list shows what becomes of it")
    else:
        click.echo(f"{study_uid}: it is being prefetched now")
    record(config, "prefetch", study=study_uid)


async def _want(config: Config, study_uid: str, pacs: str) -> bool:
    from gateway.journal import Cause, Task, prefetches

    async with open_journal(config) as journal:
        return await journal.run(lambda c: prefetches.want(c, study_uid, Task.STUDY, pacs=pacs, cause=Cause.OPERATOR))
