"""The answers to ``study.access_requested``, put together: what of the study is given, by which URLs, and what is said
where something is not (docs/contract.md: Answers)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.avara import MediaUrl, StudyAccess
from gateway.objects import Presigner
from gateway.studies import keys, media
from gateway.studies.deferred import DeferredUrls
from gateway.studies.flight import Flight
from gateway.studies.index import StudyIndex, reading_order
from gateway.studies.listed import awaited
from gateway.studies.manifest import write_manifest
from gateway.studies.outcome import (
    Complete,
    Disputed,
    NotFound,
    NotSent,
    NotStored,
    Outcome,
    Partial,
    Unconfirmed,
    Unlisted,
    Unreachable,
)
from gateway.studies.permission import NOT_THERE
from gateway.studies.statement import in_words

PREPARED = 64
"""Studies whose answers are kept ready, but for the signatures."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer but for its signatures: what depends on the index alone."""

    index: StudyIndex
    keys: tuple[str, ...]
    media_keys: tuple[str, ...]
    media: tuple[tuple[str, str], ...]
    """MIME type and file name, in the order of ``media_keys``."""
    manifest: bytes | None


def prepare(index: StudyIndex) -> Prepared:
    """What of an answer depends on the index alone."""
    uid, instances = index.study_instance_uid, index.shown
    unpacked = [(i, i.media) for i in instances if i.media is not None]
    return Prepared(
        index,
        tuple(keys.instance(uid, i.sop_instance_uid, i.revision) for i in instances),
        tuple(keys.media(uid, i.sop_instance_uid, m.extension, i.revision) for i, m in unpacked),
        tuple((m.mime_type, media.file_name(i, m)) for i, m in unpacked),
        write_manifest(uid, instances),
    )


class StudyAnswers:
    """Makes them."""

    def __init__(self, presigner: Presigner, deferred: DeferredUrls, url_expiry: int) -> None:
        """*url_expiry* is seconds."""
        self._presigner = presigner
        self._deferred = deferred
        self._url_expiry = url_expiry
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    def of(self, outcome: Outcome, flight: Flight) -> StudyAccess:
        """To a study whose fetch has ended."""
        held = flight.still_held
        if flight.corrected and not isinstance(outcome, Complete | Partial | NotFound):
            return StudyAccess(
                authorized=True,
                error=f"the hospital's PACS has corrected this study ({in_words(flight.corrected)}): what was here "
                "before is not shown any more, and the corrected images cannot be had now; ask again later",
            )
        match outcome:
            case Complete(index):
                return self.of_index(index, cached=index is held)
            case Partial(index, missing, _, refused):
                total = max(len(flight.expected or ()), flight.expected_count or 0)
                lacking = len(missing) or total - len(index.instances)
                part = f"{lacking} of {total} instances" if lacking > 0 else "some instances"
                if flight.silent and not missing:
                    silent = ", ".join(flight.silent)
                    error = f"some instances may be missing: PACS {silent} cannot be asked now; ask again later"
                    return self.of_index(index, error)
                why = f": {refused}" if refused else ""
                return self.of_index(index, f"{part} could not be retrieved from the PACS{why}; ask again later")
            case Unconfirmed(index, cause):
                count = cause.count if isinstance(cause, Unlisted) else len(index.instances)
                return self.of_index(index, _as_sent(count, cause))
            case NotFound():
                return StudyAccess(authorized=False, error=NOT_THERE)
            case Unreachable(_, answered):
                if held is not None:
                    incomplete = (
                        None if held.complete else "the study may lack instances: the PACS cannot be reached now"
                    )
                    return self.of_index(held, incomplete)
                what = "does not take the gateway's query" if answered else "cannot be reached"
                return StudyAccess(authorized=True, error=f"the hospital's PACS {what} now; ask again later")
            case NotSent(_, refused, empty):
                if held is not None:
                    return self.of_index(held, "the hospital's PACS did not send what is new; ask again later")
                error = "the hospital's PACS has the study and sends no instance of it; ask again later"
                if refused:
                    error = f"no instance of the study could be taken in: {refused}"
                elif empty:
                    error = "the study has no instances in the hospital's PACS"
                return StudyAccess(authorized=True, error=error)
            case Disputed(_):
                return StudyAccess(
                    authorized=True,
                    error="the hospital's PACS has this study under several patients: it is not shown until that "
                    "is put right there",
                )
            case NotStored(_):
                if held is not None:
                    return self.of_index(held, "the gateway cannot store new instances now; ask again later")
                return StudyAccess(authorized=True, error="the gateway cannot store the study now; ask again later")

    def so_far(self, flight: Flight) -> StudyAccess:
        """What can be said of a study whose fetch goes on: deferred URLs for what is on its way."""
        unlisted = set(flight.unlisted)
        stored = [i for i in flight.stored.values() if i.sop_instance_uid not in unlisted]
        if flight.pushed:
            coming = [uid for uid in flight.acknowledged if uid not in flight.stored]
        else:
            coming = [uid for uid in flight.missing if uid not in flight.rejected]
        # One list, so that what is looked at first is among the first that a viewer asks for, stored or not.
        known = reading_order([*stored, *(awaited(uid, flight.listed_as.get(uid)) for uid in coming)])
        index = StudyIndex(flight.study_instance_uid, {i.sop_instance_uid: i for i in known}, complete=False, pacs="")
        count, error = len(known), None
        if flight.pushed:
            error = _as_sent(count)
        elif flight.expected is None or count < (flight.expected_count or 0):
            of = f" of {flight.expected_count}" if flight.expected_count else ""
            error = f"{count}{of} instances can be given so far, the study is being fetched: ask again for the others"
        elif flight.missing and flight.held is not None and not flight.held.complete:
            error = (
                f"{len(flight.missing)} of {count} instances could not be retrieved from the PACS the last time; they "
                "are asked for again now"
            )
        return self._signed(prepare(index), error, on_their_way=frozenset(coming))

    def of_index(self, index: StudyIndex, error: str | None = None, *, cached: bool = False) -> StudyAccess:
        """To a study that is as *index* has it; *error* says what may be wrong with it, *cached* that nothing had to
        be fetched."""
        uid = index.study_instance_uid
        if index.instances and not index.shown:
            error = "the hospital has withdrawn every instance of this study (rejection notes): none is shown"
        prepared = self._prepared.get(uid)
        if prepared is None or prepared.index is not index:
            prepared = self._prepared[uid] = prepare(index)
        self._prepared.move_to_end(uid)
        while len(self._prepared) > PREPARED:
            self._prepared.popitem(last=False)
        return self._signed(prepared, error, cached=cached)

    def _signed(
        self,
        prepared: Prepared,
        error: str | None,
        on_their_way: Collection[str] = frozenset(),
        *,
        cached: bool = False,
    ) -> StudyAccess:
        """The answer; deferred URLs for what is *on_their_way*, among the others."""
        media_urls = self._presigned(prepared.media_keys)
        return StudyAccess(
            authorized=True,
            urls=self._urls(prepared, on_their_way) if on_their_way else self._presigned(prepared.keys),
            error=error,
            media_urls=[
                MediaUrl(mime_type=mime_type, url=url, file_name=name)
                for url, (mime_type, name) in zip(media_urls, prepared.media, strict=True)
            ]
            or None,
            manifest=prepared.manifest,
            deferred=len(on_their_way),
            cached=cached,
        )

    def _urls(self, prepared: Prepared, on_their_way: Collection[str]) -> list[str]:
        shown = [instance.sop_instance_uid for instance in prepared.index.shown]
        stored = [key for key, uid in zip(prepared.keys, shown, strict=True) if uid not in on_their_way]
        coming = [uid for uid in shown if uid in on_their_way]
        presigned = iter(self._presigned(stored))
        deferred = iter(self._deferred.urls(prepared.index.study_instance_uid, coming, expires_in=self._url_expiry))
        return [next(deferred if uid in on_their_way else presigned) for uid in shown]

    def _presigned(self, of: Sequence[str]) -> list[str]:
        return self._presigner.get_urls(of, expires_in=self._url_expiry)


def _as_sent(count: int, cause: NotFound | Unreachable | Unlisted | None = None) -> str:
    """What an answer rests on that no PACS has confirmed; *cause* is why, where it is known."""
    match cause:
        case NotFound():
            why = "no PACS of this hospital lists the study yet"
        case Unreachable():
            why = "the hospital's PACS cannot be asked now"
        case Unlisted():
            why = f"the hospital's PACS does not list {'them' if count != 1 else 'it'} yet"
        case None:
            why = "the hospital's PACS has not answered yet"
    sent = f"{count} instances were" if count != 1 else "1 instance was"
    return f"{sent} sent to the gateway so far and can be given; {why}, so there may be more: ask again later"
