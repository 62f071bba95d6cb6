"""``init``: a first configuration, by six questions."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import CONFIG, Failed, load_config, run
from gateway.runtime import printable as runtime_printable

GROUP = "avara-gateway"
"""Of the service's user, which has to read what root writes here."""

_TEMPLATE = """\
# The first configuration of this gateway; config/reference.md has every key there is. Once it is changed:
# avara-gateway check, then systemctl restart avara-gateway.
avara:
  webhook_keys_file: {keys}
http:
  public_url: {public_url}
dicom:
  ae_title: {ae_title}
pacs:
  - name: main
    ae_title: {pacs_ae_title}
    host: {pacs_host}
    port: {pacs_port}
"""


class _Answer(click.ParamType[str]):
    """An answer that the configuration takes; another is asked for again."""

    name = "text"

    def __init__(self, *keys: str | int) -> None:
        self._keys = keys

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """*value*, where it is one."""
        from pydantic import ValidationError

        from gateway.config import Config, Source, mistake

        text = str(value).strip()
        answer: Any = text
        for key in reversed(self._keys):
            answer = [answer] if key == 0 else {key: answer}
        try:
            Config.model_validate(answer)
        except ValidationError as e:
            for error in e.errors():
                if error["loc"][: len(self._keys)] == self._keys:
                    self.fail(mistake(error, Source(Path(), {})).text, param, ctx)
        return text


@click.command()
@CONFIG
@click.option("--webhook-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with the webhook's key as Avara shows it; else it is asked for, unseen.")  # fmt: skip
@click.option("--later", is_flag=True, help="The key comes later: its file is left empty, and nothing is tried.")
@click.option("--public-url", type=_Answer("http", "public_url"), prompt="URL of this gateway for Avara and browsers",
              help="Like https://gateway.example.org.")  # fmt: skip
@click.option("--pacs-host", type=_Answer("pacs", 0, "host"), prompt="Address of the PACS", help="Name or address.")
@click.option("--pacs-port", type=_Answer("pacs", 0, "port"), prompt="Its DICOM port", help="Often 104 or 11112.")
@click.option("--pacs-ae-title", type=_Answer("pacs", 0, "ae_title"), prompt="Its AE title", help="In its letters.")
@click.option("--ae-title", type=_Answer("dicom", "ae_title"), prompt="Our AE title", default="AVARAGW",
              show_default=True, help="As the PACS is to know us.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
def init(path: Path, webhook_key_file: Path | None, later: bool, force: bool, **answers: str) -> None:
    """Write a first configuration by asking six questions, and try what was answered.

    Every question has an option, so that a script can answer. The key of the webhook goes into a file of its own beside
    the configuration, which its owner alone reads; the unit hands it on to the gateway.

    \b
    Example: avara-gateway init
             avara-gateway init -c gateway.yaml --webhook-key-file key --public-url https://gateway.example.org \\
               --pacs-host 10.1.2.4 --pacs-port 104 --pacs-ae-title PACS --ae-title AVARAGW
    """
    keys = path.absolute().with_name("webhook_keys")
    for file in (path, keys):
        if file.exists() and not force:
            raise Failed(f"{file} is there already: change it, or replace it with --force")
    key = "" if later else f"{_key(webhook_key_file)}\n"
    if answers["pacs_ae_title"] == answers["ae_title"]:
        raise Failed("the PACS and this gateway cannot have the same AE title: write the PACS's own")
    written = _TEMPLATE.format(
        keys=json.dumps(str(keys)),
        pacs_port=answers.pop("pacs_port"),
        **{name: json.dumps(answer) for name, answer in answers.items()},
    )
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        _write(keys, key, shared=False)
        _write(path, written, shared=True)
    except OSError as e:
        raise Failed(
            f"{e.filename} cannot be written ({e.strerror}): run this as root (sudo), or name another -c"
        ) from e
    click.echo(f"written: {path}, and the key {'belongs' if later else 'is'} in {keys}")
    if not later:
        _try(path)
    click.echo(
        f"next: avara-gateway check -c {path} --for-pacs    what the PACS's administrator has to enter\n"
        f"      avara-gateway check -c {path}               whether everything works\n"
        "      systemctl enable --now avara-gateway"
    )


def _key(file: Path | None) -> str:
    kind = _Answer("avara", "webhook_keys", 0)
    if file is None:
        return str(click.prompt("Key of Avara's webhook (whsec_…)", hide_input=True, type=kind))
    try:
        return kind.convert(file.read_text(encoding="utf-8-sig"), None, None)
    except (OSError, UnicodeDecodeError):
        raise Failed(f"{file} cannot be read") from None


def _write(file: Path, text: str, *, shared: bool) -> None:
    """Writes a file that its owner alone can change and read; a *shared* one the service, too."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    if shared and os.geteuid() == 0:
        try:
            os.chown(new, 0, grp.getgrnam(GROUP).gr_gid)
        except KeyError:
            pass  # it is made when the service is installed
        else:
            new.chmod(0o640)
    new.replace(file)


def _try(path: Path) -> None:
    """What can be tried now: the file, and a C-ECHO of the PACS."""
    from gateway.pacs import PacsError, Peer
    from gateway.pacs.scu import PacsClient

    config = load_config(path, keys_needed=True)
    [pacs] = config.pacs
    peer = Peer(pacs.name, pacs.ae_title, pacs.host, pacs.port, config.dicom.ae_title)

    async def echo() -> str:
        try:
            await PacsClient(peer, advertised=config.advertised).echo()
        except PacsError as e:
            return f"note  {e}"
        return f"ok    {peer} answers a C-ECHO"

    click.echo(runtime_printable.printable(run(echo())))
