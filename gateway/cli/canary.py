"""``test``: opens a study as Avara and its viewer would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.audit import record
from gateway.cli.common import CONFIG, Failed, load_config, run

if TYPE_CHECKING:
    from gateway.config import Config


@click.command()
@CONFIG
@click.option("--study-uid", help="The study; by default the one of canary.study_uid.")
@click.option(
    "--synthetic", is_flag=True, help="Store, open, find and remove a synthetic study; the PACS is written to."
)
def test(path: Path, study_uid: str | None, synthetic: bool) -> None:
    """Open a study as Avara and its viewer would, through the public URL.

    One signed event, then every URL of the answer, as a page of Avara's origin opens it. Ends with 1, and says where it
    failed, unless the whole study came. The gateway has to run. It leaves nothing behind but the study in the cache.

    With --synthetic, or canary.synthetic and no study, what goes into the PACS is tested, too: a study of a patient who
    does not exist is stored in it and opened, a capture uploaded and a report stored, and all of it found there. It is
    removed again where canary.remove says how; else it stays, always the same few objects.

    \b
    Example: avara-gateway test --study-uid 1.2.840.113619.2.55.3
             avara-gateway test --synthetic
    """
    from gateway.dicom import is_usable

    config = load_config(path, keys_needed=True)
    study = study_uid or (None if synthetic else config.canary.study_uid)
    synthetic = synthetic or (study is None and config.canary.synthetic)
    if study is None and not synthetic:
        raise click.UsageError("name a study: --study-uid, or canary.study_uid in the configuration; or --synthetic")
    if study is not None and not is_usable(study):
        raise click.BadParameter(
            "no PACS has a study under that: printable letters without *, ? and \\, 80 at most",
            param_hint="--study-uid",
        )
    if study is not None:
        record(config, "test", study=study)
        run(_open(config, study))
    if synthetic:
        record(config, "test with a synthetic study")
        run(_sing(config))


async def _open(config: Config, study: str) -> None:
    from gateway import app
    from gateway.admin import CanaryFailed

    canary = app.canary_of(config)
    assert canary is not None, "there are keys"
    try:
        click.echo(str(await canary.open(study)))
    except CanaryFailed as e:
        raise Failed(str(e)) from e


async def _sing(config: Config) -> None:
    from gateway.admin import ask

    try:
        async for line in ask(config.state_dir / "control.sock", "/synthetic"):
            if "step" in line:
                click.echo(line["step"])
            elif line["ok"]:
                click.echo(line["text"])
            else:
                raise Failed(line["text"])
    except ConnectionError as e:
        raise Failed("no gateway runs with this configuration: start it first") from e
