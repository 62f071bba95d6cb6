"""``audit``: whether the trail of who was given what is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CONFIG, Failed, load_config, operator
from gateway.runtime import SYSTEM_CLOCK

if TYPE_CHECKING:
    from gateway.config import Config


@click.group()
def audit() -> None:
    """The audit trail: who was given which study, when, from where, and with what outcome.

    It lies in the folder audit of state_dir, as JSON lines; files that are full are compressed (zgrep reads them).
    """


@audit.command("verify")
@CONFIG
@click.option("--head", help="A head that was kept elsewhere, as the log tells it each hour: NUMBER:HASH.")
def verify(path: Path, head: str | None) -> None:
    """Say whether the trail is whole: nothing altered, removed or put in between.

    What was cut off at its end only a head shows that was kept elsewhere: the gateway tells it to its log each hour.
    Ends with 1 where the trail is not whole.

    \b
    Example: avara-gateway audit verify -c gateway.yaml
             avara-gateway audit verify -c gateway.yaml --head 4711:9f86d081884c7d65…
    """
    from gateway.app import audit_file
    from gateway.audit import Head

    known = None
    if head is not None:
        number, _, digest = head.partition(":")
        if not number.isdecimal() or len(digest) != 64:
            raise click.BadParameter("write it as the log has it: NUMBER:HASH", param_hint="--head")
        known = Head(int(number), digest)
    file = audit_file(load_config(path))
    if file is None:
        raise Failed("there is no audit trail: audit.enabled is false")
    try:
        verdict = file.verify(known=known)
    except (OSError, EOFError) as e:
        raise Failed(f"the audit trail cannot be read ({e}): run this as the gateway's own user, or as root") from e
    click.echo(f"{verdict.entries} entries, {verdict.first or 'none'} to {verdict.last or 'now'}")
    click.echo(f"head {verdict.head}")
    for problem in verdict.problems:
        click.secho(f"FAIL  {problem}", fg="red")
    if verdict.problems:
        raise SystemExit(1)
    click.echo("whole")


def record(config: Config, action: str, **details: Any) -> None:
    """Notes what somebody does by a command. Where that cannot be written they are told, and go on: a disk that is full
    is what they may be mending."""

    from gateway.app import audit_file
    from gateway.audit import Entry, NotWritten

    file = audit_file(config)
    if file is None or not config.state_dir.is_dir():
        return
    try:
        file.append([Entry(SYSTEM_CLOCK.now(), "operator", {"by": operator(), "did": action, **details})])
    except NotWritten as e:
        click.echo(f"avara-gateway: not in the audit trail: {e}", err=True)
