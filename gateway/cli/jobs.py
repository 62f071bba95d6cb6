"""``jobs``: what is under way to the PACS and elsewhere, what waits for an operator, and what is to become of it.

Works on the journal itself, so beside a running gateway, which looks at it every second, and without one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.audit import record
from gateway.cli.common import CONFIG, Failed, load_config, open_journal, operator, run
from gateway.runtime import printable as runtime_printable

if TYPE_CHECKING:
    from gateway.journal import Job, Journal, PausedLane

_COLOURS = {"quarantined": "red", "waiting": "yellow", "running": "cyan", "done": "green"}


@click.group()
def jobs() -> None:
    """Captures and reports on their way: list them, look at one, retry, discard.

    A job that cannot be done as things are is quarantined: it waits for you. Put right what its last error says,
    then `retry` it; or `discard` it. Nothing is ever dropped by itself.

    \b
    Example: avara-gateway jobs list -c /etc/avara-gateway/gateway.yaml
             avara-gateway jobs retry -c /etc/avara-gateway/gateway.yaml 17
    """


@jobs.command("list")
@CONFIG
@click.option("--all", "every", is_flag=True, help="Also finished jobs, and the gateway's own housekeeping.")
@click.option("--state", type=click.Choice(["waiting", "running", "quarantined", "done", "discarded"]), multiple=True)
@click.option("--kind", multiple=True, help="Only jobs of this kind, such as capture.store.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Show at most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts.")
def list_jobs(
    path: Path, every: bool, state: tuple[str, ...], kind: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Show unfinished jobs, the latest first.

    Ends with 1 where a job waits for an operator, so that a monitor can run it.

    \b
    Example: avara-gateway jobs list -c gateway.yaml --state quarantined
    """
    from gateway.journal import JobState

    wanted = [JobState(s) for s in state] or (
        [] if every else [JobState.WAITING, JobState.RUNNING, JobState.QUARANTINED]
    )

    async def work(journal: Journal) -> tuple[list[Job], dict[str, int], Sequence[PausedLane]]:
        from gateway.journal import CLEAN, Jobs

        # Our own housekeeping only where it is asked for.
        cleaning = every or bool(kind)
        found = await Jobs(journal).list(wanted, kind, cleaning=cleaning, limit=limit)
        counts: dict[str, int] = {}
        for (name, where), number in (await Jobs(journal).counts()).items():
            if cleaning or name != CLEAN:
                counts[where.value] = counts.get(where.value, 0) + number
        return list(found), counts, await Jobs(journal).paused_lanes()

    found, counts, paused = _with_journal(path, work)
    for job in found:
        click.echo(json.dumps(_line(job)) if as_json else _shown(job))
    if not as_json:
        for lane in paused:
            click.echo(
                f"{lane.kind} for {lane.lane}: not answered {lane.failures} times in a row, since "
                f"{_moment(lane.since)}; asked again by itself, what waits for it goes on then\n        "
                + runtime_printable.printable(lane.reason)
            )
        known = ", ".join(f"{n} {where}" for where, n in sorted(counts.items()))
        click.echo(f"{len(found)} shown; in all: {known}" if counts else "no job yet")
    if counts.get("quarantined"):
        raise SystemExit(1)


@jobs.command("show")
@CONFIG
@click.argument("number", type=int)
@click.option("--payload", is_flag=True, help="Also the job's own data, which for a report may include patient data.")
def show_job(path: Path, number: int, payload: bool) -> None:
    """Show one job with everything that has happened to it, also what the other side said, as it said it.

    \b
    Example: avara-gateway jobs show -c gateway.yaml 17
    """

    async def work(journal: Journal) -> tuple[Job | None, Any]:
        from gateway.journal import Jobs

        return await Jobs(journal).get(number), await Jobs(journal).history(number)

    job, history = _with_journal(path, work)
    if job is None:
        raise Failed(f"there is no job {number}: avara-gateway jobs list -c {path} --all shows all")
    did = "show payload" if payload else "show job"
    record(load_config(path), did, jobs=[number], study=_about(job).get("study"))
    click.echo(_shown(job))
    for name, value in _about(job).items():
        click.echo(f"  {name.replace('_', ' ')}: {runtime_printable.printable(value)}")
    for entry in history:
        click.echo(f"  {_moment(entry.at)}  {runtime_printable.printable(entry.text)}")
    if payload:
        click.echo(json.dumps(json.loads(job.kept), indent=2, ensure_ascii=False))


@jobs.command("retry")
@CONFIG
@click.argument("numbers", type=int, nargs=-1)
@click.option("--quarantined", is_flag=True, help="All jobs that wait for an operator.")
def retry_jobs(path: Path, numbers: tuple[int, ...], quarantined: bool) -> None:
    """Try jobs again now, and then with growing pauses, as if they were new.

    \b
    Example: avara-gateway jobs retry -c gateway.yaml 17 18
             avara-gateway jobs retry -c gateway.yaml --quarantined
    """
    if bool(numbers) == quarantined:
        raise click.UsageError("give the numbers of jobs, or --quarantined for all that wait for you")

    async def work(journal: Journal) -> list[int]:
        from gateway.journal import Jobs, JobState

        table = Jobs(journal)
        chosen = list(numbers) or [j.id for j in await table.list([JobState.QUARANTINED], limit=100_000)]
        for number in chosen:
            await table.retry(number, by=operator())
        return chosen

    chosen = _with_journal(path, work)
    record(load_config(path), "retry", jobs=chosen)
    click.echo(f"{_jobs(chosen)} tried again, at once if the gateway runs" if chosen else "no job is quarantined")


@jobs.command("discard")
@CONFIG
@click.argument("numbers", type=int, nargs=-1, required=True)
@click.option("--why", required=True, help="The reason, for the record.")
def discard_jobs(path: Path, numbers: tuple[int, ...], why: str) -> None:
    """Give jobs up. What they were to deliver is kept for seven more days, then removed.

    \b
    Example: avara-gateway jobs discard -c gateway.yaml 17 --why "uploaded to the wrong study"
    """

    async def work(journal: Journal) -> None:
        from gateway.journal import Jobs

        for number in numbers:
            await Jobs(journal).discard(number, f"by an operator ({operator()}): {why}")

    _with_journal(path, work)
    record(load_config(path), "discard", jobs=list(numbers), why=why)
    click.echo(f"{_jobs(numbers)} discarded")


@jobs.command("accept")
@CONFIG
@click.argument("number", type=int)
def accept_capture(path: Path, number: int) -> None:
    """Let a capture take the PACS's patient, for this one, and be stored.

    For a capture that waits since its patient is not the study's, once you know that it is: the PACS's patient is put
    into the object, and what it said before is kept in it, with when and by what it was changed.

    \b
    Example: avara-gateway jobs accept -c gateway.yaml 17
    """

    async def work(journal: Journal) -> None:
        from gateway.captures import accept as captures_accept

        await journal.run(lambda c: captures_accept.accept(c, number, by=operator()))

    _with_journal(path, work)
    record(load_config(path), "accept", jobs=[number])
    click.echo(f"job {number} takes the PACS's patient and continues, at once if the gateway is running")


@jobs.command("assign")
@CONFIG
@click.argument("number", type=int)
@click.argument("study_uid")
def assign_report(path: Path, number: int, study_uid: str) -> None:
    """Say which study a report belongs to, when the gateway does not know, and let it continue.

    Avara names a report's study by an id of its own. The gateway knows whose it is once the study was opened through
    it; a report that comes before that waits, with a job of kind report.fetch.

    \b
    Example: avara-gateway jobs assign -c gateway.yaml 17 1.2.840.113619.2.55.3
    """
    from gateway.dicom import is_usable

    if not is_usable(study_uid):
        raise click.BadParameter(
            "no PACS has a study under that: printable letters without *, ? and \\, 80 at most", param_hint="STUDY_UID"
        )

    async def work(journal: Journal) -> None:
        from gateway.reports import assign

        await journal.run(lambda c: assign(c, number, study_uid, by=operator()))

    _with_journal(path, work)
    record(load_config(path), "assign", jobs=[number], study=study_uid)
    click.echo(f"job {number} belongs to study {study_uid} and continues, at once if the gateway is running")


def _jobs(numbers: Any) -> str:
    return f"job{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _with_journal(path: Path, work: Callable[[Journal], Awaitable[Any]]) -> Any:
    config = load_config(path)

    async def opened() -> Any:
        from gateway.journal import Unfit

        async with open_journal(config) as journal:
            try:
                return await work(journal)
            except Unfit as e:
                raise Failed(str(e)) from e

    return run(opened())


def _about(job: Job) -> Mapping[str, str]:
    from gateway.app import about

    return about(job)


def _line(job: Job) -> dict[str, Any]:
    return {
        "id": job.id, "kind": job.kind, "state": job.state.value, "attempts": job.attempts, "created": job.created,
        "next_at": job.next_at, "ended": job.ended, "last_error": job.last_error, **_about(job),
    }  # fmt: skip


def _shown(job: Job) -> str:
    state = click.style(f"{job.state.value:<11}", fg=_COLOURS.get(job.state.value))
    about = next(iter(_about(job).values()), job.subject)
    line = f"{job.id:>6}  {state}  {job.kind:<14}  {_moment(job.created)}  {runtime_printable.printable(about)}"
    if job.state.value == "waiting":
        pause = max(job.next_at - time.time(), 0)
        line += f"  (attempt {job.attempts + 1} in {_span(pause)})"
    return line + (f"\n        {runtime_printable.printable(job.last_error)}" if job.last_error else "")


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
