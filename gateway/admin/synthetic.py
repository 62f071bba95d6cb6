"""The synthetic canary: what goes into the PACS is proven, too, with a patient who does not exist.

A study of one image is stored in the PACS and opened through the gateway as Avara would; a capture of it is uploaded by
the way that viewers upload, and found in the PACS; a report is stored there, and found. Then all of it is removed, or,
where the PACS cannot be asked to, left under the same UIDs, so that it never becomes more. The journal forgets it.

No HL7 message is sent and no folder written: what reads those would show it to people as a report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.admin.canary import Canary, CanaryFailed, Opened
from gateway.admin.synthetic_study import MARK, MARKED_STUDY_ID, PATIENT_ID, SyntheticObject, SyntheticStudy
from gateway.captures import CHECK
from gateway.dicom import EXPLICIT_LITTLE_ENDIAN
from gateway.journal import JobState, Journal, SyntheticWork, erasure
from gateway.objects import ObjectStore
from gateway.pacs import Body
from gateway.pacs.dicomweb import DicomWeb, Removal, remove_study
from gateway.pacs.scu import Finder, OutgoingInstance, Target
from gateway.pacs.upper import MemoryBody
from gateway.runtime import Clock, GatewayError
from gateway.studies import StudyCache

log = logging.getLogger(__name__)

SINGS_WITHIN = 600.0
"""Seconds for all of it."""

LISTED_WITHIN = 60.0
"""Seconds in which a PACS has to list what it took, and no more what it removed."""

ARRIVES_WITHIN = 120.0
"""Seconds from the upload of a capture until the PACS lists it."""

CLEARS_WITHIN = 120.0
"""Seconds for taking away what was stored."""

LOOKS_EVERY = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Place:
    """A PACS that takes captures or reports."""

    name: str
    target: Target
    finder: Finder
    captures: bool
    reports: bool
    web: DicomWeb | None = None
    """Where it removes studies, where it can be asked to."""


@dataclass(slots=True)
class Own:
    """What the audit trail marks as the canary's."""

    study_instance_uid: str
    keys: set[str] = field(default_factory=set)
    """Of uploads, and of their slots."""

    def has(self, fields: Mapping[str, object]) -> bool:
        """Whether an entry of these *fields* is about the canary's."""
        texts = [value for value in fields.values() if isinstance(value, str)]
        return any(self.study_instance_uid in value or value in self.keys for value in texts)


class SyntheticCanary:
    """Stores, opens, uploads, finds and removes the synthetic study."""

    def __init__(
        self,
        study: SyntheticStudy,
        canary: Canary,
        places: Sequence[Place],
        *,
        remove: Removal | None,
        cache: StudyCache,
        store: ObjectStore,
        journal: Journal,
        own: Own,
        clock: Clock,
    ) -> None:
        """*canary* goes the way that Avara goes; *remove* is how *places* are asked to remove a study."""
        self._study = study
        self._canary = canary
        self._places = places
        self._remove = remove
        self._cache = cache
        self._store = store
        self._journal = journal
        self._own = own
        self._clock = clock
        self._alone = asyncio.Lock()
        self._work = SyntheticWork(study.study_instance_uid, study.capture.sop_instance_uid, CHECK, "capture.store")

    async def sing(self, tell: Tell = lambda text: None) -> str:
        """Does all of it once, and tells each step. What came of it, in a sentence; raises CanaryFailed."""
        if self._alone.locked():
            raise CanaryFailed("the synthetic study is under way already: ask again when that has ended")
        async with self._alone:
            try:
                return await self._sing(tell)
            except GatewayError as e:
                raise e if isinstance(e, CanaryFailed) else CanaryFailed(str(e)) from e

    async def _sing(self, tell: Tell) -> str:
        for place in self._places:
            await self._must_be_ours(place)
        failed = True
        try:
            async with asyncio.timeout(SINGS_WITHIN):
                opened = await self._act(tell)
            failed = False
        except TimeoutError:
            raise CanaryFailed(f"the synthetic study took more than {SINGS_WITHIN:g} s") from None
        finally:
            left = await self._clear(tell, after_failure=failed)
        return f"a synthetic study was stored, opened ({opened}), given a capture and a report, and found; {left}"

    async def _act(self, tell: Tell) -> Opened:
        image, uid = self._study.image, self._study.study_instance_uid
        await self._forget()
        for place in self._places:
            await self._put(place, image)
            tell(f"image stored in PACS {place.name}, and found there")
        opened = await self._canary.open(uid, mark=MARK)
        tell(f"opened as Avara would: {opened}")
        await self._capture(tell)
        for place in self._places:
            if place.reports:
                await self._put(place, self._study.report)
                tell(f"report stored in PACS {place.name}, and found there")
        return opened

    async def _put(self, place: Place, what: SyntheticObject) -> None:
        async def encoded(transfer_syntax_uid: str) -> Body:
            return MemoryBody(what.data_set(transfer_syntax_uid))

        instance = OutgoingInstance(
            what.sop_class_uid, what.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN, await encoded(EXPLICIT_LITTLE_ENDIAN)
        )
        await place.target.store(self._study.study_instance_uid, instance, encoded)
        await self._until(
            lambda: self._holds(place, what),
            LISTED_WITHIN,
            f"PACS {place.name} took an object of the synthetic study and does not list it: its own log says more",
        )

    async def _holds(self, place: Place, what: SyntheticObject) -> bool:
        return await place.target.holds(self._study.study_instance_uid, what.series_instance_uid, what.sop_instance_uid)

    async def _capture(self, tell: Tell) -> None:
        capture, into = self._study.capture, [place for place in self._places if place.captures]
        if not into:
            return
        there = [place.name for place in into if await self._holds(place, capture)]
        url = await self._canary.upload_url(
            self._study.study_instance_uid, capture.series_instance_uid, capture.sop_instance_uid
        )
        if there:
            tell(
                f"an upload URL was given; no capture was uploaded, since PACS {', '.join(there)} has that of an "
                "earlier time: with canary.remove it is proven each time"
            )
            return
        key = "/".join(urlsplit(url).path.split("/")[-2:])
        self._own.keys |= {key, key.rpartition("/")[2]}
        await self._canary.upload(url, capture.file)

        async def arrived() -> bool:
            for job in await self._journal.run(lambda c: erasure.jobs_of(c, self._work)):
                if job.state is JobState.QUARANTINED:
                    raise CanaryFailed(f"the synthetic capture was uploaded and is not stored: {job.last_error}")
            return all([await self._holds(place, capture) for place in into])

        await self._until(
            arrived,
            ARRIVES_WITHIN,
            "the synthetic capture was uploaded, and the PACS does not list it: does it take objects from us?",
        )
        tell(f"capture uploaded as a viewer does, and found in PACS {', '.join(place.name for place in into)}")

    # -- whose it is, and what becomes of it

    async def _must_be_ours(self, place: Place) -> bool:
        """Whether the PACS has the study. Raises CanaryFailed where what it has under its UID may be anybody's."""
        uid = self._study.study_instance_uid
        record = await place.finder.find_study(uid)
        if record is None:
            return False
        ours = not record.disputed and record.patient_id == PATIENT_ID and record.study_id in ("", MARKED_STUDY_ID)
        if ours:
            listed = await place.finder.list_instances(uid, counted=record.instances)
            ours = {i.sop_instance_uid for i in listed.instances} <= self._study.sop_instance_uids and (
                record.instances is None or record.instances <= len(self._study.sop_instance_uids)
            )
        if not ours:
            raise CanaryFailed(
                f"PACS {place.name} has something else under the UID of the synthetic study ({uid}): it was left as it "
                f"is. Look at it there; it has to be of patient {PATIENT_ID}, with the gateway's own instances only"
            )
        return True

    async def _clear(self, tell: Tell, *, after_failure: bool) -> str:
        """Takes away what was stored; what came of that. Raises CanaryFailed, unless *after_failure*, of which is
        told already."""
        try:
            async with asyncio.timeout(CLEARS_WITHIN):
                left = await self._leave_the_pacs(tell)
                await self._forget()
                return left
        except (GatewayError, TimeoutError) as e:
            why = str(e) or f"that took more than {CLEARS_WITHIN:g} s"
            if not after_failure:
                raise CanaryFailed(f"the synthetic study could not be taken away: {why}") from e
            log.warning("canary: what is left of the synthetic study could not be taken away: %s", why)
            return ""

    async def _leave_the_pacs(self, tell: Tell) -> str:
        uid, names = self._study.study_instance_uid, ", ".join(place.name for place in self._places)
        if self._remove is None:
            return f"it stays in PACS {names}, always the same objects (canary.remove would remove it)"
        for place in self._places:
            assert place.web is not None, "the configuration insists on it"
            if not await self._must_be_ours(place):
                continue
            await remove_study(place.web, uid, PATIENT_ID, self._remove)

            async def gone(place: Place = place) -> bool:
                return await place.finder.find_study(uid) is None

            await self._until(gone, LISTED_WITHIN, f"PACS {place.name} said that it removed it, and lists it still")
            tell(f"removed from PACS {place.name}")
        return f"it was removed from PACS {names}"

    async def _forget(self) -> None:
        """Nothing of it is here any more."""
        uid = self._study.study_instance_uid
        await self._settle()
        await self._store.delete([key for key in self._own.keys if "/" in key])
        await self._journal.run(lambda c: erasure.erase(c, self._work))
        self._own.keys.clear()

        async def dropped() -> bool:
            return await self._cache.index(uid) is None or await self._cache.drop(uid)

        await self._until(dropped, LISTED_WITHIN, "the synthetic study is being opened, and could not leave the cache")

    async def _settle(self) -> None:
        """Waits a moment for jobs that end just now: they need not find that they were erased."""
        for _ in range(10):
            found = await self._journal.run(lambda c: erasure.jobs_of(c, self._work))
            if not any(job.state in (JobState.RUNNING, JobState.WAITING) for job in found):
                return
            await self._clock.sleep(LOOKS_EVERY)

    async def _until(self, true: Callable[[], Awaitable[bool]], within: float, otherwise: str) -> None:
        """Raises CanaryFailed with *otherwise* where it does not become *true* in so many seconds."""
        ends = self._clock.monotonic() + within
        while not await true():
            if self._clock.monotonic() >= ends:
                raise CanaryFailed(f"{otherwise} ({within:g} s were waited)")
            await self._clock.sleep(LOOKS_EVERY)
