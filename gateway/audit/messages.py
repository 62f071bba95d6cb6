"""Which DICOM audit message (PS3.15 A.5.3) each entry of the trail is told by.

The trail names studies and no patients, so the messages do not, either: whose a study is, the PACS knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.audit import codes
from gateway.audit.chain import PURGED, TORN
from gateway.audit.codes import Code
from gateway.audit.xml import (
    MINOR_FAILURE,
    NO_PATIENT,
    SERIOUS_FAILURE,
    SUCCESS,
    Message,
    Participant,
    ParticipantObject,
    of_study,
)

Entry = Mapping[str, Any]
"""As it stands in the trail."""

GATEWAY, AVARA = "Avara Gateway", "Avara"

MOST_INSTANCES = 100
"""SOP Instance UIDs that a message names; of more it has the number."""

NOT_TOLD = frozenset({PURGED})
"""Entries that are in no message: nothing of a patient was given or changed."""

LIFE_CYCLE_ERASED = "15"

_ACTS: Mapping[str, tuple[Code, str]] = {
    "search": (codes.QUERY, "E"),
    "trace": (codes.QUERY, "E"),
    "backup": (codes.EXPORT, "R"),
    "restore": (codes.IMPORT, "C"),
    "roll-back": (codes.SECURITY_ALERT, "E"),
    "drop": (codes.STUDY_DELETED, "D"),
    "discard": (codes.INSTANCES_ACCESSED, "D"),
    "accept": (codes.INSTANCES_ACCESSED, "U"),
    "assign": (codes.INSTANCES_ACCESSED, "U"),
}
"""What an operator does, and what it counts as; all else they looked at, or had fetched or sent again."""


def message_of(entry: Entry) -> Message | None:
    """The message of an entry; None where it is told by none."""
    make = _KINDS.get(entry["what"])
    return make(entry) if make is not None else None


def messages_of(entries: Iterable[Entry]) -> list[Message]:
    """The messages of entries that follow each other. What one client opened of one study is one message."""
    made: list[Entry] = []
    opened: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        if entry["what"] != "opened":
            made.append(entry)
            continue
        study, instance = _of_key(str(entry.get("key", "")))
        key = (study, entry.get("remote"), _failed(entry))
        if key not in opened:
            opened[key] = {**entry, "study": study, "instances": [], "count": 0}
            made.append(opened[key])
        opened[key]["count"] += 1
        if instance:
            opened[key]["instances"].append(instance)
    return [message for entry in made if (message := message_of(entry)) is not None]


def _of_key(key: str) -> tuple[str, str]:
    """Study and SOP Instance UID of an object of the cache (``studies/STUDY/…/INSTANCE.dcm``), or of a deferred URL."""
    parts = [part for part in key.split("/") if part not in ("studies", "deferred")]
    if len(parts) < 2:
        return key, ""
    return parts[0], parts[-1].removesuffix(".dcm")


def _failed(entry: Entry) -> bool:
    return int(entry.get("status") or 200) >= 400


def _gateway(role: Code | None = None, *, requestor: bool = False) -> Participant:
    return Participant(GATEWAY, requestor, role)


def _text(entry: Entry, *names: str) -> str:
    return "; ".join(str(entry[name]) for name in names if entry.get(name))


def _started(event_type: Code) -> Callable[[Entry], Message]:
    def make(entry: Entry) -> Message:
        by = Participant(f"{GATEWAY} {entry.get('version', '')}".rstrip(), False, codes.APPLICATION)
        return Message(codes.APPLICATION_ACTIVITY, "E", entry["at"], SUCCESS, [by], types=[event_type])

    return make


def _refused(entry: Entry) -> bool:
    return _failed(entry) or not str(entry.get("outcome", "")).startswith(("authorized", "answered as before"))


def _given(entry: Entry) -> Message:
    """URLs of a study leave the hospital."""
    refused = _refused(entry)
    return Message(
        codes.EXPORT,
        "R",
        entry["at"],
        MINOR_FAILURE if refused else SUCCESS,
        [
            _gateway(codes.SOURCE),
            Participant(AVARA, True, codes.DESTINATION, entry.get("remote", "")),
            Participant("presigned URLs", False, codes.DESTINATION_MEDIA, media=codes.MEDIA_URI),
        ],
        of_study(entry.get("study", ""), details=_details(entry, "avara_study", "event", "webhook")),
        text=_text(entry, "outcome") if refused else "",
    )


def _may_upload(entry: Entry) -> Message:
    """One object more can be written from outside. What is written is an import of its own; A.5.3.11 has an alert that
    only informs, of security attributes that were changed."""
    refused = _refused(entry)
    return Message(
        codes.SECURITY_ALERT,
        "E",
        entry["at"],
        MINOR_FAILURE if refused else SUCCESS,
        [_gateway(), Participant(AVARA, True, at=entry.get("remote", ""))],
        of_study(entry.get("study", ""), details=_details(entry, "outcome", "avara_study", "event", "webhook")),
        [codes.OBJECT_SECURITY],
        _text(entry, "outcome") if refused else "",
    )


def _details(entry: Entry, *names: str) -> list[tuple[str, str]]:
    return [(name, str(entry[name])) for name in names if entry.get(name)]


def _opened(entry: Entry) -> Message:
    study = entry.get("study") or _of_key(str(entry.get("key", "")))[0]
    return Message(
        codes.INSTANCES_TRANSFERRED,
        "R",
        entry["at"],
        MINOR_FAILURE if _failed(entry) else SUCCESS,
        [
            _gateway(codes.SOURCE),
            Participant("holder of a URL", True, codes.DESTINATION, entry.get("remote", "")),
        ],
        of_study(study, count=entry.get("count", 1), instances=entry.get("instances", [])[:MOST_INSTANCES]),
        text=f"HTTP {entry['status']}" if _failed(entry) else "",
    )


def _imported(entry: Entry) -> Message:
    """A capture that somebody uploaded, or a report that Avara delivered."""
    report = entry["what"] == "report_received"
    source = Participant(AVARA if report else "holder of a URL", True, codes.SOURCE, entry.get("remote", ""))
    imported = (
        ParticipantObject(entry.get("report", ""), codes.REPORT_NUMBER)
        if report
        else ParticipantObject(entry["key"], codes.URI)
    )
    return Message(
        codes.IMPORT,
        "C",
        entry["at"],
        MINOR_FAILURE if _failed(entry) else SUCCESS,
        [
            _gateway(codes.DESTINATION),
            source,
            Participant("webhook" if report else "presigned URL", False, codes.SOURCE_MEDIA, media=codes.MEDIA_URI),
        ],
        [imported, *(of_study(entry["study"]) if entry.get("study") else [NO_PATIENT])],
        text=_text(entry, "outcome") if _failed(entry) else "",
    )


def _job(entry: Entry) -> Message | None:
    """What was delivered into a PACS, or to a RIS or a folder; steps on the way there are in no message."""
    place = str(entry.get("kind", "")).rpartition(".")[2]
    if place not in ("store", "hl7", "folder"):
        return None
    done = entry.get("outcome") == "done"
    stored = place == "store"
    participants = [_gateway(codes.SOURCE, requestor=True), Participant(str(entry["to"]), False, codes.DESTINATION)]
    if not stored:
        participants.append(Participant(place, False, codes.DESTINATION_MEDIA, media=codes.MEDIA_URI))
    instance = entry.get("sop_instance")
    objects = of_study(
        str(entry.get("study", "")), count=1 if stored else 0, instances=[instance] if instance and stored else []
    )
    if entry.get("report"):
        objects.insert(0, ParticipantObject(entry["report"], codes.REPORT_NUMBER))
    return Message(
        codes.INSTANCES_TRANSFERRED if stored else codes.EXPORT,
        "C" if stored else "R",
        entry["at"],
        SUCCESS if done else SERIOUS_FAILURE,
        participants,
        objects,
        text="" if done else _text(entry, "outcome", "why"),
    )


def _alert(event_type: Code, severity: int = MINOR_FAILURE) -> Callable[[Entry], Message]:
    """Somebody was turned away, or the record is not whole."""

    def make(entry: Entry) -> Message:
        who = [Participant(GATEWAY, False)]
        if entry.get("remote"):
            who.append(Participant(str(entry.get("calling") or "unknown"), True, at=entry["remote"]))
        objects = of_study(entry["study"]) if entry.get("study") else []
        times = f"{entry['times_more']} times more" if entry.get("times_more") else ""
        text = "; ".join(filter(None, (_text(entry, "why", "rule", "text", "times"), times)))
        return Message(
            codes.SECURITY_ALERT, "E", entry["at"], severity, who, objects, [event_type], text or event_type.meaning
        )

    return make


def _login(outcome: int) -> Callable[[Entry], Message]:
    def make(entry: Entry) -> Message:
        who = Participant(str(entry.get("by") or "unknown"), True, at=entry.get("remote", ""))
        failed = "a wrong name or password" if outcome else ""
        return Message(
            codes.USER_AUTHENTICATION, "E", entry["at"], outcome, [who, _gateway()], [], [codes.LOGIN], failed
        )

    return make


def _operator(entry: Entry) -> Message:
    did = str(entry["did"])
    event, action = _ACTS.get(did, (codes.INSTANCES_ACCESSED, "R"))
    who = Participant(str(entry["by"]), True, at=entry.get("remote", ""))
    details = [("did", did), *_details(entry, "why", "jobs", "event", "schema", "objects")]
    studies: Sequence[str] = [entry["study"]] if entry.get("study") else entry.get("studies") or []
    participants, types = [who, _gateway()], list[Code]()
    if event is codes.QUERY:
        asked = ParticipantObject("search", codes.SEARCH_CRITERIA, role="24", query=entry.get("searched") or did)
        objects = [asked, *(of_study(study)[0] for study in studies)]
    elif event in (codes.EXPORT, codes.IMPORT):
        out = event is codes.EXPORT
        participants = [Participant(who.user, True, codes.SOURCE if out else codes.DESTINATION)]
        participants.append(_gateway(codes.SOURCE if not out else codes.DESTINATION))
        medium = codes.DESTINATION_MEDIA if out else codes.SOURCE_MEDIA
        participants.append(Participant(f"file://{entry['folder']}", False, medium, media=codes.MEDIA_URI))
        objects = [ParticipantObject(f"file://{entry['folder']}", codes.URI, details=details), NO_PATIENT]
    elif event is codes.SECURITY_ALERT:
        objects, types = [], [codes.SOFTWARE_CONFIGURATION]
    else:
        objects = of_study(studies[0] if studies else "", details=details)
    text = f"schema {entry['schema']}" if entry.get("schema") else ""
    return Message(event, action, entry["at"], SUCCESS, participants, objects, types, text)


def _changed(action: str, event: Code = codes.INSTANCES_ACCESSED) -> Callable[[Entry], Message]:
    """What is here follows the PACS."""

    def make(entry: Entry) -> Message:
        return Message(
            event,
            action,
            entry["at"],
            SUCCESS,
            [_gateway(requestor=True)],
            of_study(
                entry["study"],
                count=entry.get("count", 0),
                instances=entry.get("instances", [])[:MOST_INSTANCES],
                details=[("what", entry["what"]), *_details(entry, "pacs", "attributes", "why")],
                life_cycle=LIFE_CYCLE_ERASED if action == "D" else "",
            ),
        )

    return make


_KINDS: Mapping[str, Callable[[Entry], Message | None]] = {
    "started": _started(codes.APPLICATION_START),
    "stopped": _started(codes.APPLICATION_STOP),
    "study_access": _given,
    "upload_access": _may_upload,
    "opened": _opened,
    "uploaded": _imported,
    "report_received": _imported,
    "job": _job,
    "webhook_refused": _alert(codes.NODE_AUTHENTICATION),
    "association_rejected": _alert(codes.NODE_AUTHENTICATION),
    "url_refused": _alert(codes.RESTRICTED_FUNCTION),
    "upload_refused": _alert(codes.RESTRICTED_FUNCTION),
    "access_refused": _alert(codes.RESTRICTED_FUNCTION),
    "lost": _alert(codes.RECORDING_STOPPED, SERIOUS_FAILURE),
    TORN: _alert(codes.RECORDING_STOPPED),
    "login": _login(SUCCESS),
    "login_refused": _login(MINOR_FAILURE),
    "operator": _operator,
    "instances_withdrawn": _changed("D"),
    "instances_rejected": _changed("D"),
    "instances_replaced": _changed("U"),
    "instances_shown_again": _changed("U"),
    "study_corrected": _changed("U"),
    "study_differs": _changed("U"),
    "study_dropped": _changed("D", codes.STUDY_DELETED),
}

TOLD = frozenset(_KINDS)
"""Entries that may be told by a message."""
