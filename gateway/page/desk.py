"""What an operator does with a job: looks at whose it is and what it is, and decides. All of it is noted, with who."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.captures import accept as captures_accept
from gateway.captures import can_be_accepted
from gateway.dicom import is_usable
from gateway.journal import EventKind, Job, JobLost, JobState, Unfit
from gateway.objects import StoreError
from gateway.pacs import PacsError
from gateway.pacs.scu import StudyRecord
from gateway.page.acts import Act, OnAct
from gateway.page.preview import Element, NoPreview, Previews
from gateway.page.server import FORM, VISITOR
from gateway.page.views import Views, render
from gateway.page.visitors import Visitor
from gateway.page.watch import Parts
from gateway.page.work import JobLine
from gateway.reports import FETCH, assign

ASKED_WITHIN = 15.0
"""Seconds for the PACS to say whose a study is."""

MAX_REASON = 500
"""Characters of why a job is discarded."""

MOST_PAGES = 10_000

LINKS = 100
"""Pages of an object that links lead to."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose a job is, as the PACS has it, and what its object says."""

    record: StudyRecord | None
    failure: str
    """Why the PACS's word is missing."""
    header: tuple[Element, ...]
    header_failure: str
    pages: int
    """Frames or pages that there are to see of it; 0 where none can be."""


class Desk:
    """The pages that only an operator sees."""

    def __init__(
        self,
        parts: Parts,
        views: Views,
        previews: Previews,
        *,
        object_of: Callable[[Job], str | None],
        record_of: Callable[[str], Awaitable[StudyRecord | None]],
        wake: Callable[[], None],
        on_act: OnAct,
    ) -> None:
        """*object_of* gives the key of a job's object, *record_of* what the PACS says of a study; it raises PacsError.
        *wake* is called when a job may go on; *on_act* is told of all that somebody does or is shown."""
        self._on_act = on_act
        self._parts = parts
        self._views = views
        self._previews = previews
        self._object_of = object_of
        self._record_of = record_of
        self._wake = wake

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        job = r"/jobs/{number:\d{1,15}}"
        return [
            web.get(job, self._show),
            web.post(f"{job}/patient", self._patient),
            web.get(f"{job}/picture", self._picture),
            web.post(f"{job}/object", self._save),
            *(web.post(f"{job}/{name}", self._decide) for name in ("retry", "accept", "discard", "assign")),
        ]

    async def _show(self, request: web.Request) -> web.StreamResponse:
        job = await self._views.job(request)
        [line] = await self._views.lines([job])
        # Its history has what the other side said, as it said it.
        self._tell(request, line, "looked at the job")
        return await self._page(request, job)

    async def _page(
        self, request: web.Request, job: Job, *, mistake: str = "", patient: Patient | None = None
    ) -> web.Response:
        [line] = await self._views.lines([job])
        context: dict[str, Any] = {
            "job": line,
            "history": await self._parts.jobs.history(job.id),
            "mistake": mistake,
            "patient": patient,
            "acts": _acts(job),
            "has_object": self._object_of(job) is not None,
        }
        return render("job.html", request, context, status=409 if mistake else 200)

    # -- whose it is, and what it is

    async def _patient(self, request: web.Request) -> web.StreamResponse:
        visitor, job = _operator(request), await self._views.job(request)
        [line] = await self._views.lines([job])
        self._note(request, visitor, line, "looked at whose it is")
        record, failure = await self._record(line.study)
        header, header_failure = await self._header(job)
        patient = Patient(record, failure, header, header_failure, await self._pages(job))
        return await self._page(request, job, patient=patient)

    async def _record(self, study: str) -> tuple[StudyRecord | None, str]:
        if not study:
            return None, "it is not known which study it is of"
        try:
            async with asyncio.timeout(ASKED_WITHIN):
                record = await self._record_of(study)
        except TimeoutError:
            return None, f"no PACS has answered within {ASKED_WITHIN:g} s"
        except PacsError as e:
            return None, str(e)
        return record, "" if record is not None else "the study is in no PACS"

    async def _header(self, job: Job) -> tuple[tuple[Element, ...], str]:
        key = self._object_of(job)
        if key is None or key.endswith(".pdf"):
            return (), ""
        try:
            return tuple(await self._previews.header(key)), ""
        except (NoPreview, StoreError) as e:
            return (), str(e)

    async def _pages(self, job: Job) -> int:
        key = self._object_of(job)
        try:
            return min(await self._previews.pages(key), LINKS) if key is not None else 0
        except (NoPreview, StoreError):
            return 0

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        visitor, job = _operator(request), await self._views.job(request)
        page = request.query.get("page", "0")
        key = self._object_of(job)
        if key is None or not page.isdecimal() or int(page) > MOST_PAGES:
            raise web.HTTPNotFound(text="There is no picture of it.\n")
        [line] = await self._views.lines([job])
        self._note(
            request, visitor, line, "looked at a picture of it" + (f", page {int(page) + 1}" if int(page) else "")
        )
        try:
            picture = await self._previews.picture(key, int(page))
        except (NoPreview, StoreError) as e:
            raise web.HTTPNotFound(text=f"{e}\n") from e
        return web.Response(body=picture, content_type="image/jpeg")

    async def _save(self, request: web.Request) -> web.StreamResponse:
        visitor, job = _operator(request), await self._views.job(request)
        key = self._object_of(job)
        if key is None:
            raise web.HTTPNotFound(text="It has no object any more.\n")
        [line] = await self._views.lines([job])
        self._note(request, visitor, line, "saved its object")
        ending = "pdf" if key.endswith(".pdf") else "dcm"
        name = f'attachment; filename="job-{job.id}.{ending}"'
        response = web.StreamResponse(headers={"Content-Disposition": name, "Content-Type": "application/octet-stream"})
        try:
            async with self._parts.store.read(key) as chunks:
                async for chunk in chunks:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(chunk)
        except StoreError as e:
            if response.prepared:
                raise ConnectionResetError("the store ended in the midst of it") from e
            return await self._page(request, job, mistake=str(e))
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    # -- what becomes of it

    async def _decide(self, request: web.Request) -> web.StreamResponse:
        visitor, form = _operator(request), request[FORM]
        job = await self._views.job(request)
        [line] = await self._views.lines([job])
        what, by = request.path.rpartition("/")[2], f"{visitor.name}, on the page"
        try:
            if what == "retry":
                await self._parts.jobs.retry(job.id, by=by)
            elif what == "accept":
                await self._parts.journal.run(lambda c: captures_accept.accept(c, job.id, by=by))
            elif what == "discard":
                why = " ".join(form.get("why", "").split())[:MAX_REASON]
                if not why:
                    raise Unfit("say why, for the record")
                await self._parts.jobs.discard(job.id, f"by an operator ({by}): {why}")
            else:
                study = form.get("study", "").strip()
                if not is_usable(study):
                    raise Unfit("no PACS has a study under that: printable letters without *, ? and \\, 80 at most")
                await self._parts.journal.run(lambda c: assign(c, job.id, study, by=by))
        except (Unfit, JobLost) as e:
            return await self._page(request, job, mistake=str(e))
        self._tell(request, line, what)
        self._wake()
        raise web.HTTPSeeOther(f"/jobs/{job.id}")

    def _tell(self, request: web.Request, job: JobLine, did: str) -> None:
        studies = (job.study,) if job.study else ()
        self._on_act(Act(request[VISITOR].name, did, (job.id,), studies, request.remote or ""))

    def _note(self, request: web.Request, visitor: Visitor, job: JobLine, did: str) -> None:
        self._tell(request, job, did)
        keys = [f"job:{job.id}", f"study:{job.study}" if job.study else None]
        self._parts.events.note(EventKind.OPERATOR, f"job {job.id}: {visitor.name} {did}, on the page", keys)


def _acts(job: Job) -> frozenset[str]:
    """What can be decided about a job."""
    if job.state not in (JobState.WAITING, JobState.QUARANTINED):
        return frozenset()
    more = {"accept"} if can_be_accepted(job) else set()
    return frozenset({"retry", "discard"} | more | ({"assign"} if job.kind == FETCH else set()))


def _operator(request: web.Request) -> Visitor:
    """Who asks, where they may. Raises HTTPForbidden."""
    visitor = request[VISITOR]
    if not visitor.is_operator:
        raise web.HTTPForbidden(text="That is for operators: log in as one (page.users, role: operator).\n")
    return visitor
