"""``test``: opens a study as Avara and its viewer would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.common import CONFIG, Failed, load_config, run

if TYPE_CHECKING:
    from gateway.config import Config


@click.command()
@CONFIG
@click.option("--study-uid", help="The study; by default the one of canary.study_uid.")
def test(path: Path, study_uid: str | None) -> None:
    """Open a study as Avara and its viewer would, through the public URL.

    One signed event, then every URL of the answer, as a page of Avara's origin opens it. Ends with 1, and says where it
    failed, unless the whole study came. The gateway has to run. It leaves nothing behind but the study in the cache.

    \b
    Example: avara-gateway test --study-uid 1.2.840.113619.2.55.3
    """
    from gateway.dicom import is_usable

    config = load_config(path, keys_needed=True)
    study = study_uid or config.canary.study_uid
    if study is None:
        raise click.UsageError("name a study: --study-uid, or canary.study_uid in the configuration")
    if not is_usable(study):
        raise click.BadParameter(
            "no PACS has a study under that: printable letters without *, ? and \\, 80 at most",
            param_hint="--study-uid",
        )
    run(_open(config, study))


async def _open(config: Config, study: str) -> None:
    from gateway import app
    from gateway.admin import CanaryFailed

    canary = app.canary_of(config)
    assert canary is not None, "there are keys"
    try:
        click.echo(str(await canary.open(study)))
    except CanaryFailed as e:
        raise Failed(str(e)) from e
