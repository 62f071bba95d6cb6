"""The XML of one DICOM audit message: elements and attributes in the order of the schema of PS3.15 A.5.1."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from gateway.audit.codes import PATIENT_NUMBER, STUDY_INSTANCE_UID, Code

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = 0, 4, 8
"""Event Outcome Indicators."""

APPLICATION_SERVER = "4"
"""Audit Source Type Code."""

UNKNOWN = "<none>"
"""Stands for a patient whom the trail does not name: the message has to have one."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML may hold (XML 1.0, 2.2), and strangers may send."""


@dataclass(frozen=True, slots=True)
class Participant:
    """An Active Participant."""

    user: str
    requestor: bool
    role: Code | None = None
    at: str = ""
    """Its address, or its host name."""
    alternative: str = ""
    media: Code | None = None

    def xml(self) -> str:
        """The element."""
        attributes = [("UserID", self.user)]
        if self.alternative:
            attributes.append(("AlternativeUserID", self.alternative))
        attributes.append(("UserIsRequestor", "true" if self.requestor else "false"))
        if self.at:
            attributes += [("NetworkAccessPointID", self.at), ("NetworkAccessPointTypeCode", _kind_of(self.at))]
        inside = _coded("RoleIDCode", self.role) if self.role is not None else ""
        if self.media is not None:
            inside += f"<MediaIdentifier>{_coded('MediaType', self.media)}</MediaIdentifier>"
        return _element("ActiveParticipant", attributes, inside)


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """What an event is about: a study, a document, a search."""

    id: str
    id_type: Code
    kind: str = "2"
    """Participant Object Type Code: 1 person, 2 system object."""
    role: str = "3"
    """Participant Object Type Code Role."""
    life_cycle: str = ""
    query: str = ""
    """In the place of a name, where it is a search."""
    details: Sequence[tuple[str, str]] = ()
    instances: Sequence[str] = ()
    """SOP Instance UIDs that are named."""
    count: int = 0
    """How many instances it is about; 0: it is not about single ones."""

    def xml(self) -> str:
        """The element."""
        attributes = [("ParticipantObjectID", self.id), ("ParticipantObjectTypeCode", self.kind)]
        attributes.append(("ParticipantObjectTypeCodeRole", self.role))
        if self.life_cycle:
            attributes.append(("ParticipantObjectDataLifeCycle", self.life_cycle))
        inside = _coded("ParticipantObjectIDTypeCode", self.id_type)
        if self.query:
            inside += f"<ParticipantObjectQuery>{_base64(self.query)}</ParticipantObjectQuery>"
        else:
            inside += f"<ParticipantObjectName>{escape(_clean(self.id))}</ParticipantObjectName>"
        for name, value in self.details:
            inside += _element("ParticipantObjectDetail", [("type", name), ("value", _base64(value))])
        if self.count:
            named = "".join(_element("Instance", [("UID", uid)]) for uid in self.instances)
            of_class = _element("SOPClass", [("NumberOfInstances", str(self.count))], named)
            inside += f"<ParticipantObjectDescription>{of_class}</ParticipantObjectDescription>"
        return _element("ParticipantObjectIdentification", attributes, inside)


NO_PATIENT = ParticipantObject(UNKNOWN, PATIENT_NUMBER, kind="1", role="1")


@dataclass(frozen=True, slots=True)
class Message:
    """An audit message."""

    event: Code
    action: str
    """C, R, U, D or E."""
    at: str
    """xsd:dateTime."""
    outcome: int
    participants: Sequence[Participant]
    objects: Sequence[ParticipantObject] = ()
    types: Sequence[Code] = ()
    text: str = ""
    """Why it failed, where it did."""

    def xml(self, source: str, site: str = "") -> bytes:
        """The whole message, in UTF-8. *source* is the Audit Source ID, *site* the Audit Enterprise Site ID."""
        inside = _coded("EventID", self.event) + "".join(_coded("EventTypeCode", code) for code in self.types)
        if self.text:
            inside += f"<EventOutcomeDescription>{escape(_clean(self.text))}</EventOutcomeDescription>"
        attributes = [("EventActionCode", self.action), ("EventDateTime", self.at)]
        event = _element("EventIdentification", [*attributes, ("EventOutcomeIndicator", str(self.outcome))], inside)
        named = ([("AuditEnterpriseSiteID", site)] if site else []) + [("AuditSourceID", source)]
        of_source = _element("AuditSourceTypeCode", [("csd-code", APPLICATION_SERVER)])
        parts = [
            event,
            *(participant.xml() for participant in self.participants),
            _element("AuditSourceIdentification", named, of_source),
            *(one.xml() for one in self.objects),
        ]
        return f'<?xml version="1.0" encoding="UTF-8"?><AuditMessage>{"".join(parts)}</AuditMessage>'.encode()


def of_study(
    uid: str, *, count: int = 0, **how: Sequence[str] | Sequence[tuple[str, str]] | str
) -> list[ParticipantObject]:
    """A study, and its patient, who is not named."""
    return [ParticipantObject(uid, STUDY_INSTANCE_UID, count=count, **how), NO_PATIENT]  # type: ignore[arg-type]


def _coded(name: str, code: Code) -> str:
    values = [("csd-code", code.value), ("codeSystemName", code.scheme), ("originalText", code.meaning)]
    return _element(name, values)


def _element(name: str, attributes: Sequence[tuple[str, str]], inside: str = "") -> str:
    written = "".join(f" {key}={quoteattr(_clean(value))}" for key, value in attributes)
    return f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"


def _clean(value: str) -> str:
    return _NOT_XML.sub("\ufffd", value)


def _base64(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()


def _kind_of(address: str) -> str:
    """Network Access Point Type Code: 2 an IP address, 1 a machine's name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "1"
    return "2"
