"""``check``: the doctor."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CONFIG, become_owner, run
from gateway.runtime import printable as runtime_printable

if TYPE_CHECKING:
    from gateway.config import Config

Line = dict[str, Any]

SILENT_FOR = 2.0
"""Seconds after which it is told what is waited for."""

_MARKS: dict[bool | None, tuple[str, str]] = {True: ("ok  ", "green"), False: ("FAIL", "red"), None: ("note", "yellow")}


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for monitors.")
@click.option("--for-pacs", is_flag=True, help="Print what the PACS's administrator has to enter, ready to send.")
def check(path: Path, as_json: bool, for_pacs: bool) -> None:
    """Say step by step what is right, what is wrong, and how to fix it.

    Looks at the file that is named, the clock, the store, our own DICOM listener, each PACS (C-ECHO, C-FIND, and
    whether it really sends an instance to us), where reports and alerts go, and what Avara and browsers see through
    the public URL. Works with or without a running gateway; beside one, it also says what of the file that one does
    not have yet. Changes nothing; ends with 1 where something fails.

    \b
    Example: avara-gateway check
             avara-gateway check -c gateway.yaml --for-pacs
    """
    from gateway.config import ConfigError, load

    teller = _Teller(as_json)
    try:
        config = load(path, keys_needed=False)
    except ConfigError as e:
        for mistake in e.mistakes:
            teller.tell(False, "configuration", str(mistake))
        teller.end()
        raise SystemExit(1) from None
    if for_pacs:
        _tell_pacs(config)
        return
    from gateway import app  # noqa: F401  (read while this is still root, who may read more than the gateway's user)

    become_owner(config.state_dir)
    teller.tell(True, "configuration", str(path))
    for warning in config.warnings():
        teller.tell(None, "configuration", warning)
    run(_check(config, teller, handed=path.absolute().with_name("webhook_keys")))
    teller.end()
    sys.stdout.flush()
    # A thread that still waits for a store that never answers keeps nobody waiting.
    os._exit(0 if teller.fine else 1)


class _Teller:
    """Tells each result as it comes, or all of them at the end, for machines."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._told: list[Line] = []
        self.waits_for = ""

    @property
    def fine(self) -> bool:
        """Whether nothing failed."""
        return all(line["ok"] is not False for line in self._told)

    def tell(self, ok: bool | None, name: str, text: str) -> None:
        """One result."""
        self._told.append({"name": name, "ok": ok, "text": text})
        if not self._as_json:
            mark, colour = _MARKS[ok]
            click.echo(f"{click.style(mark, fg=colour)}  {name}: {runtime_printable.printable(text)}")

    def take(self, line: Line) -> None:
        """A line of what is told while it is checked."""
        if "begins" in line:
            self.waits_for = line["begins"]
        else:
            self.tell(line["ok"], line["name"], line["text"])

    def waiting(self) -> None:
        """Nothing has come for a while."""
        if sys.stderr.isatty() and not self._as_json:
            click.echo(click.style(f"…     {self.waits_for or 'starting'}", dim=True), err=True)

    def end(self) -> None:
        """That was all."""
        counts = {ok: sum(line["ok"] is ok for line in self._told) for ok in _MARKS}
        if self._as_json:
            document = {"ok": self.fine, "failed": counts[False], "notes": counts[None], "results": self._told}
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            click.echo(f"{counts[False]} FAIL, {counts[None]} note{'s' * (counts[None] != 1)}, {counts[True]} ok")


async def _check(config: Config, teller: _Teller, *, handed: Path) -> None:
    """*handed* is the file of keys that the unit hands on to the service."""
    from gateway import app
    from gateway.admin import GatewayGone, ask
    from gateway.config import revealed

    try:
        await _tell_all(ask(config.state_dir / "control.sock", "/check", revealed(config)), teller)
    except ConnectionError:
        pass
    except GatewayGone as e:
        teller.tell(False, "gateway", str(e))
        return
    else:
        return
    if not config.avara.webhook_keys and handed.exists():
        teller.tell(True, "webhook key", f"the unit hands {handed} on")
    elif not config.avara.webhook_keys:
        teller.tell(
            False, "webhook key", "there is none in the file, and none that this shell sees: put it into a file that "
            "avara.webhook_keys_file names, where every command finds it",
        )  # fmt: skip
    else:
        teller.tell(True, "webhook key", f"{len(config.avara.webhook_keys)} configured")
    with tempfile.TemporaryDirectory(prefix="avara-check-") as scratch:
        if not config.state_dir.exists():
            teller.tell(None, "state_dir", f"{config.state_dir} is not there yet: the gateway makes it when it starts")
            config = config.model_copy(update={"state_dir": Path(scratch) / "state"})
        try:
            async with app.looking(config) as lines:
                await _tell_all((told.to_dict() async for told in lines), teller)
        except app.CANNOT_START as e:
            teller.tell(False, "gateway", app.why(e))


async def _tell_all(lines: AsyncIterator[Line], teller: _Teller) -> None:
    async def waits() -> None:
        while True:
            await asyncio.sleep(SILENT_FOR)
            if silent:
                teller.waiting()
            silent.append(True)

    silent = [True]
    watch = asyncio.create_task(waits())
    try:
        async with aclosing(lines) as coming:  # type: ignore[type-var]
            async for line in coming:
                silent.clear()
                teller.take(line)
    finally:
        watch.cancel()


def _tell_pacs(config: Config) -> None:
    from gateway.admin import UNKNOWN
    from gateway.admin import for_pacs as admin_for_pacs

    letters = [admin_for_pacs.for_pacs(config, pacs) for pacs in config.pacs]
    click.echo("\n\n".join(letters))
    if any(UNKNOWN in letter for letter in letters):
        click.echo("set dicom.advertised_host to this machine's address first, as the PACS reaches it", err=True)
