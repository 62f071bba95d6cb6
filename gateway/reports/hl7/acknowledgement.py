"""What a receiver answered: an acknowledgement (HL7 v2.5.1 chapter 2.9.3, MSA and ERR), as receivers write it.

The field is read more kindly than the standard has it: without MSH, in lower case, with any line ends, with MSA-2 left
out, empty, cut to fewer characters, or in another case. None of this leaves open whether the report was taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.reports.errors import ReportError

TAKEN = ("AA", "CA")
REFUSED = ("AE", "AR", "CE", "CR")
"""Table 0008."""

_ERRORS = {
    "100": "segment sequence error", "101": "required field missing", "102": "data type error",
    "103": "table value not found", "200": "unsupported message type", "201": "unsupported event code",
    "202": "unsupported processing id", "203": "unsupported version id", "204": "unknown key identifier",
    "205": "duplicate key identifier", "206": "application record locked", "207": "application internal error",
}  # fmt: skip
"""Table 0357. The words are ours, since a receiver's may quote the patient."""


class Refused(ReportError):
    """The receiver will not have the message. ``said`` is its own text, which may name the patient: not for a log."""

    def __init__(self, text: str, *, code: str, said: str) -> None:
        super().__init__(text)
        self.code = code
        self.said = said


class Unclear(ReportError):
    """The receiver answered, and whether it has the report is not to be told from that: an operator has to look."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The receiver has taken the message (MSA-1 AA or CA)."""

    code: str
    oddity: str = ""
    """In what the answer differs from the standard, for the record."""


def judged(block: bytes, identity: str, peer: str) -> Acknowledged | None:
    """What *block* says of the message whose MSH-10 is *identity*; None where it is of another message. Raises Refused,
    Unclear."""
    segments = _segments(block)
    msa = segments.get("MSA")
    if msa is None:
        raise Unclear(f"{peer} answers something that is no acknowledgement: is this its HL7 port?")
    code, answered = _field(msa, 1).strip(), _field(msa, 2).partition("^")[0].strip()
    if not identity.casefold().startswith(answered.casefold()):
        return None
    if code.upper() in TAKEN:
        return Acknowledged(code.upper(), _oddity(code, answered, identity, with_msh="MSH" in segments))
    if code.upper() not in REFUSED:
        raise Unclear(f"{peer} answers with a code that is none (MSA-1): has it the report? Look at it")
    raise _refusal(segments, code.upper(), peer)


def _segments(block: bytes) -> dict[str, list[str]]:
    """The fields of the first segment of each name; a segment's fourth character is its separator."""
    found: dict[str, list[str]] = {}
    for line in re.split(r"[\r\n]+", block.decode("utf-8", "replace").lstrip("\ufeff")):
        name, separator = line[:3].strip().upper(), line[3:4]
        if re.fullmatch(r"[A-Z][A-Z0-9]{2}", name) and not separator.isalnum():
            found.setdefault(name, line.split(separator) if separator else [name])
    return found


def _field(segment: list[str], number: int) -> str:
    return segment[number] if number < len(segment) else ""


def _oddity(code: str, answered: str, identity: str, *, with_msh: bool) -> str:
    odd = []
    if not with_msh:
        odd.append("has no MSH")
    if code != code.upper():
        odd.append("has MSA-1 in lower case")
    if answered != identity:
        odd.append("does not repeat MSH-10 in MSA-2" + ("" if answered else ", which is empty"))
    return " and ".join(odd)


def _refusal(segments: dict[str, list[str]], code: str, peer: str) -> Refused:
    err = segments.get("ERR", [])
    # ERR-2 and ERR-3 since v2.5, ERR-1 for both before it: segment, its number, field, code.
    place, error, former = (_field(err, number) for number in (2, 3, 1))
    why = ""
    if number := re.match(r"(\d{3})(?:\^|$)", error) or re.match(r"\w*\^\d*\^\d*\^(\d{3})(?:&|$)", former):
        why += f", error {number[1]}: {_ERRORS.get(number[1], 'not of table 0357')}"
    if at := re.match(r"([A-Z][A-Z0-9]{2})\^\d*\^(\d{1,2})(?!\d)", place or former):
        why += f", at {at[1]}-{at[2]}"
    told = [_field(segments["MSA"], 3), former, place, error, *(_field(err, number) for number in (5, 7, 8))]
    return Refused(
        f"{peer} refuses the report ({code}{why}): see there what it lacks, correct reports.hl7, then retry",
        code=code,
        said=" ".join(text for text in told if text)[:2000],
    )
