"""Answers ``secondary_capture.access_requested``: an upload URL, for a slot that is kept before the URL leaves."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence

from gateway.access import Refused
from gateway.avara import Event, SecondaryCaptureAccess, SecondaryCaptureAccessRequested, WebhookDelivery
from gateway.journal import Journal, JournalError, Slot, slots
from gateway.objects import Presigner
from gateway.pacs import PacsError
from gateway.pacs.scu import Finder

log = logging.getLogger(__name__)

TO_ANSWER = 0.5
"""Seconds before the deadline at which the PACS is no longer waited for."""


Permit = Callable[[str, str, float], Awaitable[None]]
"""Is given a study, the event that names it and the answer's deadline; raises Refused where it takes no upload."""


class CaptureAccessHandler:
    """The handler of ``secondary_capture.access_requested``."""

    def __init__(
        self,
        *,
        journal: Journal,
        presigner: Presigner,
        pacs: Sequence[Finder],
        is_cached: Callable[[str], Awaitable[bool]],
        opened: Callable[[], None],
        enabled: bool,
        upload_expiry: int,
        permit: Permit,
    ) -> None:
        """*opened* is called when a slot was opened; *upload_expiry* is seconds; *permit* asks the hospital's
        policy."""
        self._permit = permit
        self._journal = journal
        self._presigner = presigner
        self._pacs = pacs
        self._is_cached = is_cached
        self._opened = opened
        self._enabled = enabled
        self._upload_expiry = upload_expiry

    async def __call__(self, event: Event, delivery: WebhookDelivery) -> SecondaryCaptureAccess:
        """The answer to one event."""
        assert isinstance(event, SecondaryCaptureAccessRequested)
        data = event.data
        if not self._enabled:
            return _refused("this hospital's gateway takes no secondary captures")
        try:
            await self._permit(data.study_instance_uid, event.id, delivery.deadline)
        except Refused as e:
            return SecondaryCaptureAccess(authorized=False, error=str(e), rule=e.rule)
        refusal = await self._refusal(data.study_instance_uid, delivery.deadline)
        if refusal is not None:
            return _refused(refusal)
        now = self._journal.clock.now()
        wanted = Slot(
            id=secrets.token_hex(16),
            webhook_id=delivery.webhook_id,
            study_id=data.study_id,
            study_instance_uid=data.study_instance_uid,
            series_instance_uid=data.series_instance_uid,
            sop_instance_uid=data.sop_instance_uid,
            created=now,
            expires=now + self._upload_expiry,
        )
        try:
            await self._journal.remember_study(data.study_id, data.study_instance_uid)
            slot = await self._journal.run(lambda c: slots.grant(c, wanted))
        except JournalError as e:
            log.error("no upload URL for study %s: %s", data.study_instance_uid, e)
            return _refused("the gateway cannot take uploads now; ask again later")
        left = int(slot.expires - now)
        if left < 1 or slot.study_instance_uid != data.study_instance_uid:
            return _refused("the upload URL that this webhook was given has expired; ask with a new webhook")
        self._opened()
        return SecondaryCaptureAccess(
            authorized=True,
            key=slot.key,
            upload_urls=[self._presigner.put_url(slot.key, expires_in=min(left, self._upload_expiry))],
        )

    async def _refusal(self, study_instance_uid: str, deadline: float) -> str | None:
        """Why no capture of this study can be taken; None where it can."""
        try:
            if await self._is_cached(study_instance_uid):
                return None
        except JournalError as e:
            log.error("whether study %s is cached cannot be read: %s", study_instance_uid, e)
        asked = [asyncio.create_task(client.find_study(study_instance_uid)) for client in self._pacs]
        try:
            waiting, failed = set(asked), False
            until = deadline - TO_ANSWER
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=max(until - asyncio.get_running_loop().time(), 0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    try:
                        if task.result() is not None:
                            return None
                    except PacsError as e:
                        failed = True
                        log.warning("cannot ask for study %s: %s", study_instance_uid, e)
                if not done:
                    failed = True
                    break
            return (
                "the hospital's PACS cannot be reached now; ask again later"
                if failed
                else "the study is not in any PACS of this hospital"
            )
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


def _refused(why: str) -> SecondaryCaptureAccess:
    return SecondaryCaptureAccess(authorized=False, error=why)
