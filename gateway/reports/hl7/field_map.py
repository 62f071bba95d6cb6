"""What a receiver wants otherwise in a message: any field or component, by a template (HL7 v2.5.1 chapter 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

_FIELDS = {"MSH": 21, "PID": 39, "PV1": 52, "ORC": 30, "OBR": 49, "OBX": 19}
"""How many fields each segment has in v2.5.1."""

_OURS = {
    "MSH": {1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 18},
    "PID": {1},
    "PV1": {1},
    "ORC": set[int](),
    "OBR": {1, 25},
    "OBX": {1, 2, 5, 8, 11},
}
"""What has a setting of its own, or would make the message a lie."""

_PLACE = re.compile(r"(MSH|PID|PV1|ORC|OBR|OBX|OBX/text|OBX/pdf)-([1-9][0-9]?)(?:\.([1-9][0-9]?))?")

NAMES = (
    "accession_number", "critical_flag", "issuer_of_patient_id", "patient_birth_date", "patient_id", "patient_name",
    "patient_sex", "referring_physician", "report_id", "study_date", "study_description", "study_id",
    "study_instance_uid", "study_time", "version",
)  # fmt: skip

_Place = tuple[str, int, int | None]

_Template = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class FieldMap:
    """What a receiver wants otherwise: field or component to template.

    Keys are ``OBR-4`` (a field, whose template may hold ``^``, ``&`` and ``~``) or ``PID-3.4`` (a component); ``OBX-3``
    is for every OBX, ``OBX/text-3`` and ``OBX/pdf-3`` for those of one kind. Templates are text with names in braces,
    such as ``{accession_number}``, which are escaped as HL7 wants it. An empty template empties the field. A PV1 is
    sent once any of its fields is mapped.
    """

    templates: Mapping[_Place, _Template] = field(default_factory=dict)

    @classmethod
    def parse(cls, mapping: Mapping[str, str]) -> FieldMap:
        """Raises ValueError, whose text tells of every mistake."""
        templates, mistakes = {}, []
        for key, text in mapping.items():
            try:
                place = _place(key)
                templates[place] = _template(text, component=place[2] is not None)
            except ValueError as e:
                mistakes.append(f"{key}: {e}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return cls(templates)

    def apply(self, segment: str, kind: str, fields: dict[int, str], values: Mapping[str, str]) -> None:
        """Changes *fields* of a *segment*; *kind* is text or pdf where that is an OBX."""
        ours = (segment, f"{segment}/{kind}")
        # Whole fields before components, and what is for every OBX before what is for one kind.
        for (named, number, component), template in sorted(
            self.templates.items(), key=lambda item: (item[0][2] is not None, len(item[0][0]))
        ):
            if named not in ours:
                continue
            value = "".join(text + (values[name] if name else "") for text, name in template)
            if component is None:
                fields[number] = value
            else:
                repetitions = fields.get(number, "").split("~")
                fields[number] = "~".join(_with_component(r, component, value) for r in repetitions)

    def has(self, segment: str) -> bool:
        """Whether any field of *segment* is mapped."""
        return any(named == segment for named, _, _ in self.templates)


def _place(key: str) -> _Place:
    match = _PLACE.fullmatch(key)
    if match is None:
        raise ValueError("no field: write OBR-4 or PID-3.4, of MSH, PID, PV1, ORC, OBR, OBX, OBX/text or OBX/pdf")
    segment, number, component = match[1], int(match[2]), match[3]
    bare = segment.split("/")[0]
    if number > _FIELDS[bare]:
        raise ValueError(f"{bare} has {_FIELDS[bare]} fields in v2.5.1")
    if number in _OURS[bare]:
        raise ValueError("this field is the gateway's own; the other settings of reports.hl7 are what changes it")
    return segment, number, None if component is None else int(component)


def _template(text: str, *, component: bool) -> _Template:
    parts = []
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:
        raise ValueError("its braces do not match: write {accession_number}, and {{ for a brace itself") from None
    for literal, name, spec, conversion in parsed:
        check_literal(literal, "|\\^~" if component else "|\\", "it")
        if name is not None and (name not in NAMES or spec or conversion):
            raise ValueError(f"{{{name}}} is none of {', '.join(NAMES)}")
        parts.append((literal, name))
    return tuple(parts)


def check_literal(text: str, forbidden: str, name: str) -> None:
    """Raises ValueError where a text of a setting has what a message cannot have there; *name* is for its text."""
    if not text.isprintable() or any(c in forbidden for c in text):
        raise ValueError(f"{name} holds a control character, or one of {' '.join(forbidden)}")


def _with_component(repetition: str, number: int, value: str) -> str:
    parts = repetition.split("^")
    parts += [""] * (number - len(parts))
    parts[number - 1] = value
    return "^".join(parts).rstrip("^")
