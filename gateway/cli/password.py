"""``password``: what the configuration keeps of somebody's password for the page."""

from __future__ import annotations

import sys

import click

from gateway.cli.common import Failed


@click.command()
def password() -> None:
    """Make the hash of a password, for `page.users` in the configuration.

    Asks for the password, or takes the first line of what it is piped. The hash tells nobody the password.

    \b
    Example: avara-gateway password
             avara-gateway password < file
    """
    from gateway.page import LEAST, make

    if sys.stdin.isatty():
        given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        given = sys.stdin.readline().rstrip("\n")
    if len(given) < LEAST:
        raise Failed(f"it is too short: {LEAST} characters are the least; a few words make a good one")
    click.echo(make(given))
