"""The commands. Each says what it does, shows an example, and ends with 0 (fine), 1 (failed) or 2 (misused); ``serve``
with 78 where its configuration is what is wrong."""

from __future__ import annotations

import faulthandler
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gateway import __version__
from gateway.cli.alerts import alerts
from gateway.cli.audit import audit, record
from gateway.cli.backup import backup, restore, roll_back
from gateway.cli.canary import test
from gateway.cli.check import check
from gateway.cli.common import CONFIG, MISCONFIGURED, Failed, become_owner, load_config, refuse_others, run
from gateway.cli.init import init
from gateway.cli.jobs import jobs
from gateway.cli.minio_user import minio_user
from gateway.cli.password import password
from gateway.cli.prefetch import prefetch
from gateway.cli.study import study
from gateway.cli.trace import trace
from gateway.runtime import leave_out
from gateway.runtime import printable as runtime_printable

if TYPE_CHECKING:
    from gateway.config import Config


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="avara-gateway")
def main() -> None:
    """Connects a hospital's PACS to Avara, a cloud radiology service.

    To begin: `init` writes a configuration, `check` says what is right and wrong with it and with what is around
    it, then `serve`. For completion in bash: eval "$(_AVARA_GATEWAY_COMPLETE=bash_source avara-gateway)"; with
    zsh_source and fish_source in those.
    """


@main.command()
@CONFIG
def serve(path: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    Ends with 78 where its configuration is wrong, so that a service manager need not try again until it is mended.

    \b
    Example: avara-gateway serve -c /etc/avara-gateway/gateway.yaml
    """
    # What decodes a stranger's pixels runs in processes that live for one file (runtime/confined.py). pydicom would
    # load it here as well: 34 MB of this one's memory.
    leave_out("gdcm", "numpy", "openjpeg", "PIL", "pylibjpeg")
    from gateway import app
    from gateway.admin import set_up_logging

    config = load_config(path, keys_needed=True, code=MISCONFIGURED)
    faulthandler.enable()  # where the service manager ends what hangs, its log says where it hung
    refuse_others(config.state_dir)
    log = set_up_logging(config.log.level, config.log.format)
    run(app.serve(config, log_loop=log.run))


@main.command("send-event")
@CONFIG
@click.argument(
    "type_",
    metavar="TYPE",
    type=click.Choice(["study.access_requested", "secondary_capture.access_requested", "report.delivered"]),
)
@click.option("--study-id", help="Avara's id of the study; made up if left out.")
@click.option("--study-instance-uid", help="The study, as the PACS knows it.")
@click.option("--series-instance-uid", help="For a capture: its series.")
@click.option("--sop-instance-uid", help="For a capture: its instance.")
@click.option("--report-id", help="For a report: Avara's id of it; made up if left out.")
@click.option("--presigned-url", help="For a report: the URL of its PDF.")
@click.option("--plain-text", help="For a report: its text.")
@click.option("--critical", is_flag=True, help="For a report: marks it as critical.")
@click.option("--data", help="Further fields of the event's data, as a JSON object.")
@click.option("--webhook-id", help="To repeat a delivery; made up if left out.")
@click.option("--url", help="The webhook's URL; by default the configured gateway on this machine.")
@click.option("--full", is_flag=True, help="Print URLs in full.")
def send_event(path: Path, type_: str, data: str | None, webhook_id: str | None, **options: Any) -> None:
    """Sign and send a test event as Avara would, and print the answer.

    \b
    Example: avara-gateway send-event -c gateway.yaml study.access_requested --study-instance-uid 1.2.840.1
    """
    config = load_config(path, keys_needed=True)
    url, full = options.pop("url"), options.pop("full")
    fields = _event_data(type_, options)
    if data is not None:
        try:
            fields |= json.loads(data)
        except (ValueError, TypeError):
            raise click.BadParameter("not a JSON object", param_hint="--data") from None
    event = {"id": f"whe_{secrets.token_hex(16)}", "type": type_, "data": fields}
    record(config, f"send-event {type_}", study=fields.get("studyInstanceUid"), event=event["id"])
    here = f"http://{_reachable(config.http.host)}:{config.http.port}"
    if config.http.tls is not None:
        here = config.gateway_url  # whose name the certificate has
    url = url or f"{here}{config.avara.path}"
    run(_send(config, url, event, webhook_id or f"msg_{secrets.token_hex(12)}", full=full))


def _event_data(type_: str, options: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if value is not None}
    critical = given.pop("critical")
    given.setdefault("study_id", f"stu_{secrets.token_hex(16)}")
    if type_ == "report.delivered":
        given.setdefault("report_id", f"rep_{secrets.token_hex(16)}")
        given["is_critical"] = critical
        if "presigned_url" not in given:
            raise click.UsageError("report.delivered needs --presigned-url")
    elif "study_instance_uid" not in given:
        raise click.UsageError(f"{type_} needs --study-instance-uid")
    words = {key: key.split("_") for key in given}
    return {words[key][0] + "".join(map(str.title, words[key][1:])): value for key, value in given.items()}


async def _send(config: Config, url: str, event: dict[str, Any], webhook_id: str, *, full: bool) -> None:
    import aiohttp

    from gateway.avara import sign

    body = json.dumps(event).encode()
    headers = sign(config.avara.webhook_keys[0].get_secret_value(), webhook_id, body)
    began = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=config.avara.answer_within + 5)
    trusted = ssl.create_default_context()
    if config.http.tls is not None:  # our own certificate, where the machine does not know its authority
        trusted.load_verify_locations(config.http.tls.certificate_file)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=trusted)) as http,
            http.post(url, data=body, headers=headers | {"Content-Type": "application/json"}) as answer,
        ):
            content = await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as e:
        reason = "does not answer" if isinstance(e, TimeoutError) else "cannot be reached"
        raise Failed(f"{url} {reason}: is the gateway running? avara-gateway serve -c FILE") from e
    click.echo(f"{answer.status} in {(time.monotonic() - began) * 1000:.0f} ms")
    try:
        shown = json.loads(content)
    except ValueError:
        shown = content
    click.echo(json.dumps(shown if full else _shortened(shown), indent=2, ensure_ascii=False))
    if answer.status >= 300:
        raise SystemExit(1)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value[:5]] + ([f"… {len(value) - 5} more"] if len(value) > 5 else [])
    if isinstance(value, str) and "X-Amz-Signature=" in value:
        return value.split("?")[0] + "?…"
    return value


@main.command()
@CONFIG
@click.argument("study_uid")
def fetch(path: Path, study_uid: str) -> None:
    """Fetch a study into the cache, with a progress bar.

    Works with or without a running gateway.

    \b
    Example: avara-gateway fetch -c gateway.yaml 1.2.840.113619.2.55.3
    """
    from gateway.dicom import is_usable

    if not is_usable(study_uid):
        raise click.BadParameter(
            "no PACS has a study under that: printable letters without *, ? and \\, 80 at most", param_hint="STUDY_UID"
        )
    config = load_config(path)
    from gateway import app  # noqa: F401  (as for check)

    become_owner(config.state_dir)
    fetched = run(_fetch(config, study_uid))
    record(config, "fetch", study=study_uid)
    if not fetched:
        raise SystemExit(1)


async def _fetch(config: Config, study_uid: str) -> bool:
    from gateway import app
    from gateway.admin import ask, fetch_progress

    try:
        command = f"/fetch/{quote(study_uid, safe='')}"
        return await _show_progress(study_uid, ask(config.state_dir / "control.sock", command))
    except ConnectionError:
        pass
    async with app.open_gateway(config) as gateway:
        return await _show_progress(study_uid, fetch_progress(gateway.fetcher, study_uid))


async def _show_progress(study_uid: str, lines: AsyncIterator[dict[str, Any]]) -> bool:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[count]} instances"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    last: dict[str, Any] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(study_uid, total=None, count="0")
        async for last in lines:
            stored, expected = last["stored"], last["expected"]
            total = last["bytes"] / stored * expected if stored and expected else None
            progress.update(task, completed=last["bytes"], total=total, count=f"{stored} of {expected or '?'}")
    outcome = last.get("outcome", "failed")
    click.echo(f"{study_uid}: {outcome}: {runtime_printable.printable(last.get('text', 'the gateway stopped'))}")
    for uid in last.get("missing", [])[:20]:
        click.echo(f"  missing: {uid}")
    return bool(outcome == "complete")


@main.command()
@click.option("--keep", is_flag=True, help="Keep running afterwards, to play with, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Do the main job for real on this machine, and report what happened.

    Starts a PACS with a small study, the embedded store and the gateway, sends a signed event as Avara would,
    opens every URL that comes back and compares it with what the PACS holds.
    """
    from gateway import demo as shown

    raise SystemExit(shown.run(keep=keep))


@main.command("config")
@CONFIG
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file instead, for editors.")
def config_command(path: Path, schema: bool) -> None:
    """Print the configuration in effect, with secrets masked.

    \b
    Example: avara-gateway config -c gateway.yaml
    Any key can be set by the environment: AVARA_GATEWAY__PACS__0__HOST=10.1.2.4
    """
    if schema:
        from gateway.config import schema as json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    from gateway.config import effective

    config = load_config(path)
    click.echo(effective(config), nl=False)
    for warning in config.warnings():
        click.echo(f"note: {warning}", err=True)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  (compared, not listened on)


main.add_command(alerts)
main.add_command(backup)
main.add_command(restore)
main.add_command(roll_back)
main.add_command(audit)
main.add_command(check)
main.add_command(init)
main.add_command(jobs)
main.add_command(minio_user)
main.add_command(password)
main.add_command(prefetch)
main.add_command(study)
main.add_command(test)
main.add_command(trace)
