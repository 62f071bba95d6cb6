"""``alerts``: what people were told of, and what became of it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.common import CONFIG, load_config, open_journal, run
from gateway.runtime import SYSTEM_CLOCK
from gateway.runtime import printable as runtime_printable

if TYPE_CHECKING:
    from gateway.alerts import AlertStory
    from gateway.config import Config


@click.command()
@CONFIG
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for machines.")
def alerts(path: Path, limit: int, as_json: bool) -> None:
    """Tell what people were alerted of: since when, how often they were reminded, and how long it lasted.

    Those that stand come first. Works beside a running gateway, and without one. Ends with 1 where one stands, so that
    a monitor can run it. What is over is known for as long as events are kept (events.keep).

    \b
    Example: avara-gateway alerts --limit 10
    """
    found: list[AlertStory] = run(_alerts(load_config(path), limit))
    now = SYSTEM_CLOCK.now()
    if as_json:
        click.echo(json.dumps([story.to_dict(now) for story in found], indent=2, ensure_ascii=False))
    elif not found:
        click.echo("Nobody was alerted of anything.")
    for story in () if as_json else found:
        line = f"{_local(story.raised):%Y-%m-%d %H:%M:%S}  {_state(story, now):<32}  {story.kind}"
        click.secho(line, fg="red" if story.stands else None)
        click.echo(f"    {runtime_printable.printable(story.text)}")
    if any(story.stands for story in found):
        raise SystemExit(1)


async def _alerts(config: Config, limit: int) -> list[AlertStory]:
    from gateway.alerts import history

    async with open_journal(config) as journal:
        return await journal.run(lambda c: history(c, limit))


def _state(story: AlertStory, now: float) -> str:
    from gateway.page import span

    if not story.lasts:
        return "told once"
    again = f", {story.reminders} reminders" if story.reminders else ""
    if story.ended is None:
        return f"stands for {span(now - story.raised)}{again}"
    return f"over after {span(story.ended - story.raised)}{again}"


def _local(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at).astimezone()
