"""What each address of the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp_jinja2
from aiohttp import web

from gateway import __version__
from gateway.admin import About
from gateway.admin import trace as admin_trace
from gateway.alerts import history
from gateway.journal import Job, JobState, JournalError
from gateway.page import work
from gateway.page.acts import Act, OnAct
from gateway.page.server import VISITOR
from gateway.page.standing import kind_in_words
from gateway.page.watch import Parts, Watch

LATE = 12
"""Lines of what happened of late on the first screen."""

MOST = 200
"""Lines of a list."""

MAX_SEARCH = 256
"""Characters that are searched for."""

GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "all": ("All", ()),
    "captures": ("Captures", ("capture.check", "capture.store")),
    "reports": ("Reports", ("report.fetch", "report.pacs", "report.store", "report.hl7", "report.folder")),
    "alerts": ("Alerts", ("alert.send",)),
}
"""Kinds of jobs, as they are shown together."""


class Views:
    """The pages that anybody who may look sees."""

    def __init__(self, parts: Parts, watch: Watch, about: About, on_act: OnAct) -> None:
        """*on_act* is told of whoever searches."""
        self._on_act = on_act
        self._parts = parts
        self._watch = watch
        self._about = about

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/", self._front),
            web.get("/parts/front", self._front_part),
            web.get("/studies", self._studies),
            web.get("/parts/studies", self._studies_part),
            web.get("/jobs", self._jobs),
            web.get("/alerts", self._alerts),
            web.get("/search", self._search),
        ]

    async def _front(self, request: web.Request) -> web.StreamResponse:
        return render("front.html", request, await self._standing())

    async def _front_part(self, request: web.Request) -> web.StreamResponse:
        return render("front_part.html", request, await self._standing())

    async def _standing(self) -> dict[str, Any]:
        standing = await self._watch.standing()
        fetching = work.fetching(self._parts.flights())
        return {"standing": standing, "fetching": fetching, "late": await self._late(LATE)}

    async def _late(self, limit: int) -> list[work.Happened]:
        try:
            await self._parts.events.flush()
            return await self._parts.journal.run(lambda c: work.of_late(c, limit))
        except JournalError:
            return []  # the standing says that it cannot be read

    async def _studies(self, request: web.Request) -> web.StreamResponse:
        return render("studies.html", request, await self._all_studies())

    async def _studies_part(self, request: web.Request) -> web.StreamResponse:
        return render("studies_part.html", request, await self._all_studies())

    async def _all_studies(self) -> dict[str, Any]:
        return {"fetching": work.fetching(self._parts.flights()), "late": await self._late(MOST)}

    async def _jobs(self, request: web.Request) -> web.StreamResponse:
        group = request.query.get("of", "all")
        if group not in GROUPS:
            raise web.HTTPNotFound(text="There is no such list.\n")
        every = request.query.get("every") == "1"
        states = () if every else (JobState.WAITING, JobState.RUNNING, JobState.QUARANTINED)
        found = await self._parts.jobs.list(states, GROUPS[group][1], cleaning=False, limit=MOST)
        found = sorted(found, key=lambda job: job.state is not JobState.QUARANTINED)
        context = {"jobs": await self.lines(found), "group": group, "groups": GROUPS, "every": every, "most": MOST}
        return render("jobs.html", request, context)

    async def _alerts(self, request: web.Request) -> web.StreamResponse:
        found = await self._parts.journal.run(lambda c: history(c, MOST))
        context = {"alerts": found, "now": self._parts.journal.clock.now(), "most": MOST}
        return render("alerts.html", request, context)

    async def job(self, request: web.Request) -> Job:
        """The job that an address names. Raises HTTPNotFound."""
        number = int(request.match_info["number"])
        job = await self._parts.jobs.get(number)
        if job is None:
            raise web.HTTPNotFound(text=f"There is no job {number}.\n")
        return job

    async def lines(self, jobs: Sequence[Job]) -> list[work.JobLine]:
        """Jobs, as they are shown."""
        about = [self._about(job) for job in jobs]
        return await self._parts.journal.run(lambda c: work.job_lines(c, jobs, about))

    async def _search(self, request: web.Request) -> web.StreamResponse:
        what = request.query.get("q", "").strip()[:MAX_SEARCH]
        found = None
        if what:
            await self._parts.events.flush()
            found = await admin_trace.trace(
                self._parts.journal, what, hidden=self._parts.events.hidden, about=self._about
            )
            studies = tuple(study.study_instance_uid for study in found.studies)
            hidden = self._parts.events.hidden(what)
            self._on_act(Act(request[VISITOR].name, "search", (), studies, request.remote or "", hidden))
        return render("search.html", request, {"what": what, "found": found})


def render(template: str, request: web.Request, context: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """A page, for whoever asks for it."""
    visitor = request[VISITOR]
    common = {"visitor": visitor, "version": __version__, "path": request.path, "in_words": kind_in_words}
    return aiohttp_jinja2.render_template(template, request, {"what": "", **common, **context}, status=status)
